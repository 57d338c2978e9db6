"""Colours as a terminal takes them: the parameters of SGR sequences, for terminals of 8, 16, 256 or all colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.screen.colours import Colours
from kvmbind.machine.screen.terminal import EIGHT, TRUECOLOUR, XTERM

if TYPE_CHECKING:
    from collections.abc import Iterable

_STANDARD = Colours().palette(4)
#: Red, green and blue of the PC's 16 colours, which are also what terminals have.
STANDARD = tuple(_STANDARD[start : start + 3] for start in range(0, 48, 3))
#: A PC counts blue, green, red from the lowest bit; ANSI red, green, blue.
_ANSI = tuple(number & 8 | (number & 1) << 2 | number & 2 | number >> 2 & 1 for number in range(16))
_CUBE = (0, 95, 135, 175, 215, 255)
_CUBE_FIRST = 16
_GREY_FIRST, _GREYS = 232, 24


class Shades:
    """The styles of one terminal. What was worked out once is kept, within bounds.

    Threads: one at a time.
    """

    __slots__ = ("_codes", "_colours", "_mixed", "_palette", "_styles")

    MOST_KEPT = 1 << 16

    def __init__(self, colours: int) -> None:
        """Takes how many colours the terminal has."""
        self._colours = colours
        self._codes: dict[bytes, tuple[str, str]] = {}
        self._styles: dict[tuple[bytes, bytes], str] = {}
        self._mixed: dict[tuple[int, int, int, int], bytes] = {}
        self._palette = b""

    def style(self, ink: bytes, background: bytes) -> str:
        """Returns SGR parameters for two colours of three bytes: red, green, blue."""
        key = (ink, background)
        if key not in self._styles:
            if len(self._styles) >= self.MOST_KEPT:
                self._styles.clear()
            self._styles[key] = f"0;{self._code(ink)[0]};{self._code(background)[1]}"
        return self._styles[key]

    def sampled(self, samples: Iterable[tuple[int, int, int, int]], palette: bytes) -> list[bytes]:
        """Returns one colour for each four colour numbers: their mean, or the first on terminals of few colours."""
        if palette != self._palette or len(self._mixed) >= self.MOST_KEPT:
            self._palette = palette
            self._mixed.clear()
        mixed = self._mixed
        colours = []
        for four in samples:
            if four not in mixed:
                mixed[four] = self._mix(four)
            colours.append(mixed[four])
        return colours

    def _mix(self, four: tuple[int, int, int, int]) -> bytes:
        taken = [self._palette[3 * number : 3 * number + 3] for number in four]
        if self._colours < XTERM:
            return taken[0]
        mean = bytes(sum(parts) // 4 for parts in zip(*taken, strict=True))
        # no more shades than the terminal has: so there are fewer styles to change
        return mean if self._colours >= TRUECOLOUR else _cube_colour(mean)[1]

    def _code(self, colour: bytes) -> tuple[str, str]:
        """SGR parameters of a colour as ink and as background."""
        if colour not in self._codes:
            if len(self._codes) >= self.MOST_KEPT:
                self._codes.clear()
            self._codes[colour] = self._work_out(colour)
        return self._codes[colour]

    def _work_out(self, colour: bytes) -> tuple[str, str]:
        if colour not in STANDARD and self._colours >= TRUECOLOUR:
            parts = ";".join(map(str, colour))
            return f"38;2;{parts}", f"48;2;{parts}"
        if colour not in STANDARD and self._colours >= XTERM:
            number, _ = _cube_colour(colour)
            return f"38;5;{number}", f"48;5;{number}"
        number = _ANSI[min(range(16), key=lambda number: _distance(STANDARD[number], colour))]
        if number < 8:
            return f"{30 + number}", f"{40 + number}"
        if self._colours <= EIGHT:
            return f"1;{22 + number}", f"{32 + number}"
        return f"{82 + number}", f"{92 + number}"


def _cube_colour(colour: bytes) -> tuple[int, bytes]:
    """The nearest of xterm's 216 colours and 24 greys: its number, and what it is."""
    places = [min(range(6), key=lambda place: abs(_CUBE[place] - part)) for part in colour]
    red, green, blue = places
    cube = bytes(_CUBE[place] for place in places)
    step = max(0, min(_GREYS - 1, round((sum(colour) / 3 - 8) / 10)))
    grey = bytes((8 + 10 * step,)) * 3
    if _distance(grey, colour) < _distance(cube, colour):
        return _GREY_FIRST + step, grey
    return _CUBE_FIRST + 36 * red + 6 * green + blue, cube


def _distance(left: bytes, right: bytes) -> int:
    return sum((one - other) ** 2 for one, other in zip(left, right, strict=True))
