"""Text as pixels: glyphs in their colours, the cursor, blinking, and the shape of the monitor."""

from __future__ import annotations

import pytest

from kvmbind.machine.screen.colours import Colours
from kvmbind.machine.screen.font import font
from kvmbind.machine.screen.frames import Cursor, Picture, TextFrame
from kvmbind.machine.screen.render import cursor_lines, on_monitor, render

PALETTE = Colours().palette(4)


def frame(
    cells: bytes, glyph_height: int = 16, cursor: Cursor | None = None, blinks: bool = True, underlines: bool = False
) -> TextFrame:
    return TextFrame(2, 1, cells, PALETTE, glyph_height, cursor, blinks, underlines)


def rows(picture: Picture) -> list[bytes]:
    return [picture.row(y) for y in range(picture.height)]


@pytest.mark.parametrize("height", [8, 14, 16])
def test_a_cell_is_its_glyph_in_ink_on_background(height: int) -> None:
    picture = render(frame(b"A\x1eB\x07", glyph_height=height))
    assert (picture.width, picture.height, picture.palette) == (16, height, PALETTE)
    for y, bits in enumerate(font(height)[ord("A") * height :][:height]):
        assert picture.row(y)[:8] == bytes(14 if bits >> shift & 1 else 1 for shift in range(7, -1, -1))


def test_bit_7_of_an_attribute_blinks_or_brightens_the_background() -> None:
    cells = b"A\x8f \x07"
    seen, hidden = render(frame(cells)), render(frame(cells), blink_on=False)
    assert {*seen.pixels} == {0, 15}
    assert {*hidden.pixels} == {0}
    bright = frame(cells, blinks=False)
    assert render(bright) == render(bright, blink_on=False)
    assert {*render(bright).row(0)[:8]} == {8}


def test_the_cursor_fills_its_lines_in_the_ink_of_its_cell_and_blinks() -> None:
    blinking = frame(b" \x07 \x1e", cursor=Cursor(1, 0, 13, 14))
    lines = rows(render(blinking))
    assert [y for y, row in enumerate(lines) if row[8:] == b"\x0e" * 8] == [13, 14]
    assert not any(b"".join(row[:8] for row in lines))
    assert {*render(blinking, blink_on=False).pixels} == {0, 1}


@pytest.mark.parametrize(
    ("shape", "height", "lines"),
    [
        ((6, 7), 8, [6, 7]),
        ((6, 7), 16, [12, 13, 14, 15]),
        ((0, 7), 16, list(range(16))),
        ((13, 14), 16, [13, 14]),
        ((13, 14), 8, []),
        ((0, 31), 8, list(range(8))),
    ],
)
def test_a_cursor_made_for_eight_lines_is_stretched_and_a_larger_one_is_cut(
    shape: tuple[int, int], height: int, lines: list[int]
) -> None:
    assert list(cursor_lines(Cursor(0, 0, *shape), height)) == lines


def test_a_monochrome_screen_underlines() -> None:
    underlined = render(frame(b" \x01 \x07", underlines=True))
    assert [y for y, row in enumerate(rows(underlined)) if row[:8] == b"\x01" * 8] == [14]
    assert not any(render(frame(b" \x01 \x07")).pixels)


def test_a_cell_taller_than_any_font_has_its_glyph_at_the_top() -> None:
    tall = render(frame(b"A\x07 \x07", glyph_height=20))
    assert tall.height == 20
    assert rows(tall)[:16] == rows(render(frame(b"A\x07 \x07")))
    assert not any(b"".join(rows(tall)[16:]))


def test_a_picture_is_rendered_as_it_is() -> None:
    picture = Picture(2, 2, b"\0\1\2\3", PALETTE)
    assert render(picture) is picture


@pytest.mark.parametrize(
    ("size", "shown"),
    [((320, 200), (640, 400)), ((640, 200), (640, 400)), ((640, 350), (640, 350)), ((640, 480), (640, 480))],
)
def test_a_monitor_shows_every_mode_about_640_wide(size: tuple[int, int], shown: tuple[int, int]) -> None:
    width, height = size
    pixels = bytes(x % 3 + y % 5 for y in range(height) for x in range(width))
    picture = on_monitor(Picture(width, height, pixels, PALETTE))
    assert (picture.width, picture.height, len(picture.pixels)) == (*shown, shown[0] * shown[1])
    across, down = shown[0] // width, shown[1] // height
    for y in (0, 1, height - 1):
        assert picture.row(y * down)[::across] == pixels[y * width : (y + 1) * width]
        assert picture.row(y * down) == picture.row(y * down + down - 1)
