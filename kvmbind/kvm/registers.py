"""What KVM knows of a vCPU, under the kernel's names; each class packs and unpacks the kernel's structure."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_REGISTERS = struct.Struct("<18Q")
_SEGMENT = struct.Struct("<QIH9Bx")
_TABLE = struct.Struct("<QH6x")
_SPECIAL = struct.Struct("<192s32s7Q32s")
_EVENTS = struct.Struct("<4BI4B3BxII5B26xBQ")
_DEBUG_REGISTERS = struct.Struct("<6Q80x")
_GUEST_DEBUG = struct.Struct("<II8Q")

#: Each structure's size in bytes, and that of struct kvm_lapic_state.
REGISTERS_SIZE = _REGISTERS.size
SPECIAL_SIZE = _SPECIAL.size
EVENTS_SIZE = _EVENTS.size
DEBUG_REGISTERS_SIZE = _DEBUG_REGISTERS.size
LAPIC_SIZE = 1024

_GUESTDBG_ENABLE, _GUESTDBG_SINGLESTEP, _GUESTDBG_USE_HW_BP, _GUESTDBG_BLOCKIRQ = 1, 2, 0x20000, 0x100000
_BREAKPOINTS = 4
_DR7_ONE = 1 << 10  # always set
_DR7_CONDITIONS = {"execute": 0, "write": 1, "access": 3}
_DR7_LENGTHS = {1: 0, 2: 1, 8: 2, 4: 3}


class Registers(NamedTuple):
    """The general registers: struct kvm_regs."""

    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    rsp: int = 0
    rbp: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0
    rflags: int = 2

    def pack(self) -> bytes:
        """Makes the structure. struct.error: a value does not fit."""
        return _REGISTERS.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Self:
        """Reads the structure."""
        return cls._make(_REGISTERS.unpack(data))


class Segment(NamedTuple):
    """A segment register with its descriptor: struct kvm_segment.

    `limit` is in bytes, also where `g` is set. `type` is the descriptor's, 4 bits: 11 is code, 3 data, both accessed.
    """

    base: int = 0
    limit: int = 0xFFFF
    selector: int = 0
    type: int = 3
    present: int = 1
    dpl: int = 0
    db: int = 0
    s: int = 1
    l: int = 0  # noqa: E741  # the kernel's name: 64-bit code
    g: int = 0
    avl: int = 0
    unusable: int = 0

    @classmethod
    def real(cls, selector: int, *, code: bool = False) -> Self:
        """What real mode has for a selector; `code` for CS."""
        return cls(base=selector << 4, selector=selector, type=11 if code else 3)


class DescriptorTable(NamedTuple):
    """GDTR or IDTR: struct kvm_dtable."""

    base: int = 0
    limit: int = 0xFFFF


class SpecialRegisters(NamedTuple):
    """Segments and control registers: struct kvm_sregs.

    `interrupt_bitmap` has bit n set while vector n is on its way into the guest; write it back as it was read.
    """

    cs: Segment
    ds: Segment
    es: Segment
    fs: Segment
    gs: Segment
    ss: Segment
    tr: Segment
    ldt: Segment
    gdt: DescriptorTable
    idt: DescriptorTable
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    apic_base: int
    interrupt_bitmap: int = 0

    def pack(self) -> bytes:
        """Makes the structure. struct.error: a value does not fit."""
        segments = b"".join(_SEGMENT.pack(*segment) for segment in self[:8])
        tables = b"".join(_TABLE.pack(*table) for table in (self.gdt, self.idt))
        try:
            bitmap = self.interrupt_bitmap.to_bytes(32, "little")
        except OverflowError as error:
            raise struct.error(f"interrupt_bitmap: {error}") from error
        return _SPECIAL.pack(segments, tables, *self[10:17], bitmap)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Self:
        """Reads the structure."""
        segments, tables, *controls, bitmap = _SPECIAL.unpack(data)
        return cls._make(
            [
                *map(Segment._make, _SEGMENT.iter_unpack(segments)),
                *map(DescriptorTable._make, _TABLE.iter_unpack(tables)),
                *controls,
                int.from_bytes(bitmap, "little"),
            ]
        )


class VcpuEvents(NamedTuple):
    """Exceptions, interrupts and NMIs that are on their way into the guest: struct kvm_vcpu_events.

    `flags` says which parts count when it is written (KVM_VCPUEVENT_VALID_*); write it back as it was read.
    """

    exception_injected: int
    exception_nr: int
    exception_has_error_code: int
    exception_pending: int
    exception_error_code: int
    interrupt_injected: int
    interrupt_nr: int
    interrupt_soft: int
    interrupt_shadow: int
    nmi_injected: int
    nmi_pending: int
    nmi_masked: int
    sipi_vector: int
    flags: int
    smi_smm: int
    smi_pending: int
    smi_smm_inside_nmi: int
    smi_latched_init: int
    triple_fault_pending: int
    exception_has_payload: int
    exception_payload: int

    def pack(self) -> bytes:
        """Makes the structure. struct.error: a value does not fit."""
        return _EVENTS.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Self:
        """Reads the structure."""
        return cls._make(_EVENTS.unpack(data))


class DebugRegisters(NamedTuple):
    """The guest's own debug registers: struct kvm_debugregs."""

    dr0: int = 0
    dr1: int = 0
    dr2: int = 0
    dr3: int = 0
    dr6: int = 0xFFFF0FF0
    dr7: int = _DR7_ONE

    def pack(self) -> bytes:
        """Makes the structure. struct.error: a value does not fit."""
        return _DEBUG_REGISTERS.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Self:
        """Reads the structure."""
        return cls._make(_DEBUG_REGISTERS.unpack(data))


class MpState(IntEnum):
    """KVM_MP_STATE_*: what a processor waits for."""

    RUNNABLE = 0
    UNINITIALIZED = 1
    INIT_RECEIVED = 2
    HALTED = 3
    SIPI_RECEIVED = 4
    AP_RESET_HOLD = 9


class Breakpoint(NamedTuple):
    """One debug register's address and condition.

    `addr` is a linear address, in real mode that of the segment plus the offset. `length` in bytes is 1, 2, 4 or 8, to
    which `addr` is aligned; of "execute" it is 1.
    """

    addr: int
    condition: Literal["execute", "write", "access"] = "execute"
    length: Literal[1, 2, 4, 8] = 1


def pack_guest_debug(breakpoints: Sequence[Breakpoint], *, single_step: bool, block_interrupts: bool) -> bytes:
    """Makes a struct kvm_guest_debug; with nothing to stop for it ends debugging.

    Raises:
        ValueError: More than four breakpoints, or one that no debug register can express.
        struct.error: An address does not fit.
    """
    if len(breakpoints) > _BREAKPOINTS:
        raise ValueError(f"{len(breakpoints)} breakpoints: a processor has {_BREAKPOINTS}")
    control, dr7 = 0, _DR7_ONE
    for place, (addr, condition, length) in enumerate(breakpoints):
        if condition not in _DR7_CONDITIONS or length not in _DR7_LENGTHS:
            raise ValueError(f"no debug register stops for {condition!r} of {length!r} bytes")
        if addr % length or (condition == "execute" and length != 1):
            raise ValueError(f"a breakpoint of {length} bytes at {addr:#x} is not aligned, or is not data")
        dr7 |= 2 << 2 * place | (_DR7_LENGTHS[length] << 2 | _DR7_CONDITIONS[condition]) << 16 + 4 * place
    if breakpoints:
        control |= _GUESTDBG_USE_HW_BP
    if single_step:
        control |= _GUESTDBG_SINGLESTEP
    if control:
        control |= _GUESTDBG_ENABLE | (_GUESTDBG_BLOCKIRQ if block_interrupts else 0)
    addresses = [breakpoint.addr for breakpoint in breakpoints]
    addresses += [0] * (_BREAKPOINTS - len(addresses))
    return _GUEST_DEBUG.pack(control, 0, *addresses, 0, 0, 0, dr7)
