"""zx_vcpu_*: running guests."""

from __future__ import annotations

from typing import Literal, overload

from kvmbind.abi.constants import (
    ZX_HANDLE_INVALID,
    ZX_RIGHT_EXECUTE,
    ZX_RIGHT_MANAGE_PROCESS,
    ZX_RIGHT_READ,
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WRITE,
    ZX_VCPU_IO,
    ZX_VCPU_STATE,
)
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.abi.structs import PortPacket, VcpuIo, VcpuState
from kvmbind.zircon import handles
from kvmbind.zircon.guest import GuestDispatcher
from kvmbind.zircon.vcpu import VcpuDispatcher
from kvmbind.zx._values import refused, unsigned

_OK = Status.OK  # an attribute of an enum costs a look-up more than a global: this is a hot path


def zx_vcpu_create(guest: int, options: int, entry: int) -> tuple[Status, int]:
    """Makes a VCPU that belongs to the calling thread and starts in real mode.

    Args:
        guest: Needs ZX_RIGHT_MANAGE_PROCESS.
        options: 0.
        entry: Guest-physical address of the first instruction, below 1 MiB: CS = entry >> 4, IP = entry & 15.

    Returns:
        The status and the VCPU. INVALID_ARGS for options; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; NO_RESOURCES when the
        guest has had as many as KVM allows; INVALID_ARGS for entry.
    """
    if options != 0:
        return refused(options), ZX_HANDLE_INVALID
    try:
        owner = handles.find(guest, GuestDispatcher, ZX_RIGHT_MANAGE_PROCESS)
        if not unsigned(64, entry):
            return Status.INVALID_ARGS, ZX_HANDLE_INVALID
        vcpu = VcpuDispatcher(owner, entry)
    except ZxError as error:
        return error.status, ZX_HANDLE_INVALID
    return Status.OK, handles.add(vcpu, vcpu.DEFAULT_RIGHTS)


def zx_vcpu_enter(vcpu: int) -> tuple[Status, PortPacket]:
    """Runs the guest until it makes a packet.

    Args:
        vcpu: Needs ZX_RIGHT_EXECUTE; created by the calling thread.

    Returns:
        The status and the packet, all zero on failure. BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; BAD_STATE on another
        thread, or if the processor refused the guest's state; CANCELED if it was kicked; NOT_FOUND for an access to
        what is neither memory nor trapped (entering again goes on behind it); NOT_SUPPORTED if KVM cannot run the guest
        on.
    """
    try:
        return _OK, handles.find(vcpu, VcpuDispatcher, ZX_RIGHT_EXECUTE).enter()
    except ZxError as error:
        return error.status, PortPacket()


#: The older name of zx_vcpu_enter.
zx_vcpu_resume = zx_vcpu_enter


def zx_vcpu_kick(vcpu: int) -> Status:
    """Makes the zx_vcpu_enter that runs now, or the next one, return CANCELED, once. From any thread.

    Args:
        vcpu: Needs ZX_RIGHT_EXECUTE.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED.
    """
    try:
        handles.find(vcpu, VcpuDispatcher, ZX_RIGHT_EXECUTE).kick()
    except ZxError as error:
        return error.status
    return Status.OK


def zx_vcpu_interrupt(vcpu: int, vector: int) -> Status:
    """Raises a vector in the VCPU's local APIC. From any thread.

    Args:
        vcpu: Needs ZX_RIGHT_SIGNAL.
        vector: 16 to 255, or 2 for a non-maskable interrupt.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; OUT_OF_RANGE for another vector.
    """
    try:
        handles.find(vcpu, VcpuDispatcher, ZX_RIGHT_SIGNAL).interrupt(vector)
    except ZxError as error:
        return error.status
    return Status.OK


def zx_vcpu_read_state(vcpu: int, kind: int) -> tuple[Status, VcpuState]:
    """Reads the general registers.

    Args:
        vcpu: Needs ZX_RIGHT_READ; created by the calling thread.
        kind: ZX_VCPU_STATE.

    Returns:
        The status and the state, all zero on failure; RFLAGS has the user's flags only. While a read waits for its
        answer these are the registers before the instruction. BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; INVALID_ARGS for
        kind; BAD_STATE on another thread.
    """
    try:
        target = handles.find(vcpu, VcpuDispatcher, ZX_RIGHT_READ)
        if kind != ZX_VCPU_STATE:
            return refused(kind), VcpuState()
        return Status.OK, target.read_state()
    except ZxError as error:
        return error.status, VcpuState()


@overload
def zx_vcpu_write_state(vcpu: int, kind: Literal[0], state: VcpuState) -> Status: ...
@overload
def zx_vcpu_write_state(vcpu: int, kind: Literal[1], state: VcpuIo) -> Status: ...
@overload
def zx_vcpu_write_state(vcpu: int, kind: int, state: VcpuState | VcpuIo) -> Status: ...
def zx_vcpu_write_state(vcpu: int, kind: int, state: VcpuState | VcpuIo) -> Status:
    """Writes the general registers, or answers the read that zx_vcpu_enter returned.

    Args:
        vcpu: Needs ZX_RIGHT_WRITE; created by the calling thread.
        kind: ZX_VCPU_STATE with a VcpuState: RFLAGS' user flags are set only if its bit 1 is. ZX_VCPU_IO with a VcpuIo:
            as many bytes as the read has are used; with no read open they go into the low bytes of RAX.
        state: What kind says; another is a TypeError.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; INVALID_ARGS for kind or an access_size that is not 1, 2 or 4;
        BAD_STATE on another thread, and for ZX_VCPU_STATE while a read waits for its answer.
    """
    try:
        target = handles.find(vcpu, VcpuDispatcher, ZX_RIGHT_WRITE)
        if kind not in (ZX_VCPU_STATE, ZX_VCPU_IO):
            return refused(kind)
        if kind == ZX_VCPU_STATE and isinstance(state, VcpuState):
            target.write_state(state)
        elif kind == ZX_VCPU_IO and isinstance(state, VcpuIo):
            target.write_io(state)
        else:
            raise TypeError(f"kind {kind} does not take a {type(state).__name__}")
    except ZxError as error:
        return error.status
    return Status.OK
