"""What a VGA makes of colour numbers: the attribute controller's 16 registers, and the 256 colours of the DAC."""

from __future__ import annotations

from functools import cache

from kvmbind.machine.screen.modes import MODES

_THIRDS = (0x00, 0x2A)
_BRIGHT = 0x15

_IDENTITY = bytes(range(16))
_EGA = bytes((0, 1, 2, 3, 4, 5, 0x14, 7, *range(0x38, 0x40)))
_LOW = bytes((*range(8), *range(0x10, 0x18)))
_CGA = bytes((0, 0x13, 0x15, 0x17, 2, 4, 6, 7, *range(0x10, 0x18)))
_MONOCHROME = bytes((0, *[0x08] * 7, 0x10, *[0x18] * 7))

#: What INT 10h/00h loads in the attribute controller's registers, by mode.
ATTRIBUTES = {
    **dict.fromkeys((0x00, 0x01, 0x02, 0x03, 0x10, 0x12), _EGA),
    **dict.fromkeys((0x04, 0x05), _CGA),
    0x06: bytes((0, *[0x17] * 15)),
    0x07: _MONOCHROME,
    **dict.fromkeys((0x0D, 0x0E), _LOW),
    0x0F: bytes((0, 0x08, 0, 0, 0x18, 0x18, 0, 0, 0, 0x08, 0, 0, 0, 0x18, 0, 0)),
    0x11: bytes((0, *[0x3F] * 15)),
    0x13: _IDENTITY,
}


class Colours:
    """The colour registers of one machine. A BIOS loads them with `load`; ports 3C0h and 3C8h write single ones.

    Threads: none guards another; a reader may see half of a change, as on a screen.

    Attributes:
        dac: 256 times red, green and blue, of 0-63 each.
        attributes: For each of 16 colours, which of the DAC's it is.
        blinks: Bit 7 of a text cell makes it blink; else its background is bright.
    """

    __slots__ = ("attributes", "blinks", "dac")

    def __init__(self, mode: int = 0x03) -> None:
        """Makes the registers as they are in `mode`."""
        self.dac = bytearray(768)
        self.attributes = bytearray(16)
        self.blinks = True
        self.load(mode)

    def load(self, mode: int) -> None:
        """Loads what INT 10h/00h does; a mode that is none of a VGA's counts as 03h."""
        number = mode if mode in MODES else 0x03
        self.dac[:] = default_dac(number)
        self.attributes[:] = ATTRIBUTES[number]
        self.blinks = True

    def palette(self, bits: int) -> bytes:
        """Returns red, green and blue of 0-255 for each of the colours that pixels of `bits` bits can have."""
        if bits == 8:
            return scaled(self.dac)
        entries = (number & 0x3F for number in self.attributes[: 1 << bits])
        return scaled(b"".join(self.dac[3 * entry : 3 * entry + 3] for entry in entries))


def scaled(levels: bytes | bytearray) -> bytes:
    """Returns levels of 0-255 for the DAC's levels of 0-63; higher bits are ignored."""
    return bytes(levels).translate(_SCALE)


@cache
def default_dac(mode: int) -> bytes:
    """Returns the DAC's 768 levels that INT 10h/00h loads for `mode`."""
    if mode == 0x13:
        return _dac_256()
    if mode in (0x07, 0x0F):
        grey = (level for row in (0, 0x2A, 0, 0x3F) for level in [row] * 8)
        return _repeated([(level, level, level) for level in grey])
    if ATTRIBUTES[mode] in (_EGA, ATTRIBUTES[0x11]):
        return _repeated([_rgb_rgb(number) for number in range(64)])
    sixteen = _sixteen()
    return _repeated([sixteen[number & 7 | number >> 1 & 8] for number in range(64)])


def _repeated(colours: list[tuple[int, int, int]]) -> bytes:
    levels = bytes(level for colour in colours for level in colour)
    return (levels * (768 // len(levels) + 1))[:768]


def _rgb_rgb(number: int) -> tuple[int, int, int]:
    """An EGA's six bits: secondary red, green, blue (a third each), then primary ones (two thirds each)."""
    red, green, blue = (_THIRDS[number >> bit & 1] + _BRIGHT * (number >> bit + 3 & 1) for bit in (2, 1, 0))
    return red, green, blue


def _sixteen() -> list[tuple[int, int, int]]:
    """A CGA's 16 colours: brown is the one that is not what its bits say."""
    colours = [_rgb_rgb(number & 7 | (0x38 if number & 8 else 0)) for number in range(16)]
    colours[6] = (0x2A, 0x15, 0x00)
    return colours


def _dac_256() -> bytes:
    """Mode 13h: a CGA's 16 colours, 16 greys, and 24 hues in three saturations of three intensities; 8 are black."""
    greys = (0x00, 0x05, 0x08, 0x0B, 0x0E, 0x11, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x2D, 0x32, 0x38, 0x3F)
    colours = [*_sixteen(), *((grey, grey, grey) for grey in greys)]
    for levels in (
        (0x00, 0x10, 0x1F, 0x2F, 0x3F),
        (0x1F, 0x27, 0x2F, 0x37, 0x3F),
        (0x2D, 0x31, 0x36, 0x3A, 0x3F),
        (0x00, 0x07, 0x0E, 0x15, 0x1C),
        (0x0E, 0x11, 0x15, 0x18, 0x1C),
        (0x14, 0x16, 0x18, 0x1A, 0x1C),
        (0x00, 0x04, 0x08, 0x0C, 0x10),
        (0x08, 0x0A, 0x0C, 0x0E, 0x10),
        (0x0B, 0x0C, 0x0D, 0x0F, 0x10),
    ):
        colours += _hues(levels)
    return bytes(level for colour in colours for level in colour).ljust(768, b"\0")


def _hues(levels: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """24 hues round the circle from blue by red and green: one component moves along `levels` at a time."""
    low, high = levels[0], levels[-1]
    rising, falling = levels[:4], levels[:0:-1]
    hues = [(level, low, high) for level in rising]
    hues += [(high, low, level) for level in falling]
    hues += [(high, level, low) for level in rising]
    hues += [(level, high, low) for level in falling]
    hues += [(low, high, level) for level in rising]
    return hues + [(low, level, high) for level in falling]


_SCALE = bytes((level & 0x3F) << 2 | (level & 0x3F) >> 4 for level in range(256))
