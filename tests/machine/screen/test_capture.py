"""From memory to frames: what a program writes into video memory is what the frame says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine.screen import raster
from kvmbind.machine.screen.capture import Camera, capture, raster_of
from kvmbind.machine.screen.colours import Colours
from kvmbind.machine.screen.crtc import Crtc
from kvmbind.machine.screen.font import font
from kvmbind.machine.screen.frames import Cursor, Picture, TextFrame
from kvmbind.machine.screen.modes import MODES
from kvmbind.machine.screen.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.machine.screen.conftest import Ram

GRAPHICS = [number for number, mode in MODES.items() if mode.layout != "text"]


def text_of(ram: Ram, start: int | None = None) -> TextFrame:
    frame = capture(ram, Colours(), Planes(), start=start)
    assert isinstance(frame, TextFrame)
    return frame


def test_text_is_read_in_rows_without_the_blanks_at_their_ends(ram: Ram) -> None:
    ram.type_text("Hello, world", row=2, column=3)
    ram.type_text("█ böx ═╗", row=4)
    assert text_of(ram).text() == "\n\n   Hello, world\n\n█ böx ═╗"


def test_a_blank_screen_is_no_text(ram: Ram) -> None:
    assert text_of(ram).text() == ""
    assert text_of(ram).lines() == [""] * 25


def test_monochrome_text_is_at_b0000h_and_underlines(ram: Ram) -> None:
    ram.set_mode(0x07)
    ram.type_text("MDA", attribute=0x01, base=0xB0000)
    frame = text_of(ram)
    assert frame.text() == "MDA"
    assert frame.is_underlined(0x01)
    assert not frame.is_underlined(0x07)


def test_columns_and_rows_are_those_of_the_bios_data_area(ram: Ram) -> None:
    ram.set_mode(0x01, columns=40)
    ram.write(b"A\x07" * 40 + b"B\x07" * 40, 0xB8000)
    assert text_of(ram).lines()[:2] == ["A" * 40, "B" * 40]
    ram.set_mode(0x03, rows=50, glyph_height=8)
    frame = text_of(ram)
    assert (frame.rows, frame.glyph_height, len(frame.lines())) == (50, 8, 50)


def test_another_page_is_shown_with_its_own_cursor(ram: Ram) -> None:
    ram.type_text("page one", base=0xB9000)
    ram.data[0x462] = 1
    ram.write((0x1000).to_bytes(2, "little"), 0x44E)
    ram.write(bytes((5, 7)), 0x452)
    frame = text_of(ram)
    assert frame.text() == "page one"
    assert frame.cursor == Cursor(5, 7, 13, 14)


def test_the_crtcs_start_counts_cells_and_wraps_at_the_end_of_video_memory(ram: Ram) -> None:
    ram.type_text("first", row=1)
    assert text_of(ram, start=80).lines()[0] == "first"
    ram.type_text("end", base=0xC0000 - 160)
    ram.type_text("begin")
    assert text_of(ram, start=0x4000 - 80).lines()[:2] == ["end", "begin"]


@pytest.mark.parametrize("shape", [0x2000, 0x2607, 0x0F00])
def test_a_hidden_cursor_is_none(ram: Ram, shape: int) -> None:
    ram.write(shape.to_bytes(2, "little"), 0x460)
    assert text_of(ram).cursor is None


def test_a_cursor_outside_of_the_screen_is_none(ram: Ram) -> None:
    ram.write(bytes((80, 0)), 0x450)
    assert text_of(ram).cursor is None
    ram.write(bytes((0, 25)), 0x450)
    assert text_of(ram).cursor is None


@given(st.binary(min_size=0x3E, max_size=0x3E), st.none() | st.integers(0, 0xFFFF))
def test_whatever_is_in_the_bios_data_area_gives_a_frame(make_ram: type[Ram], data: bytes, start: int | None) -> None:
    ram = make_ram()
    ram.write(data, 0x449)
    frame = capture(ram, Colours(), Planes(), start=start)
    if isinstance(frame, TextFrame):
        assert len(frame.cells) == 2 * frame.columns * frame.rows
    else:
        assert len(frame.pixels) == frame.width * frame.height


@pytest.mark.parametrize("number", GRAPHICS)
def test_a_picture_has_the_pixels_that_were_drawn_and_their_colours(ram: Ram, number: int) -> None:
    mode = MODES[number]
    ram.set_mode(number, columns=mode.columns)
    planes = Planes(number)
    raster.set_pixel(raster_of(mode, ram, planes), 17, 5, 1)
    picture = capture(ram, Colours(number), planes)
    assert isinstance(picture, Picture)
    assert (picture.width, picture.height) == (mode.width, mode.height)
    assert [at for at, colour in enumerate(picture.pixels) if colour] == [5 * mode.width + 17]
    assert picture.palette == Colours(number).palette(mode.bits)


def test_a_planar_page_is_at_the_start_that_the_bios_data_area_names(ram: Ram) -> None:
    ram.set_mode(0x0D, columns=40)
    ram.write((0x2000).to_bytes(2, "little"), 0x44E)
    planes = Planes()
    planes.memory[4 * 0x2000 + 2] = 0x80
    picture = capture(ram, Colours(0x0D), planes)
    assert isinstance(picture, Picture)
    assert picture.pixels[0] == 4


def test_mode_13h_with_its_planes_apart_is_read_from_them_in_as_many_rows_as_the_crtc_shows(ram: Ram) -> None:
    ram.set_mode(0x13, columns=40)
    planes = Planes(0x13)
    planes.memory[4 * 80 * 239 + 5] = 7
    assert isinstance(capture(ram, Colours(0x13), planes), Picture)
    planes.write_port(0x3C4, 2, 0x0604)
    crtc = Crtc(0x13)
    for index, value in ((0x11, 0x0E), (0x07, 0x3E), (0x12, 0xDF)):
        crtc.write(index, value)
    picture = capture(ram, Colours(0x13), planes, crtc=crtc)
    assert isinstance(picture, Picture)
    assert (picture.width, picture.height, len(picture.palette)) == (320, 240, 768)
    assert picture.row(239)[5] == 7


@pytest.mark.parametrize("number", [0x12, 0x13])
def test_a_row_begins_where_the_crtc_says(ram: Ram, number: int) -> None:
    """The second row of a screen that shows a part of a wider picture."""
    ram.set_mode(number, columns=MODES[number].columns)
    planes, crtc = Planes(number), Crtc(number)
    planes.write_port(0x3C4, 2, 0x0604)
    crtc.write(0x13, 0x32)
    planes.memory[4 * 2 * 0x32] = 0x80
    picture = capture(ram, Colours(number), planes, crtc=crtc)
    assert isinstance(picture, Picture)
    assert (picture.width, picture.height) == (MODES[number].width, MODES[number].height)
    assert [at for at, colour in enumerate(picture.pixels) if colour] == [picture.width]


@pytest.mark.parametrize("number", GRAPHICS)
def test_what_a_bios_writes_in_a_graphics_mode_can_be_read_as_text(ram: Ram, number: int) -> None:
    mode = MODES[number]
    ram.set_mode(number, columns=mode.columns)
    planes = Planes(number)
    made = raster_of(mode, ram, planes)
    height = mode.glyph_height
    glyphs = [font(height)[start : start + height] for start in range(0, 256 * height, height)]
    for column, code in enumerate("Hi, you! █".encode("cp437"), start=1):
        raster.draw_glyph(made, column, 2, glyphs[code], 1)
    raster.draw_glyph(made, 0, 0, bytes(255 - row for row in glyphs[ord("A")]), 1)
    assert capture(ram, Colours(number), planes).text() == "A\n\n Hi, you!"


def change_nothing(ram: Ram, colours: Colours, planes: Planes) -> None:
    ram.data[0x500] = 1  # behind the video part of the BIOS data area


def change_a_cell(ram: Ram, colours: Colours, planes: Planes) -> None:
    ram.type_text("x")


def change_the_cursor(ram: Ram, colours: Colours, planes: Planes) -> None:
    ram.data[0x450] = 1


def change_a_colour(ram: Ram, colours: Colours, planes: Planes) -> None:
    colours.dac[0] = 1


def change_a_register(ram: Ram, colours: Colours, planes: Planes) -> None:
    colours.attributes[0] = 1


def change_blinking(ram: Ram, colours: Colours, planes: Planes) -> None:
    colours.blinks = False


def change_the_mode(ram: Ram, colours: Colours, planes: Planes) -> None:
    ram.set_mode(0x12)
    colours.load(0x12)


def change_a_plane(ram: Ram, colours: Colours, planes: Planes) -> None:
    change_the_mode(ram, colours, planes)
    planes.memory[0] = 0x80


CHANGES = [
    *(change_a_cell, change_the_cursor, change_a_colour, change_a_register, change_blinking),
    *(change_the_mode, change_a_plane),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_camera_sees_every_change(ram: Ram, change: Callable[[Ram, Colours, Planes], None]) -> None:
    colours, planes = Colours(), Planes()
    camera = Camera(ram, colours, planes)
    before = camera.look()
    change(ram, colours, planes)
    assert camera.look() != before
    assert camera.look() == capture(ram, colours, planes)


def test_a_camera_works_nothing_out_twice(ram: Ram) -> None:
    colours, planes = Colours(), Planes()
    camera = Camera(ram, colours, planes)
    before = camera.look()
    change_nothing(ram, colours, planes)
    assert camera.look() is before
    assert camera.look(start=80) is not before
