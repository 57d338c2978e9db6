"""A vCPU fd: entering it, answering it, kicking it, its registers."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvmbind._shim import ffi, lib
from kvmbind.kvm import descriptors, signals, stats
from kvmbind.kvm.calls import check

if TYPE_CHECKING:
    from kvmbind import _shim
    from kvmbind.kvm.stats import VcpuStats
    from kvmbind.kvm.system import System
    from kvmbind.kvm.vm import Vm

#: Places in the list of registers: rax rcx rdx rbx rsp rbp rsi rdi r8 .. r15, then these.
RFLAGS = 16
RIP = 17
EXIT_REASONS = {
    0: "KVM_EXIT_UNKNOWN", 2: "KVM_EXIT_IO", 4: "KVM_EXIT_DEBUG", 5: "KVM_EXIT_HLT", 6: "KVM_EXIT_MMIO",
    8: "KVM_EXIT_SHUTDOWN", 9: "KVM_EXIT_FAIL_ENTRY", 10: "KVM_EXIT_INTR", 16: "KVM_EXIT_NMI",
    17: "KVM_EXIT_INTERNAL_ERROR", 24: "KVM_EXIT_SYSTEM_EVENT", 39: "KVM_EXIT_MEMORY_FAULT",
}  # fmt: skip
EXIT_FAIL_ENTRY = 9


class CodePosition(NamedTuple):
    """Where a vCPU executes."""

    cs: int
    cs_base: int
    ip: int


def _close(_vm: _shim.Vm, struct: _shim.Vcpu) -> None:
    # The vCPU's struct points to its VM's, which therefore stays until now.
    lib.kb_vcpu_close(struct)


class Vcpu:
    """A vCPU in x2APIC mode, ready to run.

    Threads: enter, answer and the registers belong to the thread that made it (EPERM on another). Everything else may
    be used by any thread. `close` stops an enter and waits until its thread has left; read_stats is not guarded.
    """

    __slots__ = ("exit", "packet", "struct")

    def __init__(self, vm: Vm, system: System, apic_id: int) -> None:
        """Makes the vCPU with this APIC id.

        Raises:
            OSError: EEXIST: the VM has had one with this id; EBUSY: another library handles the kick signal; or what
                the kernel answered.
        """
        signals.install()
        struct = ffi.new("struct kb_vcpu *")
        self.struct = ffi.gc(struct, partial(_close, vm.struct))
        self.exit = ffi.new("struct kb_exit *")
        self.packet = ffi.buffer(self.exit.packet)
        with descriptors.lock:
            check(lib.kb_vcpu_open(struct, vm.struct, system.fd, apic_id, system.run_size), "KVM_CREATE_VCPU")
            descriptors.adopt(ffi.addressof(struct, "fd"), struct)
            descriptors.adopt(ffi.addressof(struct, "stats_fd"), struct)

    def start_real(self, entry: int) -> None:
        """Sets real mode with CS = entry >> 4 and IP = entry & 15, all else zero; entry < 1 MiB."""
        check(lib.kb_vcpu_start_real(self.struct, entry), "KVM_SET_SREGS")

    def start_long(self, entry: int) -> None:
        """Sets 64-bit mode with RIP = entry and CR3 = 0."""
        check(lib.kb_vcpu_start_long(self.struct, entry), "KVM_SET_SREGS")

    def registers(self) -> list[int]:
        """Returns the 18 registers, after the kernel has finished an instruction that was answered."""
        registers = ffi.new("uint64_t[]", 18)
        check(lib.kb_vcpu_get_registers(self.struct, registers), "KVM_GET_REGS")
        return [registers[i] for i in range(18)]

    def set_registers(self, values: list[int]) -> None:
        """Sets the first 17 registers. EBUSY: an access waits for its answer."""
        registers = ffi.new("uint64_t[]", 17)
        for i in range(17):
            registers[i] = values[i]
        check(lib.kb_vcpu_set_registers(self.struct, registers), "KVM_SET_REGS")

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
