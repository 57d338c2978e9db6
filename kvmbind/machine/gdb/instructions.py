"""Instructions that a single step of the processor does not do as a debugger's user expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine import emulation
from kvmbind.machine.gdb.layout import PAGING, PROTECTION, State
from kvmbind.machine.gdb.paging import translate

if TYPE_CHECKING:
    from kvmbind.machine.memory import PhysicalMemory

_INT, _HLT = 0xCD, 0xF4
_WORD = 0xFFFF
_CLEARED_BY_INT = 0x300  # IF and TF
_VECTOR_SIZE = 4


def is_hlt(state: State, memory: PhysicalMemory) -> bool:
    """Tells whether the next instruction waits for an interrupt."""
    addr = translate(state.special, memory, state.pc)
    return addr is not None and memory.u8(addr) == _HLT


def step_into_int(state: State, memory: PhysicalMemory) -> State | None:
    """Does INT n up to the first instruction of its handler; None: the next instruction is none, or it pages.

    A processor's single step runs the whole handler, for INT clears the trap flag, and leaves that flag in the stacked
    FLAGS, where the guest would find it.
    """
    if state.special.cr0 & PAGING or memory.u8(state.pc) != _INT:
        return None
    if state.special.cr0 & PROTECTION:
        after = emulation.software_interrupt(state, memory)
        return State(*after) if after else None
    general, special = state
    vector = memory.u8(state.pc + 1)
    if vector * _VECTOR_SIZE + _VECTOR_SIZE - 1 > special.idt.limit:
        return None
    for pushed in (general.rflags, special.cs.selector, general.rip + 2):
        sp = general.rsp - 2 & _WORD
        general = general._replace(rsp=general.rsp & ~_WORD | sp)
        memory.set_u16(special.ss.base + sp, pushed)
    ip, selector = (memory.u16(special.idt.base + vector * _VECTOR_SIZE + offset) for offset in (0, 2))
    general = general._replace(rip=ip, rflags=general.rflags & ~_CLEARED_BY_INT)
    return State(general, special._replace(cs=special.cs._replace(selector=selector, base=selector << 4)))
