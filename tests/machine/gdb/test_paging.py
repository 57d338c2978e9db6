"""Linear addresses through the guest's page tables."""

from __future__ import annotations

import struct

import pytest

from kvmbind.kvm.registers import SpecialRegisters
from kvmbind.machine.gdb.paging import translate
from kvmbind.machine.memory import PhysicalMemory

SPECIAL = SpecialRegisters.unpack(bytes(312))
PAGING = SPECIAL._replace(cr0=1 << 31 | 1, cr3=0x1000)
PSE, PAE, LONG_MODE = 1 << 4, 1 << 5, 0x500
PRESENT, LARGE = 1, 0x80


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory(memoryview(bytearray(1 << 16)))


def put(memory: PhysicalMemory, format: str, entries: dict[int, int]) -> None:
    for addr, entry in entries.items():
        memory.write(struct.pack(format, entry), addr)


def test_without_paging_they_are_physical(memory: PhysicalMemory) -> None:
    assert translate(SPECIAL, memory, 0x12345) == 0x12345


def test_in_32_bits_by_two_tables(memory: PhysicalMemory) -> None:
    put(memory, "<I", {0x1004: 0x2000 | PRESENT, 0x200C: 0x7000 | PRESENT, 0x1008: 0x80_0000 | LARGE | PRESENT})
    assert translate(PAGING, memory, 0x403123) == 0x7123
    assert translate(PAGING, memory, 0x404000) is None
    assert translate(PAGING, memory, 0xC00000) is None
    assert translate(PAGING._replace(cr4=PSE), memory, 0x812345) == 0x812345


def test_with_pae_by_three_tables(memory: PhysicalMemory) -> None:
    put(memory, "<Q", {0x1018: 0x2000 | PRESENT, 0x2008: 0x3000 | PRESENT, 0x2010: 0x60_0000 | LARGE | PRESENT})
    put(memory, "<Q", {0x3008: 0x8000 | PRESENT | 1 << 63})
    special = PAGING._replace(cr4=PAE)
    assert translate(special, memory, 0xC0201456) == 0x8456
    assert translate(special, memory, 0xC0412345) == 0x612345
    assert translate(special, memory, 0x00201456) is None


def test_in_64_bits_by_four_tables(memory: PhysicalMemory) -> None:
    put(memory, "<Q", {0x1FF8: 0x2000 | PRESENT, 0x2FF0: 0x3000 | PRESENT, 0x3000: 0x4000 | PRESENT})
    put(memory, "<Q", {0x4010: 0x9000 | PRESENT, 0x2FF8: 0x4000_0000 | LARGE | PRESENT})
    special = PAGING._replace(cr4=PAE, efer=LONG_MODE)
    assert translate(special, memory, 0xFFFF_FFFF_8000_2789) == 0x9789
    assert translate(special, memory, 0xFFFF_FFFF_C123_4567) == 0x4123_4567
    assert translate(special, memory, 0x2789) is None


def test_tables_outside_of_memory_are_survived(memory: PhysicalMemory) -> None:
    for cr4, efer in [(0, 0), (PAE, 0), (PAE, LONG_MODE)]:
        special = PAGING._replace(cr3=0xFFFF_F000, cr4=cr4, efer=efer)
        translate(special, memory, 0xFFFF_FFFF)
