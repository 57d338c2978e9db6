"""A vCPU fd: entering it, answering it, kicking it, its state."""

from __future__ import annotations

import errno
import os
import struct
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvmbind._shim import ffi, lib
from kvmbind.kvm import descriptors, exits, registers, signals, stats
from kvmbind.kvm.calls import check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmbind import _shim
    from kvmbind.kvm.exits import Exit
    from kvmbind.kvm.registers import Breakpoint, DebugRegisters, MpState, Registers, SpecialRegisters, VcpuEvents
    from kvmbind.kvm.stats import VcpuStats
    from kvmbind.kvm.system import System
    from kvmbind.kvm.vm import Vm

# struct kvm_msrs with one entry: nmsrs, pad, index, reserved, data
_MSR = struct.Struct("<IIIIQ")
_MP_STATE = struct.Struct("<I")

# ioctls of <linux/kvm.h>
_GET_REGS, _SET_REGS = 0x8090AE81, 0x4090AE82
_GET_SREGS, _SET_SREGS = 0x8138AE83, 0x4138AE84
_GET_MSRS, _SET_MSRS = 0xC008AE88, 0x4008AE89
_GET_LAPIC, _SET_LAPIC = 0x8400AE8E, 0x4400AE8F
_GET_MP_STATE, _SET_MP_STATE = 0x8004AE98, 0x4004AE99
_SET_GUEST_DEBUG = 0x4048AE9B
_GET_VCPU_EVENTS, _SET_VCPU_EVENTS = 0x8040AE9F, 0x4040AEA0
_GET_DEBUGREGS, _SET_DEBUGREGS = 0x8080AEA1, 0x4080AEA2


class CodePosition(NamedTuple):
    """Where a vCPU executes."""

    cs: int
    cs_base: int
    ip: int


def _close(_vm: _shim.Vm, struct: _shim.Vcpu) -> None:
    # The vCPU's struct points to its VM's, which therefore stays until now.
    lib.kb_vcpu_close(struct)


class Vcpu:
    """A vCPU, ready to run.

    Threads: enter, answer and the registers belong to the thread that made it (EPERM on another). Everything else may
    be used by any thread. `close` stops an enter and waits until its thread has left; read_stats is not guarded.
    """

    __slots__ = ("exit", "packet", "struct")

    def __init__(self, vm: Vm, system: System, apic_id: int, *, x2apic: bool = True) -> None:
        """Makes the vCPU with this APIC id, its local APIC switched on, in x2APIC or in xAPIC mode.

        Raises:
            OSError: EEXIST: the VM has had one with this id; EBUSY: another library handles the kick signal; or what
                the kernel answered.
        """
        signals.install()
        struct = ffi.new("struct kb_vcpu *")
        self.struct = ffi.gc(struct, partial(_close, vm.struct))
        self.exit = ffi.new("struct kb_exit *")
        self.packet = ffi.buffer(ffi.addressof(self.exit, "packet"))
        with descriptors.lock:
            result = lib.kb_vcpu_open(struct, vm.struct, system.cpuid, apic_id, x2apic, system.run_size)
            check(result, "KVM_CREATE_VCPU")
            descriptors.adopt(ffi.addressof(struct, "fd"), struct)
            descriptors.adopt(ffi.addressof(struct, "stats_fd"), struct)

    def start_real(self, entry: int) -> None:
        """Sets real mode with CS = entry >> 4 and IP = entry & 15, all else zero; entry < 1 MiB."""
        check(lib.kb_vcpu_start_real(self.struct, entry), "KVM_SET_SREGS")

    def start_long(self, entry: int) -> None:
        """Sets 64-bit mode with RIP = entry and CR3 = 0."""
        check(lib.kb_vcpu_start_long(self.struct, entry), "KVM_SET_SREGS")

    def start_waiting(self) -> None:
        """Makes it wait for INIT and SIPI from another vCPU. The one with APIC id 0 would start at INIT alone."""
        self.write_mp_state(registers.MpState.UNINITIALIZED)

    # Reads and writes of its state: the kernel first finishes an instruction that was answered. A read while an access
    # waits for its answer gives the state before the instruction; a write is EBUSY then, and struct.error for a value
    # that its field does not hold.

    def read_registers(self) -> Registers:
        """KVM_GET_REGS."""
        return registers.Registers.unpack(self._get("KVM_GET_REGS", _GET_REGS, registers.REGISTERS_SIZE))

    def write_registers(self, values: Registers) -> None:
        """KVM_SET_REGS."""
        self._set("KVM_SET_REGS", _SET_REGS, values.pack())

    def read_special(self) -> SpecialRegisters:
        """KVM_GET_SREGS."""
        return registers.SpecialRegisters.unpack(self._get("KVM_GET_SREGS", _GET_SREGS, registers.SPECIAL_SIZE))

    def write_special(self, values: SpecialRegisters) -> None:
        """KVM_SET_SREGS. EINVAL: no processor has such a state."""
        self._set("KVM_SET_SREGS", _SET_SREGS, values.pack())

    def keep_exit_registers(self) -> None:
        """Makes each exit that is an access keep its registers. EOPNOTSUPP: KVM_CAP_SYNC_REGS lacks."""
        check(lib.kb_vcpu_keep_state(self.struct), "KVM_CAP_SYNC_REGS")

    def read_exit_registers(self) -> tuple[Registers, SpecialRegisters] | None:
        """Those of the last exit that was an access. None: there was none since `keep_exit_registers`."""
        general, special = bytearray(registers.REGISTERS_SIZE), bytearray(registers.SPECIAL_SIZE)
        for request, data in ((_GET_REGS, general), (_GET_SREGS, special)):
            result = lib.kb_vcpu_kept_state(self.struct, request, ffi.from_buffer(data))
            if result == -errno.ENODATA:
                return None
            check(result, "the registers of an exit")
        return registers.Registers.unpack(general), registers.SpecialRegisters.unpack(special)

    def read_msr(self, index: int) -> int:
        """KVM_GET_MSRS. ENXIO: KVM has no such MSR."""
        call = "KVM_GET_MSRS"
        data = bytearray(_MSR.pack(1, 0, index, 0, 0))
        if not check(lib.kb_vcpu_get_state(self.struct, _GET_MSRS, ffi.from_buffer(data)), call):
            raise OSError(errno.ENXIO, f"{call}: KVM has no MSR {index:#x}")
        value: int = _MSR.unpack(data)[4]
        return value

    def write_msr(self, index: int, value: int) -> None:
        """KVM_SET_MSRS. EINVAL: KVM has no such MSR, or it refuses the value."""
        call = "KVM_SET_MSRS"
        if not self._set(call, _SET_MSRS, _MSR.pack(1, 0, index, 0, value)):
            raise OSError(errno.EINVAL, f"{call}: KVM has no MSR {index:#x}, or it refuses {value:#x}")

    def read_lapic(self) -> bytes:
        """KVM_GET_LAPIC: 1024 bytes, each register at its xAPIC offset."""
        return bytes(self._get("KVM_GET_LAPIC", _GET_LAPIC, registers.LAPIC_SIZE))

    def write_lapic(self, page: bytes) -> None:
        """KVM_SET_LAPIC. EINVAL: its id is not this vCPU's; ValueError: not 1024 bytes."""
        if len(page) != registers.LAPIC_SIZE:
            raise ValueError(f"{len(page)} bytes are no page of a local APIC: it has {registers.LAPIC_SIZE}")
        self._set("KVM_SET_LAPIC", _SET_LAPIC, page)

    def read_mp_state(self) -> MpState:
        """KVM_GET_MP_STATE."""
        return registers.MpState(_MP_STATE.unpack(self._get("KVM_GET_MP_STATE", _GET_MP_STATE, _MP_STATE.size))[0])

    def write_mp_state(self, state: MpState) -> None:
        """KVM_SET_MP_STATE."""
        self._set("KVM_SET_MP_STATE", _SET_MP_STATE, _MP_STATE.pack(state))

    def read_events(self) -> VcpuEvents:
        """KVM_GET_VCPU_EVENTS."""
        return registers.VcpuEvents.unpack(self._get("KVM_GET_VCPU_EVENTS", _GET_VCPU_EVENTS, registers.EVENTS_SIZE))

    def write_events(self, events: VcpuEvents) -> None:
        """KVM_SET_VCPU_EVENTS."""
        self._set("KVM_SET_VCPU_EVENTS", _SET_VCPU_EVENTS, events.pack())

    def read_debug_registers(self) -> DebugRegisters:
        """KVM_GET_DEBUGREGS."""
        size = registers.DEBUG_REGISTERS_SIZE
        return registers.DebugRegisters.unpack(self._get("KVM_GET_DEBUGREGS", _GET_DEBUGREGS, size))

    def write_debug_registers(self, values: DebugRegisters) -> None:
        """KVM_SET_DEBUGREGS."""
        self._set("KVM_SET_DEBUGREGS", _SET_DEBUGREGS, values.pack())

    def set_guest_debug(
        self, breakpoints: Sequence[Breakpoint] = (), *, single_step: bool = False, block_interrupts: bool = False
    ) -> None:
        """KVM_SET_GUEST_DEBUG; ValueError as of `registers.pack_guest_debug`."""
        debug = registers.pack_guest_debug(breakpoints, single_step=single_step, block_interrupts=block_interrupts)
        self._set("KVM_SET_GUEST_DEBUG", _SET_GUEST_DEBUG, debug)

    def _get(self, call: str, request: int, size: int) -> bytearray:
        data = bytearray(size)
        check(lib.kb_vcpu_get_state(self.struct, request, ffi.from_buffer(data)), call)
        return data

    def _set(self, call: str, request: int, data: bytes) -> int:
        return check(lib.kb_vcpu_set_state(self.struct, request, ffi.from_buffer(data)), call)

    @property
    def last_exit(self) -> Exit:
        """What enter stopped for, if it was no access."""
        return exits.decode(self.exit.reason, bytes(ffi.buffer(self.exit.facts)))

    def answer(self, size: int, data: int) -> None:
        """Answers the read reported last, or writes the low bytes of RAX. EBUSY: elements are still to be reported."""
        check(lib.kb_vcpu_answer(self.struct, size, data), "KVM_SET_REGS")

    def code_position(self) -> CodePosition:
        """Returns CS, its base and IP as KVM has them now, for a message."""
        cs, base, ip = ffi.new("uint16_t[1]"), ffi.new("uint64_t[]", 1), ffi.new("uint64_t[]", 1)
        check(lib.kb_vcpu_code_position(self.struct, cs, base, ip), "KVM_GET_REGS")
        return CodePosition(cs[0], base[0], ip[0])

    def kick(self) -> None:
        """Makes the current or the next enter return ECANCELED, once. EBADF: it is closed."""
        check(lib.kb_vcpu_kick(self.struct), "kicking")

    @property
    def kicked(self) -> bool:
        """Whether a kick waits for an enter."""
        return bool(lib.kb_vcpu_is_kicked(self.struct))

    @property
    def returns(self) -> int:
        """How often KVM_RUN has come back with an exit."""
        return self.struct.returns

    @property
    def interrupted(self) -> int:
        """How often KVM_RUN has come back with EINTR: kicks, pauses, signals."""
        return self.struct.interrupted

    def read_stats(self) -> VcpuStats:
        """Reads what KVM counted. EOPNOTSUPP before Linux 5.14."""
        if self.struct.stats_fd < 0:
            raise OSError(errno.EOPNOTSUPP, f"KVM_GET_STATS_FD: {os.strerror(errno.EOPNOTSUPP)}")
        return stats.read(self.struct.stats_fd)

    def close(self) -> None:
        """Stops an enter, unmaps the run page, closes the stats fd and the vCPU fd."""
        with descriptors.lock:
            descriptors.disown(ffi.addressof(self.struct, "fd"))
            descriptors.disown(ffi.addressof(self.struct, "stats_fd"))
            lib.kb_vcpu_close(self.struct)
