"""The video memory of the 16-colour modes: four planes behind a VGA's sequencer and graphics controller."""

from __future__ import annotations

PLANE_SIZE = 0x10000

SEQUENCER, SEQUENCER_DATA = 0x3C4, 0x3C5
GRAPHICS, GRAPHICS_DATA = 0x3CE, 0x3CF
PORTS = (SEQUENCER, SEQUENCER_DATA, GRAPHICS, GRAPHICS_DATA)

# of the sequencer
MAP_MASK, MEMORY_MODE = 2, 4
CHAIN_4 = 0x08

# of the graphics controller
SET_RESET, ENABLE_SET_RESET, COLOUR_COMPARE, ROTATE, READ_MAP, MODE, MISCELLANEOUS, COLOUR_DONT_CARE, BIT_MASK = range(
    9
)

ALL = 0xFFFFFFFF
_EACH = 0x01010101
#: Four bits, one for each plane, as a byte of ones or zeros for each.
_SPREAD = tuple(sum(0xFF << 8 * plane for plane in range(4) if bits >> plane & 1) for bits in range(16))
_INDEX = {SEQUENCER_DATA: SEQUENCER, GRAPHICS_DATA: GRAPHICS}
_REGISTERS = {SEQUENCER: 5, GRAPHICS: 9}


class Planes:
    """Four planes of 64 KiB, and the registers through which a program reads and writes all of them at once.

    While a planar mode is set, the machine sends each access to A0000h-AFFFFh here (`read`, `write`), and at all times
    those to the ports of `PORTS`. A BIOS draws in `memory` without them.

    Threads: the caller's lock keeps accesses apart. Reading `memory` needs none: it may see half of a change.

    Attributes:
        memory: Byte 4 * n + p is byte n of plane p.
    """

    __slots__ = ("_latches", "_registers", "_selected", "_words", "memory")

    def __init__(self, mode: int = 0x03) -> None:
        """Makes planes that are all zero, and the registers as they are in `mode`."""
        self.memory = bytearray(4 * PLANE_SIZE)
        self._words = memoryview(self.memory).cast("I")
        self.reset(mode)

    def reset(self, mode: int) -> None:
        """Sets the registers as INT 10h/00h does for `mode`; memory stays."""
        chained = mode == 0x13
        self._latches = 0
        self._selected = {SEQUENCER: 0, GRAPHICS: 0}
        self._registers = {
            SEQUENCER: bytearray((0x03, 0x01, 0x0F, 0x00, 0x0E if chained else 0x06)),
            GRAPHICS: bytearray((0, 0, 0, 0, 0, 0x40 if chained else 0, 0x05, 0x0F, 0xFF)),
        }

    def clear(self) -> None:
        """Fills the planes with zeros."""
        self.memory[:] = bytes(len(self.memory))

    @property
    def chained(self) -> bool:
        """Whether the planes are one run of bytes, as in mode 13h until a program takes them apart ("mode X")."""
        return bool(self._registers[SEQUENCER][MEMORY_MODE] & CHAIN_4)

    def read_port(self, port: int, size: int = 1) -> int:
        """Returns what IN of `size` bytes from a port of `PORTS` gives; a register that does not exist is FFh."""
        value = 0
        for byte in range(size):
            value |= self._read_register(port + byte) << 8 * byte
        return value

    def write_port(self, port: int, size: int, value: int) -> None:
        """Does OUT of `size` bytes to a port of `PORTS`: a word to an index port is index and data."""
        for byte in range(size):
            self._write_register(port + byte, value >> 8 * byte & 0xFF)

    def read(self, offset: int, size: int = 1) -> int:
        """Returns what a read of `size` bytes at A0000h + `offset` gives, and loads the latches from the last."""
        value = 0
        for byte in range(size):
            value |= self._read_byte(offset + byte & PLANE_SIZE - 1) << 8 * byte
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Writes the low `size` bytes of `value` at A0000h + `offset`, lowest first, as the registers say."""
        graphics = self._registers[GRAPHICS]
        planes = _SPREAD[self._registers[SEQUENCER][MAP_MASK] & 0x0F]
        words = self._words
        for byte in range(size):
            at = offset + byte & PLANE_SIZE - 1
            new = self._written(graphics, value >> 8 * byte & 0xFF)
            words[at] = words[at] & ~planes & ALL | new & planes

    def _written(self, graphics: bytearray, value: int) -> int:
        """What one byte that is written becomes in the four planes."""
        write_mode = graphics[MODE] & 3
        latches = self._latches
        if write_mode == 1:
            return latches
        mask = graphics[BIT_MASK]
        if write_mode == 2:
            new = _SPREAD[value & 0x0F]
        else:
            rotate = graphics[ROTATE] & 7
            value = (value >> rotate | value << 8 - rotate) & 0xFF
            new = _SPREAD[graphics[SET_RESET] & 0x0F]
            if write_mode == 3:
                mask &= value
            else:
                enabled = _SPREAD[graphics[ENABLE_SET_RESET] & 0x0F]
                new = new & enabled | value * _EACH & ~enabled
        match graphics[ROTATE] >> 3 & 3:
            case 1:
                new &= latches
            case 2:
                new |= latches
            case 3:
                new ^= latches
        bits = mask * _EACH
        return new & bits | latches & ~bits

    def _read_byte(self, at: int) -> int:
        graphics = self._registers[GRAPHICS]
        self._latches = latches = self._words[at]
        if not graphics[MODE] & 0x08:
            return latches >> 8 * (graphics[READ_MAP] & 3) & 0xFF
        # read mode 1: a bit for each pixel whose colour is the one compared, in the planes that count
        differing = (latches ^ _SPREAD[graphics[COLOUR_COMPARE] & 0x0F]) & _SPREAD[graphics[COLOUR_DONT_CARE] & 0x0F]
        differing |= differing >> 16
        return ~(differing | differing >> 8) & 0xFF

    def _read_register(self, port: int) -> int:
        if port in self._selected:
            return self._selected[port]
        registers = self._registers.get(_INDEX.get(port, 0))
        index = self._selected[_INDEX[port]] if registers else 0
        return registers[index] if registers and index < len(registers) else 0xFF

    def _write_register(self, port: int, value: int) -> None:
        if port in self._selected:
            self._selected[port] = value
        elif port in _INDEX and (index := self._selected[_INDEX[port]]) < _REGISTERS[_INDEX[port]]:
            self._registers[_INDEX[port]][index] = value
