"""The CRT controller: what programs make of a picture's shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine.screen.crtc import COUNT, Crtc
from kvmbind.machine.screen.modes import MODES, Shape

#: What programs write for mode 13h's wider and higher kin, by what comes of it.
UNPROTECT = (0x11, 0x0E)
X_320_240 = (UNPROTECT, (0x06, 0x0D), (0x07, 0x3E), (0x10, 0xEA), (0x11, 0xAC), (0x12, 0xDF), (0x14, 0), (0x17, 0xE3))
X_320_400 = (UNPROTECT, (0x09, 0x40), (0x14, 0), (0x17, 0xE3))
X_360_480 = (
    *(UNPROTECT, (0x00, 0x6B), (0x01, 0x59), (0x02, 0x5A), (0x03, 0x8E), (0x04, 0x5E), (0x05, 0x8A), (0x06, 0x0D)),
    *((0x07, 0x3E), (0x09, 0x40), (0x10, 0xEA), (0x11, 0xAC), (0x12, 0xDF), (0x13, 0x2D), (0x14, 0), (0x17, 0xE3)),
)


def written(mode: int, writes: tuple[tuple[int, int], ...]) -> Crtc:
    crtc = Crtc(mode)
    for index, value in writes:
        crtc.write(index, value)
    return crtc


@pytest.mark.parametrize("number", MODES)
def test_every_mode_has_the_shape_that_the_bios_has_set(number: int) -> None:
    assert Crtc(number).shape(MODES[number]) is None


@pytest.mark.parametrize("number", [0x0D, 0x0E, 0x0F, 0x10, 0x12, 0x13])
def test_the_registers_of_a_mode_say_its_shape(number: int) -> None:
    """By what the shape is when a register has changed that matters to nothing but the stride."""
    mode, crtc = MODES[number], Crtc(number)
    crtc.write(0x13, crtc.read(0x13) + 1)
    shape = crtc.shape(mode)
    assert shape is not None
    assert shape[:2] == (mode.width, mode.height)


@pytest.mark.parametrize(
    ("writes", "shape"),
    [(X_320_240, (320, 240, 80)), (X_320_400, (320, 400, 80)), (X_360_480, (360, 480, 90))],
)
def test_mode_13h_gets_the_shapes_of_mode_x(writes: tuple[tuple[int, int], ...], shape: tuple[int, int, int]) -> None:
    assert written(0x13, writes).shape(MODES[0x13]) == Shape(*shape)


def test_a_row_may_be_wider_than_the_screen() -> None:
    assert written(0x12, ((0x13, 0x50),)).shape(MODES[0x12]) == Shape(640, 480, 160)


def test_the_first_registers_cannot_be_written_until_they_are_unprotected() -> None:
    crtc = Crtc(0x13)
    crtc.write(0x01, 0x11)
    crtc.write(0x07, 0x00)
    assert (crtc.read(0x01), crtc.read(0x07)) == (0x4F, 0x0F)
    crtc.write(0x11, crtc.read(0x11) & 0x7F)
    crtc.write(0x01, 0x11)
    assert crtc.read(0x01) == 0x11


def test_setting_the_mode_anew_takes_all_back() -> None:
    crtc = written(0x13, X_320_240)
    crtc.reset(0x13)
    assert crtc.shape(MODES[0x13]) is None


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255))), st.sampled_from(sorted(MODES)))
def test_whatever_is_written_the_shape_is_one_that_can_be_shown(writes: list[tuple[int, int]], number: int) -> None:
    crtc = written(number, tuple(writes))
    shape = crtc.shape(MODES[number])
    assert shape is None or (64 <= shape.width <= 1024 and 50 <= shape.height <= 1024 and shape.stride < 512)
    assert all(crtc.read(index) == 0xFF for index in range(COUNT, 256))
