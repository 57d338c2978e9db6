"""The CRT controller of a VGA: how much of the planes is on the screen, and where a row begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.screen.modes import Shape

if TYPE_CHECKING:
    from kvmbind.machine.screen.modes import Mode

COUNT = 25
LAST_COLUMN, OVERFLOW, CELL_HEIGHT = 0x01, 0x07, 0x09
CURSOR_FIRST, CURSOR_LAST, START_HIGH, START_LOW, CURSOR_HIGH, CURSOR_LOW = 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F
RETRACE_END, LAST_LINE, OFFSET = 0x11, 0x12, 0x13
_PROTECTED = 0x80  # of RETRACE_END: registers 0 to 7 cannot be written, but for one bit of OVERFLOW
_LINE_COMPARE_8 = 0x10
_DOUBLED = 0x80  # of CELL_HEIGHT
_SHAPING = (LAST_COLUMN, OVERFLOW, CELL_HEIGHT, LAST_LINE, OFFSET)
_WIDTHS, _HEIGHTS = range(64, 1025), range(50, 1025)

_TEXT_40 = "2d2728902ba0bf1f004f0d0e00000000 9c8e8f141f96b9a3ff"
_TEXT_80 = "5f4f50825581bf1f004f0d0e00000000 9c8e8f281f96b9a3ff"
_GRAPHICS_640_350 = "5f4f50825480bf1f0040000000000000 83855d280f63bae3ff"
#: The registers by mode, as INT 10h/00h sets them.
_TABLES = {
    0x00: _TEXT_40,
    0x01: _TEXT_40,
    0x02: _TEXT_80,
    0x03: _TEXT_80,
    0x04: "2d2728902b80bf1f00c1000000000000 9c8e8f140096b9a2ff",
    0x05: "2d2728902b80bf1f00c1000000000000 9c8e8f140096b9a2ff",
    0x06: "5f4f50825480bf1f00c1000000000000 9c8e8f280096b9c2ff",
    0x07: "5f4f50825581bf1f004f0d0e00000000 9c8e8f280f96b9a3ff",
    0x0D: "2d2728902b80bf1f00c0000000000000 9c8e8f140096b9e3ff",
    0x0E: "5f4f50825480bf1f00c0000000000000 9c8e8f280096b9e3ff",
    0x0F: _GRAPHICS_640_350,
    0x10: _GRAPHICS_640_350,
    0x11: "5f4f508254800b3e0040000000000000 ea8cdf2800e704c3ff",
    0x12: "5f4f508254800b3e0040000000000000 ea8cdf2800e704e3ff",
    0x13: "5f4f50825480bf1f0041000000000000 9c8e8f284096b9a3ff",
}


class Crtc:
    """Its registers. Those of the cursor and of the start address are the BIOS's too: whoever has this sees to them.

    Threads: it belongs to the VCPU's thread; another may read.
    """

    __slots__ = ("_as_set", "_registers")

    def __init__(self, mode: int = 0x03) -> None:
        """Sets the registers as they are in `mode`."""
        self.reset(mode)

    def reset(self, mode: int) -> None:
        """Sets the registers as INT 10h/00h does."""
        self._as_set = bytes.fromhex(_TABLES[mode])
        self._registers = bytearray(self._as_set)

    def read(self, index: int) -> int:
        """Returns a register; one that does not exist is FFh."""
        return self._registers[index] if index < COUNT else 0xFF

    def write(self, index: int, value: int) -> None:
        """Writes a register, if it exists and is not protected."""
        registers = self._registers
        if index >= COUNT:
            return
        if index <= OVERFLOW and registers[RETRACE_END] & _PROTECTED:
            if index == OVERFLOW:
                registers[index] = registers[index] & ~_LINE_COMPARE_8 | value & _LINE_COMPARE_8
            return
        registers[index] = value

    def shape(self, mode: Mode) -> Shape | None:
        """Returns what a program has made of a mode whose pixels are in planes.

        Returns:
            None: it is as the BIOS has set it; or what it has become is no picture that a monitor shows.
        """
        registers = self._registers
        if all(registers[index] == self._as_set[index] for index in _SHAPING):
            return None
        overflow, cell = registers[OVERFLOW], registers[CELL_HEIGHT]
        lines = 1 + (registers[LAST_LINE] | (overflow & 0x02) << 7 | (overflow & 0x40) << 3)
        height = lines // ((cell & 0x1F) + 1) // (2 if cell & _DOUBLED else 1)
        width = (registers[LAST_COLUMN] + 1) * (8 if mode.layout == "planar" else 4)
        if width not in _WIDTHS or height not in _HEIGHTS:
            return None
        return Shape(width, height, 2 * registers[OFFSET])
