"""A frame as escape sequences for a terminal: of what is there already, only the cells that differ."""

from __future__ import annotations

import os
from operator import itemgetter
from typing import TYPE_CHECKING

from kvmbind.machine.screen.ansi import Shades
from kvmbind.machine.screen.cp437 import CHARACTERS
from kvmbind.machine.screen.frames import Frame, Picture, TextFrame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmbind.machine.screen.terminal import Look

CLEAR = "\x1b[0m\x1b[2J"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
UPPER_HALF = "▀"
#: The smallest terminal in which half blocks show anything of a picture.
LEAST_COLUMNS, LEAST_LINES = 32, 12

#: One cell of the terminal: its character, and its style as the parameters of an SGR sequence.
Cell = tuple[str, str]
_BLANK: Cell = (" ", "0")


class Painter:
    """Knows what a terminal shows, and says what to write so that it shows a frame.

    A frame that is larger than the terminal is shown in part: the cursor stays in sight. Pictures are drawn with half
    blocks, two pixels in a cell, in the shape of a monitor. Nothing is written to the last column's right, so the
    terminal must not wrap there (`Terminal` sees to it).

    Threads: one at a time.
    """

    __slots__ = ("_at", "_cursor", "_frame", "_grid", "_left", "_look", "_shades", "_size", "_style", "_top")

    def __init__(self, size: Sequence[int], look: Look) -> None:
        """Starts with nothing known of what is there.

        Args:
            size: Columns and lines of the terminal.
            look: What it can show.
        """
        self._look = look
        self._shades = Shades(look.colours)
        self._top = self._left = 0
        self.resize(size)

    @property
    def size(self) -> os.terminal_size:
        """The terminal's, as last told."""
        return self._size

    def resize(self, size: Sequence[int]) -> None:
        """Takes another size of the terminal, and all of its cells for unknown."""
        self._size = os.terminal_size(size)
        self._grid: list[list[Cell]] | None = None
        self._forget()

    def _forget(self) -> None:
        self._style = ""
        self._at = (-1, -1)
        self._cursor: tuple[int, int] | None = (-1, -1)

    def paint(self, frame: Frame) -> bytes:
        """Returns what to write: nothing if the terminal shows `frame` already."""
        if self._grid is not None and frame == self._frame:
            return b""
        self._frame: Frame = frame
        cursor: tuple[int, int] | None = None
        if isinstance(frame, TextFrame):
            self._scroll_to_cursor(frame)
            grid = self._text(frame)
            if frame.cursor:
                cursor = frame.cursor.row - self._top, frame.cursor.column - self._left
        else:
            grid = self._picture(frame)
        out: list[str] = []
        old = self._grid
        if old is None:
            out.append(CLEAR)
            self._style, old = "0", [[_BLANK] * self._size.columns for _ in range(self._size.lines)]
        for line, (before, after) in enumerate(zip(old, grid, strict=True)):
            if before != after:
                self._paint_line(out, line, before, after)
        self._grid = grid
        self._place_cursor(out, cursor)
        return "".join(out).encode()

    def _paint_line(self, out: list[str], line: int, before: list[Cell], after: list[Cell]) -> None:
        for column, cell in enumerate(after):
            if cell == before[column]:
                continue
            if self._at != (line, column):
                out.append(f"\x1b[{line + 1};{column + 1}H")
            character, style = cell
            if style != self._style:
                out.append(f"\x1b[{style}m")
                self._style = style
            out.append(character)
            # at the right edge the terminal's cursor stays in the last column
            self._at = (line, column + 1) if column + 1 < self._size.columns else (-1, -1)

    def _place_cursor(self, out: list[str], cursor: tuple[int, int] | None) -> None:
        if cursor is not None and not (0 <= cursor[0] < self._size.lines and 0 <= cursor[1] < self._size.columns):
            cursor = None
        if cursor is None:
            if self._cursor is not None:
                out.append(HIDE_CURSOR)
        elif cursor != self._cursor or out:
            out.append(f"\x1b[{cursor[0] + 1};{cursor[1] + 1}H")
            if self._cursor is None or self._cursor[0] < 0:
                out.append(SHOW_CURSOR)
            self._at = cursor
        self._cursor = cursor

    # Text

    def _scroll_to_cursor(self, frame: TextFrame) -> None:
        row, column = (frame.cursor.row, frame.cursor.column) if frame.cursor else (self._top, self._left)
        self._top = _first_seen(self._top, row, self._size.lines, frame.rows)
        self._left = _first_seen(self._left, column, self._size.columns, frame.columns)

    def _text(self, frame: TextFrame) -> list[list[Cell]]:
        columns, lines = self._size
        known: dict[bytes, Cell] = {}
        grid = []
        for row in range(self._top, self._top + lines):
            line = []
            first = 2 * (row * frame.columns + self._left)
            last = 2 * (row * frame.columns + min(frame.columns, self._left + columns))
            for at in range(first, last, 2) if row < frame.rows else ():
                pair = frame.cells[at : at + 2]
                if pair not in known:
                    known[pair] = self._cell(frame, pair[0], pair[1])
                line.append(known[pair])
            grid.append(line + [_BLANK] * (columns - len(line)))
        return grid

    def _cell(self, frame: TextFrame, code: int, attribute: int) -> Cell:
        ink, background = (frame.palette[3 * number : 3 * number + 3] for number in frame.colours_of(attribute))
        style = self._shades.style(ink, background)
        if frame.is_blinking(attribute):
            style += ";5"
        if frame.is_underlined(attribute):
            style += ";4"
        return self._character(CHARACTERS[code]), style

    def _character(self, character: str) -> str:
        if self._look.is_unicode or character.isascii():
            return character
        from kvmbind.machine.screen.ascii import nearest

        return nearest(character)

    # Pictures

    def _picture(self, picture: Picture) -> list[list[Cell]]:
        columns, lines = self._size
        if columns < LEAST_COLUMNS or lines < LEAST_LINES:
            return self._message(f"{picture.width} x {picture.height}: enlarge the terminal")
        # a monitor is 4:3, half a cell about square
        width = min(columns, lines * 8 // 3, picture.width)
        height = min(lines, width * 3 // 8)
        shades = self._shades
        rows = [shades.sampled(row, picture.palette) for row in _samples(picture, width, 2 * height)]
        margin = (columns - width) // 2
        above = (lines - height) // 2
        grid = [[_BLANK] * columns for _ in range(lines)]
        for line in range(height):
            cells = [self._half_block(*pair) for pair in zip(rows[2 * line], rows[2 * line + 1], strict=True)]
            grid[above + line][margin : margin + width] = cells
        return grid

    def _half_block(self, upper: bytes, lower: bytes) -> Cell:
        if upper == lower or not self._look.is_unicode:
            return " ", self._shades.style(upper, upper)
        return UPPER_HALF, self._shades.style(upper, lower)

    def _message(self, text: str) -> list[list[Cell]]:
        columns, lines = self._size
        grid = [[_BLANK] * columns for _ in range(lines)]
        for column, character in enumerate(text[:columns]):
            grid[lines // 2][column] = (character, "0")
        return grid


def _first_seen(first: int, wanted: int, seen: int, total: int) -> int:
    """The first of `seen` rows that moves least from `first` so that `wanted` is among them."""
    first = max(min(first, wanted), wanted - seen + 1)
    return max(0, min(first, total - seen))


def _samples(picture: Picture, width: int, height: int) -> list[list[tuple[int, int, int, int]]]:
    """For each pixel of the picture made smaller, the colours at four places of what it stands for."""
    left = [(4 * x + 1) * picture.width // (4 * width) for x in range(width)]
    right = [(4 * x + 3) * picture.width // (4 * width) for x in range(width)]
    take_left, take_right = itemgetter(*left), itemgetter(*right)
    rows = []
    for y in range(height):
        upper = picture.row((4 * y + 1) * picture.height // (4 * height))
        lower = picture.row((4 * y + 3) * picture.height // (4 * height))
        four = (take_left(upper), take_right(upper), take_left(lower), take_right(lower))
        rows.append(list(zip(*four, strict=True)))
    return rows
