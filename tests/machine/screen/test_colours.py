"""Palettes: what a colour number looks like in each mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine.screen.colours import Colours, scaled
from kvmbind.machine.screen.modes import MODES

CGA = [
    *("000000", "0000aa", "00aa00", "00aaaa", "aa0000", "aa00aa", "aa5500", "aaaaaa"),
    *("555555", "5555ff", "55ff55", "55ffff", "ff5555", "ff55ff", "ffff55", "ffffff"),
]


def palette(mode: int, bits: int) -> list[str]:
    colours = Colours(mode).palette(bits)
    return [colours[start : start + 3].hex() for start in range(0, len(colours), 3)]


@pytest.mark.parametrize("mode", [0x00, 0x01, 0x02, 0x03, 0x0D, 0x0E, 0x10, 0x12])
def test_sixteen_colours_are_those_of_a_cga_by_whatever_registers(mode: int) -> None:
    assert palette(mode, 4) == CGA


def test_four_colours_are_black_cyan_magenta_and_white() -> None:
    assert palette(0x04, 2) == ["000000", "55ffff", "ff55ff", "ffffff"]


@pytest.mark.parametrize("mode", [0x06, 0x11])
def test_two_colours_are_black_and_white(mode: int) -> None:
    assert palette(mode, 1) == ["000000", "ffffff"]


def test_a_monochrome_screen_is_dark_normal_or_bright() -> None:
    assert {palette(0x07, 4)[number] for number in range(1, 8)} == {"aaaaaa"}
    assert {palette(0x07, 4)[number] for number in range(9, 16)} == {"ffffff"}
    assert palette(0x0F, 4)[:5] == ["000000", "aaaaaa", "000000", "000000", "ffffff"]


def test_256_colours_are_the_16_then_greys_then_hues_from_blue_then_black() -> None:
    colours = palette(0x13, 8)
    assert colours[:16] == CGA
    assert all(colour[:2] == colour[2:4] == colour[4:] for colour in colours[16:32])
    assert colours[32::4][:6] == ["0000ff", "ff00ff", "ff0000", "ffff00", "00ff00", "00ffff"]
    assert colours[247] == "2c3041"
    assert colours[248:] == ["000000"] * 8


def test_each_mode_has_its_registers_and_an_unknown_one_has_those_of_text() -> None:
    for mode in MODES:
        assert len(Colours(mode).dac) == 768
        assert len(Colours(mode).attributes) == 16
    assert Colours(0x99).palette(4) == Colours(0x03).palette(4)


def test_a_changed_attribute_register_shows_another_colour_of_the_dac() -> None:
    colours = Colours(0x03)
    colours.attributes[7] = 0x3F
    assert colours.palette(4)[21:24] == b"\xff\xff\xff"
    colours.dac[3 * 0x3F : 3 * 0x3F + 3] = bytes((63, 0, 1))
    assert colours.palette(4)[21:24] == b"\xff\x00\x04"


@given(st.binary(min_size=1))
def test_levels_are_scaled_so_that_the_highest_is_255_and_order_stays(levels: bytes) -> None:
    for level, value in zip(levels, scaled(levels), strict=True):
        assert value >> 2 == level & 63
        assert abs(value - (level & 63) * 255 / 63) < 1
