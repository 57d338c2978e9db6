"""zx_guest_*: making guests and trapping what they access."""

from __future__ import annotations

from kvmbind.abi.constants import ZX_HANDLE_INVALID, ZX_RIGHT_WRITE
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.zircon import handles
from kvmbind.zircon.guest import GuestDispatcher
from kvmbind.zircon.port import PortDispatcher
from kvmbind.zircon.resource import ResourceDispatcher
from kvmbind.zx._values import refused, unsigned


def zx_guest_create(resource: int, options: int) -> tuple[Status, int, int]:
    """Makes a guest with local APICs only, and no memory.

    Args:
        resource: A resource of kind HYPERVISOR or ROOT.
        options: 0.

    Returns:
        The status, the guest and the VMAR of its physical memory. INVALID_ARGS for options; BAD_HANDLE; WRONG_TYPE if
        it is no resource of these kinds; NO_RESOURCES, NO_MEMORY, NOT_SUPPORTED as KVM answers.
    """
    if options != 0:
        return refused(options), ZX_HANDLE_INVALID, ZX_HANDLE_INVALID
    try:
        guest = GuestDispatcher(handles.find(resource, ResourceDispatcher))
        vmar = guest.make_vmar()
    except ZxError as error:
        return error.status, ZX_HANDLE_INVALID, ZX_HANDLE_INVALID
    return Status.OK, handles.add(guest, guest.DEFAULT_RIGHTS), handles.add(vmar, vmar.DEFAULT_RIGHTS)


def zx_guest_set_trap(guest: int, kind: int, addr: int, size: int, port: int, key: int) -> Status:
    """Makes accesses of the guest to a range come to the host, as packets with `key`. There is no way back.

    Args:
        guest: Needs ZX_RIGHT_WRITE.
        kind: ZX_GUEST_TRAP_IO or ZX_GUEST_TRAP_MEM: accesses come out of zx_vcpu_enter. ZX_GUEST_TRAP_BELL: stores
            come to a port, and the VCPU runs on. A load from a bell is NOT_SUPPORTED from zx_vcpu_enter, and so is
            BAD_STATE a store once the port is closed.
        addr: The first port, 0 to FFFEh; or a guest-physical address, a multiple of 4096. Stores to a bell's first
            address make no exit.
        size: How many ports, the last is at most FFFEh; or bytes, a multiple of 4096. Memory that is mapped there is
            taken out.
        port: For a bell, needs ZX_RIGHT_WRITE; otherwise 0 (ZX_HANDLE_INVALID).
        key: 64 bits, given back in each packet.

    Returns:
        OK. In this order: BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED, for the guest and then for the port; INVALID_ARGS for
        size 0; OUT_OF_RANGE if addr + size does not fit into 64 bits; INVALID_ARGS for an unknown kind, a bell without
        a port or another with one; OUT_OF_RANGE for an I/O port above FFFEh; INVALID_ARGS for what is not aligned or
        outside the guest's address space; ALREADY_EXISTS if another trap overlaps (memory and bells share their
        addresses); NO_RESOURCES without fds or memory slots. Nothing has changed then.
    """
    try:
        target = handles.find(guest, GuestDispatcher, ZX_RIGHT_WRITE)
        queue = handles.find(port, PortDispatcher, ZX_RIGHT_WRITE) if port != ZX_HANDLE_INVALID else None
        if not unsigned(64, addr, size, key) or not unsigned(32, kind):
            return Status.INVALID_ARGS
        target.set_trap(kind, addr, size, queue, key)
    except ZxError as error:
        return error.status
    return Status.OK
