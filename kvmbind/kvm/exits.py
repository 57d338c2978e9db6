"""What KVM_RUN says when it returns with something else than an access."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

_INTERNAL = struct.Struct("<II16Q")  # suberror, ndata, data
_EMULATION = struct.Struct("<IIQB15s")  # suberror, ndata, flags, insn_size, insn_bytes
_EMULATION_SUBERROR = 1
_EMULATION_HAS_INSTRUCTION = 1
_EMULATION_WORDS = 3  # flags and 16 bytes of the instruction
_FAIL_ENTRY = struct.Struct("<QI")  # hardware_entry_failure_reason, cpu
_SYSTEM_EVENT = struct.Struct("<I")
_DEBUG = struct.Struct("<IIQQQ")  # exception, pad, pc, dr6, dr7
_MEMORY_FAULT = struct.Struct("<QQQ")  # flags, gpa, size


class ExitReason(IntEnum):
    """KVM_EXIT_* of x86."""

    UNKNOWN = 0
    EXCEPTION = 1
    IO = 2
    HYPERCALL = 3
    DEBUG = 4
    HLT = 5
    MMIO = 6
    IRQ_WINDOW_OPEN = 7
    SHUTDOWN = 8
    FAIL_ENTRY = 9
    INTR = 10
    SET_TPR = 11
    TPR_ACCESS = 12
    NMI = 16
    INTERNAL_ERROR = 17
    WATCHDOG = 21
    SYSTEM_EVENT = 24
    IOAPIC_EOI = 26
    HYPERV = 27
    X86_RDMSR = 29
    X86_WRMSR = 30
    DIRTY_RING_FULL = 31
    AP_RESET_HOLD = 32
    X86_BUS_LOCK = 33
    XEN = 34
    NOTIFY = 37
    MEMORY_FAULT = 39

    def __str__(self) -> str:
        """The kernel's name of it."""
        return f"KVM_EXIT_{self.name}"


class Exit(NamedTuple):
    """An exit that is no access by the guest; what its reason does not have is 0 or empty.

    Attributes:
        reason: Why KVM_RUN returned; a plain number if this kvmbind does not know it.
        suberror: INTERNAL_ERROR: KVM_INTERNAL_ERROR_*, 1 where KVM cannot emulate an instruction. FAIL_ENTRY: what the
            processor answered. SYSTEM_EVENT: its type.
        instruction: INTERNAL_ERROR: the bytes from the instruction on, up to 15, where KVM gives them.
        data: INTERNAL_ERROR: the words that KVM gives.
        exception: DEBUG: the vector, 1 for #DB.
        pc: DEBUG: the linear address, CS's base and RIP.
        dr6: DEBUG: which breakpoint it was (bits 0 to 3), or a single step (bit 14).
        dr7: DEBUG: the breakpoints that are set.
        addr: MEMORY_FAULT: the guest-physical address.
    """

    reason: ExitReason | int
    suberror: int = 0
    instruction: bytes = b""
    data: tuple[int, ...] = ()
    exception: int = 0
    pc: int = 0
    dr6: int = 0
    dr7: int = 0
    addr: int = 0

    def __str__(self) -> str:
        """Says it in words: "KVM_EXIT_INTERNAL_ERROR, suberror 0x1, at instruction 0f 0b"."""
        parts = [str(self.reason) if isinstance(self.reason, ExitReason) else f"exit reason {self.reason}"]
        if self.reason == ExitReason.DEBUG:
            parts.append(f"dr6 {self.dr6:#x}, at linear address {self.pc:#x}")
        if self.reason == ExitReason.MEMORY_FAULT:
            parts.append(f"at guest-physical address {self.addr:#x}")
        if self.suberror:
            parts.append(f"suberror {self.suberror:#x}")
        if self.instruction:
            parts.append(f"at instruction {self.instruction.hex(' ')}")
        return ", ".join(parts)


def decode(number: int, facts: bytes) -> Exit:
    """Makes an Exit of an exit_reason and the beginning of struct kvm_run's union."""
    try:
        reason = ExitReason(number)
    except ValueError:
        return Exit(number)
    if reason is ExitReason.INTERNAL_ERROR:
        return _internal_error(facts)
    if reason is ExitReason.FAIL_ENTRY:
        return Exit(reason, suberror=_FAIL_ENTRY.unpack_from(facts)[0])
    if reason is ExitReason.SYSTEM_EVENT:
        return Exit(reason, suberror=_SYSTEM_EVENT.unpack_from(facts)[0])
    if reason is ExitReason.DEBUG:
        exception, _, pc, dr6, dr7 = _DEBUG.unpack_from(facts)
        return Exit(reason, exception=exception, pc=pc, dr6=dr6, dr7=dr7)
    if reason is ExitReason.MEMORY_FAULT:
        return Exit(reason, addr=_MEMORY_FAULT.unpack_from(facts)[1])
    return Exit(reason)


def _internal_error(facts: bytes) -> Exit:
    suberror, count, *data = _INTERNAL.unpack_from(facts)
    instruction = b""
    if suberror == _EMULATION_SUBERROR and count >= _EMULATION_WORDS:
        _, _, flags, size, instruction_bytes = _EMULATION.unpack_from(facts)
        if flags & _EMULATION_HAS_INSTRUCTION:
            instruction = instruction_bytes[:size]
    return Exit(ExitReason.INTERNAL_ERROR, suberror, instruction, tuple(data[:count]))
