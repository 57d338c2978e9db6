"""A text screen as pixels, in kvmbind's font, and pictures in the shape that a monitor gives them."""

from __future__ import annotations

from kvmbind.machine.screen.font import font_for
from kvmbind.machine.screen.frames import Cursor, Frame, Picture, TextFrame
from kvmbind.machine.screen.raster import unpack

CELL_WIDTH = 8
MONITOR_WIDTH = 640
CURSOR_LINES = 8  # of the CGA's cell, which programs take for granted when they shape the cursor


def render(frame: Frame, *, blink_on: bool = True) -> Picture:
    """Returns `frame` as pixels of its own resolution.

    Args:
        frame: A picture is returned as it is.
        blink_on: Whether what blinks, the cursor too, is to be seen.
    """
    return _render_text(frame, blink_on) if isinstance(frame, TextFrame) else frame


def on_monitor(picture: Picture) -> Picture:
    """Returns a picture with its pixels repeated, so that it is about 640 wide and no flatter than 640 x 350."""
    across = max(1, MONITOR_WIDTH // picture.width)
    down = 2 if picture.height <= 240 else 1
    if across == down == 1:
        return picture
    rows = []
    for y in range(picture.height):
        row = picture.row(y)
        if across > 1:
            wide = bytearray(len(row) * across)
            for step in range(across):
                wide[step::across] = row
            row = bytes(wide)
        rows.append(row * down)
    return Picture(picture.width * across, picture.height * down, b"".join(rows), picture.palette)


def cursor_lines(cursor: Cursor, glyph_height: int) -> range:
    """Returns which rows of its cell the cursor fills: a shape made for 8 rows is stretched, as a VGA's BIOS does."""
    first, last = cursor.first_line, cursor.last_line
    if glyph_height > CURSOR_LINES > last:
        first = first * glyph_height // CURSOR_LINES
        last = (last + 1) * glyph_height // CURSOR_LINES - 1
    return range(min(first, glyph_height), min(last + 1, glyph_height))


def _render_text(frame: TextFrame, blink_on: bool) -> Picture:
    height = frame.glyph_height
    images: dict[bytes, list[bytes]] = {}
    rows = []
    for row in range(frame.rows):
        cells = []
        for at in range(2 * row * frame.columns, 2 * (row + 1) * frame.columns, 2):
            cell = frame.cells[at : at + 2]
            if cell not in images:
                images[cell] = _cell_image(frame, cell[0], cell[1], blink_on)
            cells.append(images[cell])
        cursor = frame.cursor
        if blink_on and cursor and cursor.row == row:
            ink, _ = frame.colours_of(frame.cells[2 * (row * frame.columns + cursor.column) + 1])
            image = list(cells[cursor.column])
            for line in cursor_lines(cursor, height):
                image[line] = bytes((ink,)) * CELL_WIDTH
            cells[cursor.column] = image
        rows += [b"".join(lines) for lines in zip(*cells, strict=True)]
    return Picture(frame.columns * CELL_WIDTH, frame.rows * height, b"".join(rows), frame.palette)


def _cell_image(frame: TextFrame, code: int, attribute: int, blink_on: bool) -> list[bytes]:
    height = frame.glyph_height
    glyphs = font_for(height)
    own = len(glyphs) // 256
    glyph = glyphs[code * own : (code + 1) * own][:height].ljust(height, b"\0")
    ink, background = frame.colours_of(attribute)
    if frame.is_underlined(attribute):
        glyph = glyph[:-2] + b"\xff" + glyph[-1:] if height > 2 else glyph
    if frame.is_blinking(attribute) and not blink_on:
        ink = background
    inks = bytes((background, ink)).ljust(256, b"\0")
    return [unpack(glyph[line : line + 1], 1).translate(inks) for line in range(height)]
