"""From the machine's memory to a frame: what the screen shows now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.screen.frames import Cursor, Frame, Picture, TextFrame
from kvmbind.machine.screen.modes import MODES, TEXT, Mode
from kvmbind.machine.screen.raster import MODE_X, Memory, PackedRaster, PlanarRaster, Raster, UnchainedRaster, pixels

if TYPE_CHECKING:
    from kvmbind.machine.screen.colours import Colours
    from kvmbind.machine.screen.crtc import Crtc
    from kvmbind.machine.screen.planes import Planes

# of the BIOS data area
MODE = 0x449
COLUMNS = 0x44A
PAGE_START = 0x44E
CURSOR_POSITIONS = 0x450
CURSOR_SHAPE = 0x460
PAGE = 0x462
CLOCK, CLOCK_END = 0x46C, 0x471  # what changes by itself
LAST_ROW = 0x484
GLYPH_HEIGHT = 0x485
END = 0x487

MOST_COLUMNS = 132
MOST_ROWS = 60
CURSOR_HIDDEN = 0x20


class BiosData:
    """The video part of the BIOS data area, as it was when this was made. Guests write anything there."""

    __slots__ = ("data",)

    def __init__(self, memory: Memory) -> None:
        """Reads it; `data` are its bytes."""
        self.data = memory.read(MODE, END - MODE)

    def byte(self, addr: int) -> int:
        """Returns the byte at a guest-physical address."""
        return self.data[addr - MODE]

    def word(self, addr: int) -> int:
        """Returns the word at a guest-physical address."""
        return self.byte(addr) | self.byte(addr + 1) << 8

    @property
    def mode(self) -> Mode:
        """The video mode; 03h if the number is none of a VGA's."""
        return MODES.get(self.byte(MODE) & 0x7F, TEXT)


def capture(
    memory: Memory, colours: Colours, planes: Planes, *, start: int | None = None, crtc: Crtc | None = None
) -> Frame:
    """Returns what the screen shows.

    Args:
        memory: The guest's; video memory is read at A0000h, B0000h or B8000h, except in planar modes.
        colours: The colour registers.
        planes: The planes of the modes 0Dh-10h and 12h, and of mode 13h once a program has unchained them.
        start: The CRTC's start address, in its own units; None takes the page that the BIOS data area names.
        crtc: What tells the shape of pictures in the planes; None: that of the mode.
    """
    bios = BiosData(memory)
    mode = bios.mode
    offset = bios.word(PAGE_START) if start is None else start * mode.start_unit
    if mode.layout == "text":
        return _text(memory, bios, colours, offset)
    raster: Raster
    if mode.layout == "packed" and _is_in_planes(mode, planes):
        shape = crtc.shape(mode) if crtc is not None else None
        raster = UnchainedRaster(planes, offset // mode.start_unit, shape or MODE_X)
    elif mode.layout == "planar":
        raster = PlanarRaster(mode, planes, offset, crtc.shape(mode) if crtc is not None else None)
    else:
        raster = raster_of(mode, memory, planes, offset)
    return Picture(raster.mode.width, raster.mode.height, pixels(raster), colours.palette(mode.bits))


class Camera:
    """Captures frames of one machine, and works out only those that differ from the last one.

    Threads: any may look. What is taken while the guest draws may have half of a change; the next look has the rest.
    """

    __slots__ = ("_colours", "_crtc", "_last", "_memory", "_planes")

    def __init__(self, memory: Memory, colours: Colours, planes: Planes, crtc: Crtc | None = None) -> None:
        """Takes what `capture` takes."""
        self._memory = memory
        self._colours = colours
        self._planes = planes
        self._crtc = crtc
        self._last: tuple[object, Frame] | None = None

    def look(self, *, start: int | None = None) -> Frame:
        """Returns what the screen shows, as `capture`: the same frame as long as nothing it is made of changes."""
        state = self._state(start)
        last = self._last
        if last is not None and last[0] == state:
            return last[1]
        frame = capture(self._memory, self._colours, self._planes, start=start, crtc=self._crtc)
        self._last = state, frame
        return frame

    def _state(self, start: int | None) -> object:
        """Everything that a frame is made of, not yet understood."""
        bios = BiosData(self._memory)
        mode = bios.mode
        if _is_in_planes(mode, self._planes):
            video = bytes(self._planes.memory)
        else:
            video = self._memory.read(mode.base, mode.size)
        colours, crtc = self._colours, self._crtc
        shape = None if crtc is None else crtc.shape(mode)
        data = bios.data[: CLOCK - MODE] + bios.data[CLOCK_END - MODE :]
        return data, video, bytes(colours.dac), bytes(colours.attributes), colours.blinks, start, shape


def raster_of(mode: Mode, memory: Memory, planes: Planes, start: int = 0) -> Raster:
    """Returns the pixels of a graphics mode from byte `start` of its memory: what a BIOS draws on."""
    if mode.layout == "planar":
        return PlanarRaster(mode, planes, start)
    return PackedRaster(mode, memory, start)


def _is_in_planes(mode: Mode, planes: Planes) -> bool:
    return mode.layout == "planar" or (mode.number == 0x13 and not planes.chained)


def _text(memory: Memory, bios: BiosData, colours: Colours, offset: int) -> TextFrame:
    mode = bios.mode
    columns, rows = bios.word(COLUMNS), bios.byte(LAST_ROW) + 1
    if not 0 < columns <= MOST_COLUMNS:
        columns = mode.columns
    if not 1 < rows <= MOST_ROWS:
        rows = mode.rows
    length = 2 * columns * rows
    at = offset % mode.size
    cells = memory.read(mode.base + at, min(length, mode.size - at))
    cells += memory.read(mode.base, length - len(cells))
    height = bios.word(GLYPH_HEIGHT)
    return TextFrame(
        columns,
        rows,
        cells,
        colours.palette(mode.bits),
        height if 0 < height <= 32 else mode.glyph_height,
        _cursor(bios, columns, rows),
        colours.blinks,
        underlines=mode.number == 0x07,
    )


def _cursor(bios: BiosData, columns: int, rows: int) -> Cursor | None:
    position = CURSOR_POSITIONS + 2 * (bios.byte(PAGE) & 7)
    column, row = bios.byte(position), bios.byte(position + 1)
    last, first = bios.byte(CURSOR_SHAPE), bios.byte(CURSOR_SHAPE + 1)
    if first & CURSOR_HIDDEN or first & 0x1F > last & 0x1F or column >= columns or row >= rows:
        return None
    return Cursor(column, row, first & 0x1F, last & 0x1F)
