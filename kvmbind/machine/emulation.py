"""Instructions that the emulators of some KVMs lack and that are as well done from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.kvm.exits import ExitReason
from kvmbind.kvm.registers import Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.kvm.exits import Exit
    from kvmbind.kvm.registers import Registers, SpecialRegisters
    from kvmbind.machine.memory import PhysicalMemory
    from kvmbind.objects.vcpu import Vcpu

    State = tuple[Registers, SpecialRegisters]
    Instruction = Callable[[State, PhysicalMemory], State | None]

_FWAIT, _INT, _IRET = 0x9B, 0xCD, 0xCF
_EMULATION_FAILED = 1
_PROTECTION, _PAGING, _LONG_MODE = 1, 1 << 31, 0x400
_VIRTUAL_8086, _NESTED_TASK, _ALWAYS_ONE = 1 << 17, 1 << 14, 2
_FLAGS_32, _FLAGS_16 = 0x257FD5, 0x7FD5
_TABLE_BIT, _PRIVILEGE = 4, 3
_CODE, _CONFORMING = 0x8, 0x4
_PRESENT_GATE, _GATE_MASK, _TRAP_GATE, _32_BIT_GATE = 0x8600, 0x9700, 0x0100, 0x0800
_CLEARED_BY_GATE, _INTERRUPTS_ENABLED = 0x14100, 0x200  # NT RF TF; IF too by an interrupt gate


def skip(vcpu: Vcpu, exit: Exit, memory: PhysicalMemory) -> bool:
    """Does the instruction that KVM could not do, if it is known here: FWAIT; INT n and IRET in protected mode.

    Returns:
        Whether it was known; the guest goes on behind it.
    """
    if exit.reason != ExitReason.INTERNAL_ERROR or exit.suberror != _EMULATION_FAILED:
        return False
    general, special = vcpu.read_registers(), vcpu.read_special()
    if special.cr0 & _PAGING or special.efer & _LONG_MODE:
        code = exit.instruction[:1]  # where memory is, only the guest's page tables know
    else:
        code = memory.read(special.cs.base + general.rip, 1)
    known = _INSTRUCTIONS.get(code[0]) if code else None
    after = known((general, special), memory) if known else None
    if after is None:
        return False
    if after[1] is not special:
        vcpu.write_special(after[1])
    vcpu.write_registers(after[0])
    return True


def _fwait(state: State, memory: PhysicalMemory) -> State:
    """It waits for an x87 exception, and none is pending where the x87 is emulated."""
    general, special = state
    return general._replace(rip=general.rip + 1), special


def software_interrupt(state: State, memory: PhysicalMemory) -> State | None:
    """Does INT n in protected mode without paging, to a handler of the same privilege; None: another one."""
    general, special = state
    if not _is_flat_protected(state):
        return None
    gate = special.idt.base + 8 * memory.u8(special.cs.base + general.rip + 1)
    low, high = memory.u32(gate), memory.u32(gate + 4)
    if gate + 7 > special.idt.base + special.idt.limit or high & _GATE_MASK & ~_TRAP_GATE != _PRESENT_GATE:
        return None
    segment = _code_segment(special, low >> 16, memory)
    if segment is None:
        return None
    size = 4 if high & _32_BIT_GATE else 2
    stack_mask = 0xFFFFFFFF if special.ss.db else 0xFFFF
    sp = general.rsp - 3 * size & stack_mask
    frame = (general.rip + 2, special.cs.selector, general.rflags)
    limit = 1 << 8 * size
    memory.write(b"".join((word % limit).to_bytes(size, "little") for word in frame), special.ss.base + sp)
    cleared = _CLEARED_BY_GATE | (0 if high & _TRAP_GATE else _INTERRUPTS_ENABLED)
    general = general._replace(
        rip=low & 0xFFFF | (high & 0xFFFF0000 if size == 4 else 0),
        rsp=general.rsp & ~stack_mask | sp,
        rflags=general.rflags & ~cleared,
    )
    return general, special._replace(cs=segment)


def _is_flat_protected(state: State) -> bool:
    general, special = state
    return special.cr0 & (_PAGING | _PROTECTION) == _PROTECTION and not general.rflags & (_VIRTUAL_8086 | _NESTED_TASK)


def _iret(state: State, memory: PhysicalMemory) -> State | None:
    """In protected mode without paging, to code of the same privilege; None: another one."""
    general, special = state
    if not _is_flat_protected(state):
        return None
    size = 4 if special.cs.db else 2
    stack_mask = 0xFFFFFFFF if special.ss.db else 0xFFFF
    sp = general.rsp & stack_mask
    frame = memory.read(special.ss.base + sp, 3 * size)
    ip, selector, flags = (int.from_bytes(frame[at : at + size], "little") for at in range(0, 3 * size, size))
    segment = _code_segment(special, selector & 0xFFFF, memory)
    if segment is None or flags & _VIRTUAL_8086:
        return None
    mask = _FLAGS_32 if size == 4 else _FLAGS_16
    general = general._replace(
        rip=ip,
        rsp=general.rsp & ~stack_mask | sp + 3 * size & stack_mask,
        rflags=general.rflags & ~mask | flags & mask | _ALWAYS_ONE,
    )
    return general, special._replace(cs=segment)


def _code_segment(special: SpecialRegisters, selector: int, memory: PhysicalMemory) -> Segment | None:
    """The code segment of a selector by its descriptor; None: it is none of this privilege."""
    base, limit = (special.ldt.base, special.ldt.limit) if selector & _TABLE_BIT else special.gdt
    offset = selector & ~(_TABLE_BIT | _PRIVILEGE)
    if (not offset and not selector & _TABLE_BIT) or offset + 7 > limit:
        return None
    low, high = memory.u32(base + offset), memory.u32(base + offset + 4)
    granular = high >> 23 & 1
    size = low & 0xFFFF | high & 0xF0000
    segment = Segment(
        base=low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000,
        limit=size << 12 | 0xFFF if granular else size,
        selector=selector,
        type=high >> 8 & 0xF | 1,
        present=high >> 15 & 1,
        dpl=high >> 13 & 3,
        db=high >> 22 & 1,
        s=high >> 12 & 1,
        l=high >> 21 & 1,
        g=granular,
        avl=high >> 20 & 1,
    )
    is_code = segment.s and segment.type & _CODE and segment.present
    privilege = special.cs.selector & _PRIVILEGE
    fits = selector & _PRIVILEGE == privilege and (segment.type & _CONFORMING or segment.dpl == privilege)
    return segment if is_code and fits else None


_INSTRUCTIONS: dict[int, Instruction] = {_FWAIT: _fwait, _INT: software_interrupt, _IRET: _iret}
