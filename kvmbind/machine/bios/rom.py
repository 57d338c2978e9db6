"""The ROM at F000:0000, and the vectors that lead into it."""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.machine.images.image import Start
from kvmbind.machine.screen.font import font

if TYPE_CHECKING:
    from kvmbind.machine.images.image import ProtectedStart

SEGMENT = 0xF000
BASE = SEGMENT << 4
SIZE = 0x10000
TRAP_PORT = 0x0BC5  # TRAP_PORT of native/bios/bios.S

#: Vectors of the ROM's own that stand for others, for interrupts from outside.
OUTSIDE_FIRST, OUTSIDE_COUNT = 0xE0, 16

#: Where `stamped_pointer`'s code keeps the time stamp, 8 bytes, and the count, 4 bytes, of what came that way.
STAMP, STAMPED = 0x9FFE0, 0x9FFE8

# Offsets in the ROM. The old ones are where every PC has them, since programs go there by their numbers.
FONT_8X16, FONT_8X14, FONT_8X8 = 0xA000, 0xB000, 0xBE00
FUNCTIONALITY, DISK_TABLES = 0xC800, 0xC900
REBOOT, CONFIGURATION, FLOPPY_TABLE, OLD_FONT = 0xE05B, 0xE6F5, 0xEFC7, 0xFA6E
_RESET, _DATE, _MODEL = 0xFFF0, 0xFFF5, 0xFFFE
DISK_TABLE_BYTES = 16

_DIRECTORY = struct.Struct("<16H")
_BOOT = struct.Struct("<7H7I")

_HANDLED_BY_HOST = (
    *(0x00, 0x06),  # the faults that a program runs into again and again, if nobody ends it
    *range(0x10, 0x1B),
    *(0x20, 0x21, 0x29, 0x40),
)
_FLAGS, _INTERRUPT_FLAG = 0x002, 0x202
_STACK = 0x7BF0


class Directory(NamedTuple):
    """Where things are in native/bios/bios.S, in the order in which it lists them."""

    stubs: int
    stub_bytes: int
    outside: int
    outside_bytes: int
    ignore: int
    timer: int
    keyboard: int
    master_irq: int
    slave_irq: int
    master_irq_or_fault_4: int
    master_irq_or_fault_5: int
    power_on: int
    boot: int
    outside_vectors: int
    stamped: int
    protected: int


@cache
def _code() -> bytes:
    with open(os.path.join(os.path.dirname(__file__), "bios.bin"), "rb") as file:
        return file.read()


@cache
def directory() -> Directory:
    """Returns where things are."""
    return Directory._make(_DIRECTORY.unpack_from(_code()))


@cache
def contents() -> bytes:
    """Returns the 64 KiB of the ROM, but for what `boot_block` and `outside_vector` put into it."""
    rom = bytearray(SIZE)

    def put(offset: int, data: bytes) -> None:
        rom[offset : offset + len(data)] = data

    put(0, _code())
    put(FONT_8X16, font(16))
    put(FONT_8X14, font(14))
    put(FONT_8X8, font(8))
    put(OLD_FONT, font(8)[: 128 * 8])
    put(REBOOT, b"\xcd\x19")
    put(CONFIGURATION, b"\x08\x00\xfc\x00\x01\x74\x40\x00\x00\x00")  # an AT, second PIC, clock, INT 9 by way of 15h/4Fh
    put(FLOPPY_TABLE, b"\xaf\x02\x25\x02\x12\x1b\xff\x6c\xf6\x0f\x08")  # 1.44 MB
    put(FUNCTIONALITY, b"\xff\xe0\x0f\x00\x00\x00\x00\x07\x02\x08\xff\x0e\x00\x00\x3f\x00")
    put(_RESET, b"\xea" + REBOOT.to_bytes(2, "little") + SEGMENT.to_bytes(2, "little"))
    put(_DATE, b"01/01/99")
    put(_MODEL, b"\xfc")
    return bytes(rom)


@cache
def vectors() -> bytes:
    """Returns the 256 far pointers of the interrupt vector table."""
    at = directory()
    table = [at.ignore] * 256
    for vector in _HANDLED_BY_HOST:
        table[vector] = at.stubs + vector * at.stub_bytes
    table[0x08], table[0x09] = at.timer, at.keyboard
    for vector in (0x0A, 0x0B, 0x0E, 0x0F):
        table[vector] = at.master_irq
    table[0x0C], table[0x0D] = at.master_irq_or_fault_4, at.master_irq_or_fault_5
    for vector in range(0x70, 0x78):
        table[vector] = at.slave_irq
    for slot in range(OUTSIDE_COUNT):
        table[OUTSIDE_FIRST + slot] = at.outside + slot * at.outside_bytes
    table[0x1E], table[0x1F], table[0x43] = FLOPPY_TABLE, FONT_8X8 + 128 * 8, FONT_8X16
    table[0x41], table[0x46] = DISK_TABLES, DISK_TABLES + DISK_TABLE_BYTES
    return b"".join(struct.pack("<HH", offset, SEGMENT) for offset in table)


def boot_block(start: Start | ProtectedStart) -> tuple[bytes, int]:
    """Returns the registers to start with, as the ROM has them, and their address."""
    if isinstance(start, Start):
        data = _BOOT.pack(
            *(start.sp, start.ss, start.ip, start.cs, _INTERRUPT_FLAG, start.ds, start.es),
            *(start.eax, start.ecx, start.edx, 0, start.ebp, start.esi, start.edi),
        )
    else:
        data = _BOOT.pack(
            *(_STACK, 0, directory().protected, SEGMENT, _FLAGS, 0, 0), *(start.eax, 0, 0, start.ebx, 0, start.eip, 0)
        )
    return data, BASE + directory().boot


def outside_vector(slot: int) -> int:
    """Returns the address of the byte that says which vector slot 0 to 15 of `OUTSIDE_FIRST` stands for."""
    return BASE + directory().outside_vectors + slot


def stamped_pointer() -> bytes:
    """Returns the far pointer to what vector `OUTSIDE_FIRST` runs while it is measured: it goes on to its own stub."""
    return struct.pack("<HH", directory().stamped, SEGMENT)
