"""Pixels of the graphics modes: what is drawn is what memory then shows, in every mode's own layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvmbind.machine.screen import raster
from kvmbind.machine.screen.capture import raster_of
from kvmbind.machine.screen.font import font
from kvmbind.machine.screen.modes import MODES
from kvmbind.machine.screen.planes import PLANE_SIZE, Planes

if TYPE_CHECKING:
    from tests.machine.screen.conftest import Ram

GRAPHICS = [number for number, mode in MODES.items() if mode.layout != "text"]
A = ord("A")


class Bytes:
    """Memory from A0000h to BFFFFh."""

    def __init__(self) -> None:
        self.data = bytearray(0x20000)

    def read(self, addr: int, length: int, /) -> bytes:
        return bytes(self.data[addr - 0xA0000 :][:length])

    def write(self, data: bytes, addr: int, /) -> None:
        assert 0xA0000 <= addr <= addr + len(data) <= 0xC0000
        self.data[addr - 0xA0000 : addr - 0xA0000 + len(data)] = data


def screen(number: int, start: int = 0) -> raster.Raster:
    return raster_of(MODES[number], Bytes(), Planes(), start)


@pytest.mark.parametrize("number", GRAPHICS)
@given(data=st.data())
def test_a_row_that_is_written_is_read_again_and_no_other_pixel_changes(number: int, data: st.DataObject) -> None:
    mode = MODES[number]
    made = screen(number, data.draw(st.integers(0, mode.size - 1)))
    y = data.draw(st.integers(0, mode.height - 1))
    x = data.draw(st.integers(0, mode.width - 1))
    first, second = (
        bytes(data.draw(st.lists(st.integers(0, (1 << mode.bits) - 1), min_size=1, max_size=min(20, mode.width - x))))
        for _ in range(2)
    )
    made.set_row(y, x, first)
    assert made.row(y, x, len(first)) == first
    made.set_row(y, x, second)
    whole = second + first[len(second) :]
    expected = bytes(x) + whole + bytes(mode.width - x - len(whole))
    assert made.row(y, 0, mode.width) == expected
    assert not any(any(made.row(line, 0, mode.width)) for line in {0, 1, y - 1, y + 1} - {y, -1, mode.height})


@pytest.mark.parametrize(
    ("number", "addr", "value"),
    [
        (0x13, 0xA0000 + 320 * 3 + 5, 0x0F),  # pixel (5, 3), colour 15
        (0x04, 0xB8000 + 0x2000 + 80 + 1, 0x30),  # two bits, the second of four; row 3 is the second odd one
        (0x06, 0xB8000 + 0x2000 + 80 + 0, 0x04),
        (0x11, 0xA0000 + 80 * 3, 0x04),
    ],
)
def test_a_pixel_lies_where_a_program_would_look_for_it(ram: Ram, number: int, addr: int, value: int) -> None:
    raster.set_pixel(raster_of(MODES[number], ram, Planes()), 5, 3, 0x0F)
    assert ram.data[addr] == value
    assert sum(ram.data[0xA0000:0xB8000]) + sum(ram.data[0xB9000:0xC0000]) == value


def test_a_planar_pixel_has_one_bit_in_each_plane_of_its_colour() -> None:
    planes = Planes()
    raster.set_pixel(raster_of(MODES[0x12], Bytes(), planes), 9, 2, 0b1010)
    at = 4 * (2 * 80 + 1)
    assert planes.memory[at : at + 4] == bytes((0, 0x40, 0, 0x40))
    assert sum(planes.memory) == 0x80


@pytest.mark.parametrize("number", GRAPHICS)
def test_a_pixel_outside_is_none_and_does_nothing(number: int) -> None:
    made = screen(number)
    mode = made.mode
    for x, y in ((-1, 0), (0, -1), (mode.width, 0), (0, mode.height), (65535, 65535)):
        raster.set_pixel(made, x, y, 1)
        assert raster.pixel(made, x, y) == 0
    assert not any(raster.pixels(made))


@pytest.mark.parametrize("number", [0x04, 0x06, 0x0D, 0x12])
def test_bit_7_of_a_colour_combines_by_xor_so_that_twice_is_nothing(number: int) -> None:
    made = screen(number)
    raster.set_pixel(made, 10, 10, 0x81)
    assert raster.pixel(made, 10, 10) == 1
    raster.set_pixel(made, 10, 10, 0x81)
    assert raster.pixel(made, 10, 10) == 0


def test_mode_13h_has_no_xor() -> None:
    made = screen(0x13)
    raster.set_pixel(made, 0, 0, 0x81)
    raster.set_pixel(made, 0, 0, 0x81)
    assert raster.pixel(made, 0, 0) == 0x81


@pytest.mark.parametrize("number", GRAPHICS)
def test_a_glyph_is_drawn_in_its_cell(number: int) -> None:
    made = screen(number)
    mode = made.mode
    height = mode.glyph_height
    glyph = font(height)[A * height : (A + 1) * height]
    raster.draw_glyph(made, 2, 1, glyph, 1)
    for line, bits in enumerate(glyph):
        row = made.row(height + line, 0, mode.width)
        assert row[16:24] == bytes(bits >> shift & 1 for shift in range(7, -1, -1))
        assert not any(row[:16] + row[24:])


def test_a_glyph_replaces_what_is_there_but_by_xor_it_can_be_taken_off_again() -> None:
    made = screen(0x04)
    glyph = font(8)[A * 8 : (A + 1) * 8]
    raster.fill(made, 0, 0, 320, 200, 2)
    raster.draw_glyph(made, 0, 0, glyph, 0x83)
    assert made.row(0, 0, 8) == bytes((2, 2, 1, 1, 2, 2, 2, 2))
    raster.draw_glyph(made, 0, 0, glyph, 0x83)
    assert set(raster.pixels(made)) == {2}
    raster.draw_glyph(made, 0, 0, glyph, 3, background=1)
    assert made.row(0, 0, 8) == bytes((1, 1, 3, 3, 1, 1, 1, 1))


def test_a_glyph_in_the_last_row_of_cells_is_cut_at_the_screens_end() -> None:
    made = screen(0x13)
    raster.draw_glyph(made, 39, 12, b"\xff" * 16, 1)
    assert sum(raster.pixels(made)) == 8 * 8


@pytest.mark.parametrize("number", [0x04, 0x0D, 0x13])
@pytest.mark.parametrize("lines", [8, -8])
def test_scrolling_moves_the_rectangle_and_fills_what_becomes_free(number: int, lines: int) -> None:
    made = screen(number)
    for y in range(200):
        made.set_row(y, 0, bytes((y // 8 % 3 + 1,)) * 320)
    raster.scroll(made, 16, 40, 32, 80, lines, 0)
    column = [raster.pixel(made, 20, y) for y in range(200)]
    before = [y // 8 % 3 + 1 for y in range(200)]
    inside = before[40:120]
    moved = inside[8:] + [0] * 8 if lines > 0 else [0] * 8 + inside[:-8]
    assert column == before[:40] + moved + before[120:]
    assert [raster.pixel(made, 15, y) for y in range(200)] == before


@given(start=st.integers(0, PLANE_SIZE - 1), x=st.integers(0, 40), width=st.integers(1, 600), data=st.data())
@example(start=PLANE_SIZE - 80 * 11 - 40, x=0, width=640, data=None)  # row 11 is cut by the planes' end
def test_a_planar_row_is_copied_with_all_its_colours(
    start: int, x: int, width: int, data: st.DataObject | None
) -> None:
    planar = screen(0x12, start)
    colours = (
        bytes(n % 16 for n in range(width)) if data is None else data.draw(st.binary(min_size=width, max_size=width))
    )
    planar.set_row(11, x, colours)
    planar.copy_row(11, 3, x, width)
    assert planar.row(3, x, width) == planar.row(11, x, width) == bytes(colour & 15 for colour in colours)
    planar.copy_row(3, 11, x, width)
    assert planar.row(11, x, width) == planar.row(3, x, width)


def test_scrolling_by_all_lines_or_none_clears_the_rectangle() -> None:
    for lines in (0, 80, 200, -80):
        made = screen(0x13)
        raster.fill(made, 0, 0, 320, 200, 1)
        raster.scroll(made, 0, 0, 320, 80, lines, 7)
        assert raster.pixels(made) == b"\x07" * 320 * 80 + b"\x01" * 320 * 120


@example(0, 5, b"\x01", PLANE_SIZE - 1)  # a row that begins behind the end of the planes
@given(st.integers(0, 199), st.integers(0, 300), st.binary(min_size=1, max_size=20), st.integers(0, PLANE_SIZE - 1))
def test_an_unchained_row_is_read_as_written(y: int, x: int, colours: bytes, start: int) -> None:
    made = raster.UnchainedRaster(Planes(), start)
    made.set_row(y, x, colours)
    assert made.row(y, x, len(colours)) == colours


def test_an_unchained_pixel_is_in_the_plane_of_its_column() -> None:
    planes = Planes()
    raster.set_pixel(raster.UnchainedRaster(planes), 6, 1, 9)
    assert planes.memory[4 * (80 + 1) + 2] == 9
