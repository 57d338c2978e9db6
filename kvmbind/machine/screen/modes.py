"""The video modes of a VGA's BIOS: what is where, in how many columns, pixels and colours."""

from __future__ import annotations

from typing import Literal, NamedTuple

#: How a mode keeps its pixels: bytes and bit fields in memory, or one bit in each of four planes. Text has none.
Layout = Literal["text", "packed", "planar"]


class Shape(NamedTuple):
    """What of the planes is on the screen: pixels across and down, and bytes of one plane from a row to the next."""

    width: int
    height: int
    stride: int


class Mode(NamedTuple):
    """A video mode, in BIOS units. Text modes have a size in pixels too: that of their cells."""

    number: int
    layout: Layout
    columns: int
    rows: int
    glyph_height: int
    width: int
    height: int
    bits: int  # of a pixel; 4 of attribute colour in text modes
    base: int  # guest-physical address of the first byte
    size: int  # of the memory that a page of the screen may be in, from `base`
    banks: int = 1  # 2: even rows from the base, odd ones 2000h higher
    start_unit: int = 1  # bytes for each step of the CRTC's start address

    @property
    def stride(self) -> int:
        """Bytes from one row of pixels to the next one of the same bank; in a planar mode, of one plane."""
        return self.width // 8 if self.layout == "planar" else self.width * self.bits // 8


def _text(number: int, columns: int, base: int = 0xB8000) -> Mode:
    return Mode(number, "text", columns, 25, 16, columns * 8, 400, 4, base, 0x8000, start_unit=2)


def _packed(number: int, width: int, bits: int) -> Mode:
    return Mode(number, "packed", width // 8, 25, 8, width, 200, bits, 0xB8000, 0x4000, banks=2, start_unit=2)


def _planar(number: int, width: int, height: int, glyph_height: int) -> Mode:
    rows = height // glyph_height
    return Mode(number, "planar", width // 8, rows, glyph_height, width, height, 4, 0xA0000, 0x10000)


#: Modes by number. 08h to 0Ch are none of a VGA's.
MODES = {
    mode.number: mode
    for mode in (
        _text(0x00, 40),
        _text(0x01, 40),
        _text(0x02, 80),
        _text(0x03, 80),
        _packed(0x04, 320, 2),
        _packed(0x05, 320, 2),
        _packed(0x06, 640, 1),
        _text(0x07, 80, base=0xB0000),
        _planar(0x0D, 320, 200, 8),
        _planar(0x0E, 640, 200, 8),
        _planar(0x0F, 640, 350, 14),
        _planar(0x10, 640, 350, 14),
        # one plane is all there is to see, so plain memory shows it; a program that masks it is rare
        Mode(0x11, "packed", 80, 30, 16, 640, 480, 1, 0xA0000, 0x10000),
        _planar(0x12, 640, 480, 16),
        Mode(0x13, "packed", 40, 25, 8, 320, 200, 8, 0xA0000, 0x10000, start_unit=4),
    )
}

TEXT = MODES[0x03]
