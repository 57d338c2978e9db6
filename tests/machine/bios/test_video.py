"""INT 10h."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.machine.screen.frames import Picture, TextFrame

if TYPE_CHECKING:
    from tests.machine.conftest import Bench

TEXT = 0xB8000


def test_a_teletype_writes_moves_the_cursor_and_minds_cr_lf_bs_and_bel(bench: Bench) -> None:
    bench.print(b"abc\r\nxyz\b\bY\a")
    assert bench.screen == "abc\nxYz"
    assert bench.data.cursor(0) == (1, 2)


def test_a_teletype_keeps_the_attribute_that_is_there(bench: Bench) -> None:
    bench.memory.write(b"\x20\x4e", TEXT)
    bench.print(b"A")
    assert bench.memory.read(TEXT, 2) == b"A\x4e"


def test_the_last_row_scrolls_and_keeps_its_attribute(bench: Bench) -> None:
    bench.print(b"first\r\n" + b"\n" * 23 + b"last")
    bench.memory.write(b"l\x1f", TEXT + 2 * (80 * 24))
    bench.print(b"\r\nnew")
    assert bench.screen.split("\n")[-2:] == ["last", "new"]
    assert "first" not in bench.screen
    assert bench.memory.read(TEXT + 2 * (80 * 24 + 79) + 1, 1) == b"\x1f"


def test_text_goes_on_in_the_next_row(bench: Bench) -> None:
    bench.print(b"x" * 81)
    assert bench.screen == "x" * 80 + "\nx"


@pytest.mark.parametrize(
    ("mode", "columns", "last_row", "height"),
    [
        (0x00, 40, 24, 16),
        (0x03, 80, 24, 16),
        (0x04, 40, 24, 8),
        (0x11, 80, 29, 16),
        (0x12, 80, 29, 16),
        (0x13, 40, 24, 8),
    ],
)
def test_a_mode_fills_the_data_area_in(bench: Bench, mode: int, columns: int, last_row: int, height: int) -> None:
    bench.call(0x10, ax=mode)
    data = bench.data
    assert (data.video_mode, data.columns, data.last_row, data.glyph_height) == (mode, columns, last_row, height)
    state = bench.call(0x10, ah=0x0F)
    assert (state.al, state.ah, state.bh) == (mode, columns, 0)


def test_setting_a_mode_clears_the_screen_and_homes_the_cursor(bench: Bench) -> None:
    bench.print(b"old")
    bench.call(0x10, ax=0x0003)
    assert bench.screen == ""
    assert bench.data.cursor(0) == (0, 0)
    assert bench.memory.read(TEXT, 4) == b"\x20\x07\x20\x07"


def test_setting_a_mode_with_bit_7_keeps_memory(bench: Bench) -> None:
    bench.print(b"old")
    bench.call(0x10, ax=0x0083)
    assert bench.screen == "old"
    assert bench.call(0x10, ah=0x0F).al == 0x83


def test_a_mode_that_does_not_exist_changes_nothing(bench: Bench) -> None:
    bench.call(0x10, ax=0x0013)
    bench.call(0x10, ax=0x0055)
    assert bench.data.video_mode == 0x13


def test_the_cursor_is_set_and_read_with_its_shape_per_page(bench: Bench) -> None:
    bench.call(0x10, ah=0x02, bh=3, dh=5, dl=7)
    bench.call(0x10, ah=0x01, cx=0x2000)
    found = bench.call(0x10, ah=0x03, bh=3)
    assert (found.dh, found.dl, found.cx) == (5, 7, 0x2000)
    frame = bench.video.frame()
    assert isinstance(frame, TextFrame)
    assert frame.cursor is None


def test_a_window_scrolls_up_down_and_is_cleared(bench: Bench) -> None:
    for row in range(4):
        bench.call(0x10, ah=0x02, dh=row)
        bench.print(bytes((ord("0") + row,)) * 4)
    window = {"ch": 0, "cl": 1, "dh": 3, "dl": 2}
    bench.call(0x10, ax=0x0601, bh=0x17, **window)
    assert bench.screen == "0110\n1221\n2332\n3  3"
    assert bench.memory.read(TEXT + 2 * (3 * 80 + 1), 2) == b"\x20\x17"
    bench.call(0x10, ax=0x0702, bh=0x07, **window)
    assert bench.screen == "0  0\n1  1\n2112\n3223"
    bench.call(0x10, ax=0x0600, bh=0x07, **window)
    assert bench.screen == "0  0\n1  1\n2  2\n3  3"


def test_characters_are_written_with_and_without_an_attribute_and_read_back(bench: Bench) -> None:
    bench.call(0x10, ah=0x09, al=ord("Z"), bl=0x2E, cx=3)
    assert bench.screen == "ZZZ"
    assert bench.data.cursor(0) == (0, 0)
    bench.call(0x10, ah=0x0A, al=ord("Q"), cx=1)
    cell = bench.call(0x10, ah=0x08)
    assert (cell.al, cell.ah) == (ord("Q"), 0x2E)


@pytest.mark.parametrize(("al", "text", "cursor"), [(0, b"hi", (0, 0)), (1, b"hi", (2, 5)), (3, b"h\x1ei\x2e", (2, 5))])
def test_a_string_is_written_where_it_is_told(bench: Bench, al: int, text: bytes, cursor: tuple[int, int]) -> None:
    bench.memory.write(text, 0x5000)
    bench.call(0x10, ah=0x13, al=al, bl=0x1E, cx=2, dh=2, dl=3, es=0x500, bp=0)
    assert bench.screen == "\n\n   hi"
    assert bench.memory.u8(TEXT + 2 * (2 * 80 + 3) + 1) == 0x1E
    assert bench.data.cursor(0) == cursor


def test_a_page_is_shown_where_its_text_is(bench: Bench) -> None:
    bench.print(b"page 0")
    bench.call(0x10, ax=0x0501)
    bench.print(b"page 1")
    assert bench.screen == "page 1"
    bench.call(0x10, ax=0x0500)
    assert bench.screen == "page 0"


@pytest.mark.parametrize("mode", [0x04, 0x06, 0x0D, 0x0E, 0x10, 0x11, 0x12, 0x13])
def test_pixels_are_drawn_and_read_in_each_graphics_mode(bench: Bench, mode: int) -> None:
    bench.call(0x10, ax=mode)
    bench.call(0x10, ah=0x0C, al=1, cx=5, dx=7)
    assert bench.call(0x10, ah=0x0D, cx=5, dx=7).al == 1
    frame = bench.video.frame()
    assert isinstance(frame, Picture)
    assert [at for at, colour in enumerate(frame.pixels) if colour] == [7 * frame.width + 5]


@pytest.mark.parametrize("mode", [0x04, 0x06, 0x0D, 0x10, 0x11, 0x12, 0x13])
def test_a_teletype_draws_in_graphics_modes(bench: Bench, mode: int) -> None:
    bench.call(0x10, ax=mode)
    for character in b"Hi\r\nyou":
        bench.call(0x10, ah=0x0E, al=character, bl=1)
    assert bench.screen == "Hi\nyou"


def test_the_16_colour_modes_take_the_aperture_over_and_text_gives_it_back(bench: Bench) -> None:
    for mode in (0x12, 0x0D, 0x13, 0x12, 0x03):
        bench.call(0x10, ax=mode)
    assert bench.apertures == [True, False, True, False]


def test_the_palette_is_written_and_read(bench: Bench) -> None:
    bench.call(0x10, ax=0x0013)
    bench.call(0x10, ax=0x1010, bx=5, dh=1, ch=2, cl=3)
    colour = bench.call(0x10, ax=0x1015, bx=5)
    assert (colour.dh, colour.ch, colour.cl) == (1, 2, 3)
    bench.memory.write(bytes(range(6)), 0x5000)
    bench.call(0x10, ax=0x1012, bx=254, cx=2, es=0x500)
    assert bytes(bench.video.colours.dac[-6:]) == bytes(range(6))


def test_a_font_is_in_the_rom(bench: Bench) -> None:
    found = bench.call(0x10, ax=0x1130, bx=0x0600)
    assert found.cx == 16
    glyph = bench.memory.read((found.es << 4) + found.bp + 16 * ord("A"), 16)
    assert any(glyph)


def test_what_is_written_goes_to_the_console_too(bench: Bench) -> None:
    bench.print(b"ok\r\n")
    assert bench.host.printed == b"ok\r\n"


def test_a_vga_is_there(bench: Bench) -> None:
    assert bench.call(0x10, ax=0x1A00).bl == 0x08
    assert bench.call(0x10, ah=0x12, bl=0x10).bl == 3
