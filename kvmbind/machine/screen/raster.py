"""The pixels of the graphics modes, read and written as a BIOS and a screen do: by rows of colour numbers."""

from __future__ import annotations

from functools import cache
from typing import Protocol

from kvmbind.machine.screen.modes import MODES, Mode, Shape
from kvmbind.machine.screen.planes import PLANE_SIZE, Planes

BANK = 0x2000
XOR = 0x80  # bit 7 of INT 10h's colour: combine with what is there
MODE_X = Shape(320, 200, 80)


class Memory(Protocol):
    """Guest-physical memory, as `Guest` has it."""

    def read(self, addr: int, length: int, /) -> bytes:
        """Returns `length` bytes from `addr`."""

    def write(self, data: bytes, addr: int, /) -> object:
        """Writes `data` at `addr`."""


class Raster(Protocol):
    """The pixels of one mode, at its first page or from another start.

    Rows and columns that the mode does not have are the caller's error. Colours are as many bits as the mode has;
    higher ones are ignored.

    Attributes:
        mode: The mode, with the size of what is shown.
        is_gapless: Whether a row of a mode of one bank begins where the one above ends.
    """

    mode: Mode
    is_gapless: bool

    def row(self, y: int, x: int, width: int) -> bytes:
        """Returns the colours of `width` pixels of row `y` from column `x`, one byte each.

        In a mode of one bank they may go on into the rows below.
        """

    def set_row(self, y: int, x: int, colours: bytes) -> None:
        """Writes the colours of as many pixels of row `y` from column `x`."""

    def copy_row(self, source: int, target: int, x: int, width: int) -> None:
        """Writes `width` pixels of row `source` from column `x` to the same columns of row `target`."""


def pixel(raster: Raster, x: int, y: int) -> int:
    """Returns the colour of one pixel, as INT 10h/0Dh; 0 outside of the screen."""
    mode = raster.mode
    return raster.row(y, x, 1)[0] if 0 <= x < mode.width and 0 <= y < mode.height else 0


def set_pixel(raster: Raster, x: int, y: int, colour: int) -> None:
    """Writes one pixel, as INT 10h/0Ch: with bit 7 of the colour by XOR, but for mode 13h; outside it does nothing."""
    mode = raster.mode
    if 0 <= x < mode.width and 0 <= y < mode.height:
        if colour & XOR and mode.bits < 8:
            colour ^= raster.row(y, x, 1)[0]
        raster.set_row(y, x, bytes((colour & (1 << mode.bits) - 1,)))


def draw_glyph(raster: Raster, column: int, row: int, glyph: bytes, colour: int, background: int = 0) -> None:
    """Draws a character cell, as INT 10h/09h and 0Eh do in graphics modes.

    Args:
        raster: Where.
        column: Of the cell, in cells of 8 pixels.
        row: Of the cell, in cells of as many rows as the glyph has.
        glyph: One byte for each row; bit 7 is the leftmost pixel.
        colour: Of the ink. With bit 7 the ink is combined by XOR and the rest stays, but for mode 13h.
        background: Of the rest.
    """
    mode = raster.mode
    mask = (1 << mode.bits) - 1
    x, y = 8 * column, row * len(glyph)
    combined = colour & XOR and mode.bits < 8
    inks = bytes((0 if combined else background & mask, colour & mask))
    for line in range(max(0, min(len(glyph), mode.height - y))):
        pixels = unpack(glyph[line : line + 1], 1).translate(inks.ljust(256, b"\0"))
        if combined:
            there = raster.row(y + line, x, 8)
            pixels = bytes(new ^ old for new, old in zip(pixels, there, strict=True))
        raster.set_row(y + line, x, pixels)


def fill(raster: Raster, x: int, y: int, width: int, height: int, colour: int) -> None:
    """Fills a rectangle of pixels that lies within the screen."""
    pixels = bytes((colour & (1 << raster.mode.bits) - 1,)) * width
    for line in range(y, y + height):
        raster.set_row(line, x, pixels)


def scroll(raster: Raster, x: int, y: int, width: int, height: int, lines: int, colour: int) -> None:
    """Moves a rectangle's rows up by `lines` pixels (down if negative), and fills what becomes free with `colour`."""
    if abs(lines) >= height or not lines:
        fill(raster, x, y, width, height, colour)
        return
    kept = height - abs(lines)
    for step in range(kept):
        target = y + step if lines > 0 else y + height - 1 - step
        raster.copy_row(target + lines, target, x, width)
    fill(raster, x, y + kept if lines > 0 else y, width, abs(lines), colour)


def pixels(raster: Raster) -> bytes:
    """Returns all pixels, row by row, one byte each."""
    mode = raster.mode
    if mode.banks == 1 and raster.is_gapless:
        return raster.row(0, 0, mode.width * mode.height)
    return b"".join([raster.row(y, 0, mode.width) for y in range(mode.height)])


class PackedRaster:
    """A mode whose pixels lie in memory as bytes (13h) or as fields of bytes, leftmost highest (04h-06h, 11h)."""

    __slots__ = ("_memory", "_start", "mode")
    is_gapless = True

    def __init__(self, mode: Mode, memory: Memory, start: int = 0) -> None:
        """Looks at the pixels from `start` bytes after the mode's base; they wrap at its end."""
        self.mode = mode
        self._memory = memory
        self._start = start

    def row(self, y: int, x: int, width: int) -> bytes:
        """See `Raster`."""
        per_byte = 8 // self.mode.bits
        first, last = x // per_byte, (x + width - 1) // per_byte
        fields = self._read(self._offset(y) + first, last - first + 1)
        left = x - first * per_byte
        return fields if per_byte == 1 else unpack(fields, self.mode.bits)[left : left + width]

    def set_row(self, y: int, x: int, colours: bytes) -> None:
        """See `Raster`."""
        per_byte = 8 // self.mode.bits
        if per_byte > 1:
            colours = _pack(_merged(self, y, x, colours, per_byte), self.mode.bits)
        self._write(self._offset(y) + x // per_byte, colours)

    def copy_row(self, source: int, target: int, x: int, width: int) -> None:
        """See `Raster`."""
        self.set_row(target, x, self.row(source, x, width))

    def _offset(self, y: int) -> int:
        line, bank = divmod(y, self.mode.banks)
        return bank * BANK + line * self.mode.stride

    def _extent(self, offset: int) -> tuple[int, int]:
        """Where a run of bytes that starts there is in memory, and how many bytes are left until it wraps."""
        if self.mode.banks == 1:
            at, end = (self._start + offset) % self.mode.size, self.mode.size
        else:
            at = offset // BANK * BANK + (self._start + offset) % BANK
            end = (at // BANK + 1) * BANK
        return self.mode.base + at, end - at

    def _read(self, offset: int, length: int) -> bytes:
        addr, room = self._extent(offset)
        data = self._memory.read(addr, min(length, room))
        return data if length <= room else data + self._read(offset + room, length - room)

    def _write(self, offset: int, data: bytes) -> None:
        addr, room = self._extent(offset)
        self._memory.write(data[:room], addr)
        if len(data) > room:
            self._write(offset + room, data[room:])


class PlanarRaster:
    """A mode with one bit of each pixel in each plane (0Dh-10h, 12h)."""

    __slots__ = ("_memory", "_start", "_stride", "is_gapless", "mode")

    def __init__(self, mode: Mode, planes: Planes, start: int = 0, shape: Shape | None = None) -> None:
        """Looks at the pixels from byte `start` of the planes; they have the mode's shape unless another is given."""
        self._stride = mode.stride if shape is None else shape.stride
        self.mode = mode if shape is None else mode._replace(width=shape.width, height=shape.height)
        self.is_gapless = 8 * self._stride == self.mode.width
        self._memory = planes.memory
        self._start = start

    def row(self, y: int, x: int, width: int) -> bytes:
        """See `Raster`."""
        first, last = x // 8, (x + width - 1) // 8
        colours = 0
        length = last - first + 1
        for plane in range(4):
            ones = unpack(_read_ring(self._plane(plane), self._at(y, x), length), 1)
            colours |= int.from_bytes(ones, "little") << plane
        return colours.to_bytes(8 * length, "little")[x - 8 * first :][:width]

    def set_row(self, y: int, x: int, colours: bytes) -> None:
        """See `Raster`."""
        colours = _merged(self, y, x, colours, 8)
        start = self._at(y, x)
        for plane in range(4):
            _write_ring(self._plane(plane), start, _pack(colours.translate(_PLANE_BITS[plane]), 1))

    def copy_row(self, source: int, target: int, x: int, width: int) -> None:
        """See `Raster`."""
        if x % 8 or width % 8:
            self.set_row(target, x, self.row(source, x, width))
            return
        all_planes = memoryview(self._memory)  # four bytes side by side are eight pixels
        _write_ring(all_planes, 4 * self._at(target, x), _read_ring(all_planes, 4 * self._at(source, x), width // 2))

    def _at(self, y: int, x: int) -> int:
        return (self._start + y * self._stride + x // 8) % PLANE_SIZE

    def _plane(self, plane: int) -> memoryview:
        return memoryview(self._memory)[plane::4]


class UnchainedRaster:
    """Mode 13h with its planes apart ("mode X"): pixel x of a row is byte x / 4 of plane x % 4."""

    __slots__ = ("_memory", "_start", "_stride", "is_gapless", "mode")

    def __init__(self, planes: Planes, start: int = 0, shape: Shape = MODE_X) -> None:
        """Looks at the pixels from byte `start` of the planes."""
        self.mode = MODES[0x13]._replace(width=shape.width, height=shape.height)
        self.is_gapless = 4 * shape.stride == shape.width
        self._stride = shape.stride
        self._memory = planes.memory
        self._start = start

    def row(self, y: int, x: int, width: int) -> bytes:
        """See `Raster`."""
        return _read_ring(memoryview(self._memory), self._at(y, x), width)

    def set_row(self, y: int, x: int, colours: bytes) -> None:
        """See `Raster`."""
        _write_ring(memoryview(self._memory), self._at(y, x), colours)

    def copy_row(self, source: int, target: int, x: int, width: int) -> None:
        """See `Raster`."""
        self.set_row(target, x, self.row(source, x, width))

    def _at(self, y: int, x: int) -> int:
        return (4 * (self._start + y * self._stride) + x) % len(self._memory)


def _read_ring(ring: memoryview, at: int, length: int) -> bytes:
    """Returns a run of bytes that may go on at the beginning."""
    run = bytes(ring[at : at + length])
    return run + bytes(ring[: length - len(run)])


def _write_ring(ring: memoryview, at: int, data: bytes) -> None:
    """Stores a run of bytes that may go on at the beginning."""
    room = len(ring) - at
    ring[at : at + len(data)] = data[:room]
    ring[: max(0, len(data) - room)] = data[room:]


def unpack(octets: bytes, bits: int) -> bytes:
    """Returns a byte for each field of `bits` bits of `octets`, highest first."""
    return b"".join(map(_fields(bits).__getitem__, octets))


def _pack(colours: bytes, bits: int) -> bytes:
    # as many digits of base 2 or 4: Python converts those at once
    return int(colours.translate(_DIGITS[bits]), 1 << bits).to_bytes(len(colours) * bits // 8, "big")


def _merged(raster: Raster, y: int, x: int, colours: bytes, per_byte: int) -> bytes:
    """The colours, and before and after them those that are there and share a byte with them."""
    before, after = x % per_byte, -(x + len(colours)) % per_byte
    if before or after:
        around = raster.row(y, x - before, before + len(colours) + after)
        colours = around[:before] + colours + around[before + len(colours) :]
    return colours


@cache
def _fields(bits: int) -> tuple[bytes, ...]:
    mask = (1 << bits) - 1
    return tuple(bytes(octet >> shift & mask for shift in range(8 - bits, -1, -bits)) for octet in range(256))


_DIGITS = {bits: bytes(0x30 | number & (1 << bits) - 1 for number in range(256)) for bits in (1, 2)}
_PLANE_BITS = tuple(bytes(number >> plane & 1 for number in range(256)) for plane in range(4))
