"""One look at a screen: cells of text, or pixels. Frames that show the same are equal."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from kvmbind.machine.screen.cp437 import CHARACTERS, decode
from kvmbind.machine.screen.font import font

BLINK = 0x80


class Cursor(NamedTuple):
    """Where the cursor is, in cells, and which rows of the cell it fills."""

    column: int
    row: int
    first_line: int
    last_line: int


class TextFrame(NamedTuple):
    """A text screen.

    Attributes:
        columns: Of cells.
        rows: Of cells.
        cells: Two bytes for each cell, row by row: its character (code page 437) and its attribute.
        palette: Red, green and blue, of 0-255 each, of the 16 colours.
        glyph_height: Rows of pixels of a cell.
        cursor: None while it is hidden or outside of the screen.
        blinks: Bit 7 of an attribute means blinking; else a bright background.
        underlines: An attribute whose low three bits are 1 means underlined, as on a monochrome screen.
    """

    columns: int
    rows: int
    cells: bytes
    palette: bytes
    glyph_height: int = 16
    cursor: Cursor | None = None
    blinks: bool = True
    underlines: bool = False

    def lines(self) -> list[str]:
        """Returns the characters of each row, blanks at its end left out."""
        text = decode(self.cells[::2])
        return [text[start : start + self.columns].rstrip() for start in range(0, len(text), self.columns)]

    def text(self) -> str:
        """Returns the screen as lines of text, blanks and empty lines at the end left out."""
        return "\n".join(self.lines()).rstrip("\n")

    def colours_of(self, attribute: int) -> tuple[int, int]:
        """Returns the numbers of the ink's and the background's colour."""
        background = attribute >> 4
        return attribute & 0x0F, background & 0x07 if self.blinks else background

    def is_blinking(self, attribute: int) -> bool:
        """Returns whether a cell of this attribute blinks."""
        return self.blinks and bool(attribute & BLINK)

    def is_underlined(self, attribute: int) -> bool:
        """Returns whether a cell of this attribute is underlined."""
        return self.underlines and attribute & 0x07 == 1


class Picture(NamedTuple):
    """A graphics screen.

    Attributes:
        width: In pixels.
        height: In pixels.
        pixels: The colour number of each pixel, row by row.
        palette: Red, green and blue, of 0-255 each, for each colour number.
    """

    width: int
    height: int
    pixels: bytes
    palette: bytes

    def row(self, y: int) -> bytes:
        """Returns the colour numbers of one row."""
        return self.pixels[y * self.width : (y + 1) * self.width]

    def text(self) -> str:
        """Returns what is written in kvmbind's own font, as a BIOS draws it; blanks at the end left out.

        Read is what stands in whole cells of the font's size in two colours: one of 8 rows in screens of 200 lines, 14
        in those of 350, 16 in those of 480.
        """
        height = {200: 8, 350: 14, 480: 16}.get(self.height, 8)
        lines = []
        for top in range(0, self.height - height + 1, height):
            rows = [self.row(y) for y in range(top, top + height)]
            cells = (tuple(row[x : x + 8] for row in rows) for x in range(0, self.width - 7, 8))
            lines.append("".join(_character(cell) for cell in cells).rstrip())
        return "\n".join(lines).rstrip("\n")


Frame = TextFrame | Picture


def _character(cell: tuple[bytes, ...]) -> str:
    """The character whose glyph is in `cell`, drawn light on dark or the other way round; a space if none is."""
    colours = sorted({*b"".join(cell)})
    if len(colours) != 2:
        return " "
    known = _glyphs(len(cell))
    for ink in reversed(colours):
        shape = bytes(sum(0x80 >> x for x in range(8) if row[x] == ink) for row in cell)
        if shape in known:
            return known[shape]
    return " "


@cache
def _glyphs(height: int) -> dict[bytes, str]:
    glyphs = font(height)
    shapes = (glyphs[height * code : height * (code + 1)] for code in range(256))
    return dict(zip(shapes, CHARACTERS, strict=True))
