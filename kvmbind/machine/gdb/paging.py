"""Where the guest's page tables put a linear address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.gdb.layout import LONG_MODE, PAGING

if TYPE_CHECKING:
    from kvmbind.kvm.registers import SpecialRegisters
    from kvmbind.machine.memory import PhysicalMemory

PAGE = 0x1000
_PRESENT, _LARGE = 1, 0x80
_PSE, _PAE, _LA57 = 1 << 4, 1 << 5, 1 << 12
_ADDRESS = 0x000F_FFFF_FFFF_F000


def translate(special: SpecialRegisters, memory: PhysicalMemory, linear: int) -> int | None:
    """Returns the physical address; None: no page is there."""
    if not special.cr0 & PAGING:
        return linear
    if special.efer & LONG_MODE:
        top = 48 if special.cr4 & _LA57 else 39
        return _walk_wide(memory, special.cr3 & _ADDRESS, linear, range(top, 11, -9))
    if special.cr4 & _PAE:
        pointer = int.from_bytes(memory.read((special.cr3 & ~0x1F) + 8 * (linear >> 30 & 3), 8), "little")
        return _walk_wide(memory, pointer & _ADDRESS, linear, range(21, 11, -9)) if pointer & _PRESENT else None
    return _walk_narrow(memory, special, linear)


def _walk_wide(memory: PhysicalMemory, table: int, linear: int, shifts: range) -> int | None:
    """Tables of 512 entries of 8 bytes."""
    for shift in shifts:
        entry = int.from_bytes(memory.read(table + 8 * (linear >> shift & 0x1FF), 8), "little")
        if not entry & _PRESENT:
            return None
        if shift == 12 or entry & _LARGE:
            offset = (1 << shift) - 1
            return entry & _ADDRESS & ~offset | linear & offset
        table = entry & _ADDRESS
    return None


def _walk_narrow(memory: PhysicalMemory, special: SpecialRegisters, linear: int) -> int | None:
    """Tables of 1024 entries of 4 bytes."""
    directory = memory.u32((special.cr3 & ~0xFFF) + 4 * (linear >> 22 & 0x3FF))
    if not directory & _PRESENT:
        return None
    if directory & _LARGE and special.cr4 & _PSE:
        return directory & 0xFFC00000 | linear & 0x3FFFFF
    entry = memory.u32((directory & ~0xFFF) + 4 * (linear >> 12 & 0x3FF))
    return entry & ~0xFFF | linear & 0xFFF if entry & _PRESENT else None
