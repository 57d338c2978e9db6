"""The display as a BIOS drives it: modes, pages, the cursor, characters and pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.bios.data_area import PAGES
from kvmbind.machine.screen import raster
from kvmbind.machine.screen.capture import Camera, raster_of
from kvmbind.machine.screen.colours import Colours
from kvmbind.machine.screen.crtc import Crtc
from kvmbind.machine.screen.font import font_for
from kvmbind.machine.screen.modes import MODES, TEXT, Mode
from kvmbind.machine.screen.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.machine.bios.data_area import DataArea
    from kvmbind.machine.memory import PhysicalMemory
    from kvmbind.machine.screen.frames import Frame
    from kvmbind.machine.screen.raster import Raster

KEEP_MEMORY = 0x80
_BLANK = 0x20
_GREY_ON_BLACK = 0x07
_TEXT_CURSOR = 0x0607
_BEL, _BS, _LF, _CR = 0x07, 0x08, 0x0A, 0x0D
_CRTC_COLOUR, _CRTC_MONOCHROME = 0x3D4, 0x3B4
_VIDEO_OPTIONS, _VIDEO_SWITCHES, _VIDEO_FLAGS, _VGA_COLOUR = 0x60, 0xF9, 0x51, 0x08
_CRT_MODES = {0: 0x2C, 1: 0x28, 2: 0x2D, 3: 0x29, 4: 0x2A, 5: 0x2E, 6: 0x1E, 7: 0x29}
_PAGE_BYTES = {0x00: 0x800, 0x01: 0x800, 0x02: 0x1000, 0x03: 0x1000, 0x07: 0x1000, 0x0D: 0x2000, 0x0E: 0x4000}
_PAGE_BYTES |= {0x04: 0x4000, 0x05: 0x4000, 0x06: 0x4000, 0x0F: 0x8000, 0x10: 0x8000}


class Video:
    """A VGA's state behind INT 10h. What programs write into video memory or the data area themselves counts too.

    Threads: its methods belong to whoever has the PC's lock; `frame` may be called by any, and may see half a change.

    Attributes:
        colours: The colour registers.
        planes: The memory of the 16-colour modes.
        crtc: The CRT controller's registers.
        crtc_start: What a program has set as the CRTC's start address; None: what the BIOS has.
        on_character: Told of each character that is written as on a teletype.
    """

    __slots__ = (
        "_aperture",
        "_camera",
        "_data",
        "_memory",
        "colours",
        "crtc",
        "crtc_start",
        "is_trapped",
        "on_character",
        "planes",
    )

    def __init__(
        self,
        memory: PhysicalMemory,
        data: DataArea,
        set_aperture: Callable[[bool], object],
        on_character: Callable[[int], object],
    ) -> None:
        """Takes the guest's memory, and who makes A0000h-AFFFFh plain memory or not.

        Args:
            memory: Video memory is in it.
            data: The BIOS data area in it.
            set_aperture: Called with whether accesses to A0000h-AFFFFh are to come to `planes`.
            on_character: See the attributes.
        """
        self._data = data
        self._memory = memory
        self._aperture = set_aperture
        self.is_trapped = False
        self.colours = Colours()
        self.planes = Planes()
        self.crtc = Crtc()
        self._camera = Camera(memory, self.colours, self.planes, self.crtc)
        self.crtc_start: int | None = None
        self.on_character = on_character

    @property
    def mode(self) -> Mode:
        """The mode that the data area names."""
        return MODES.get(self._data.video_mode & 0x7F, TEXT)

    def frame(self) -> Frame:
        """Returns what the screen shows: the same frame again as long as that does not change."""
        return self._camera.look(start=self.crtc_start)

    def set_mode(self, number: int) -> None:
        """Does INT 10h/00h; a mode that does not exist changes nothing."""
        mode = MODES.get(number & 0x7F)
        if mode is None:
            return
        data = self._data
        is_text = mode.layout == "text"
        data.video_mode = mode.number
        data.columns = mode.columns
        data.last_row = mode.rows - 1
        data.glyph_height = mode.glyph_height
        data.page_bytes = _PAGE_BYTES.get(mode.number, 0)
        data.page = data.page_start = 0
        data.cursor_shape = _TEXT_CURSOR if is_text else 0
        data.crtc_port = _CRTC_MONOCHROME if mode.number == 0x07 else _CRTC_COLOUR
        data.crt_mode = _CRT_MODES.get(mode.number, 0x29)
        data.crt_palette = 0x30
        data.video_options = _VIDEO_OPTIONS | number & KEEP_MEMORY
        data.video_switches, data.video_flags, data.display_combination = _VIDEO_SWITCHES, _VIDEO_FLAGS, _VGA_COLOUR
        for page in range(PAGES):
            data.set_cursor(page, 0, 0)
        self.crtc_start = None
        self.colours.load(mode.number)
        self.planes.reset(mode.number)
        self.crtc.reset(mode.number)
        if not number & KEEP_MEMORY:
            self._clear(mode)
        self.watch_aperture()

    def _clear(self, mode: Mode) -> None:
        if mode.layout == "planar":
            self.planes.clear()
        else:
            blank = bytes((_BLANK, _GREY_ON_BLACK)) if mode.layout == "text" else b"\0\0"
            self._memory.write(blank * (mode.size // 2), mode.base)

    def watch_aperture(self) -> None:
        """Makes A0000h-AFFFFh what the mode and the planes' registers say: plain memory, or the planes."""
        mode = self.mode
        trapped = mode.layout == "planar" or (mode.number == 0x13 and not self.planes.chained)
        if trapped != self.is_trapped:
            self.is_trapped = trapped
            self._aperture(trapped)

    # Text and characters

    @property
    def rows(self) -> int:
        """Rows of characters."""
        return min(self._data.last_row + 1, 60) if self._data.last_row else self.mode.rows

    @property
    def columns(self) -> int:
        """Characters in a row."""
        columns = self._data.columns
        return columns if 0 < columns <= 132 else self.mode.columns

    def _raster(self) -> Raster:
        return raster_of(self.mode, self._memory, self.planes)

    def _cell(self, page: int, row: int, column: int) -> int:
        mode = self.mode
        offset = page % PAGES * self._data.page_bytes + 2 * (row * self.columns + column)
        return mode.base + offset % mode.size

    def read_cell(self, page: int) -> tuple[int, int]:
        """Returns character and attribute at a page's cursor; in graphics modes a blank."""
        row, column = self._data.cursor(page)
        if self.mode.layout != "text":
            return _BLANK, 0
        character, attribute = self._memory.read(self._cell(page, row, column), 2)
        return character, attribute

    def room(self, page: int) -> int:
        """Returns how many characters there are from a page's cursor to the end of the screen."""
        row, column = self._data.cursor(page)
        return max(0, (self.rows - row) * self.columns - column)

    def put(self, page: int, character: int, attribute: int | None, count: int = 1, *, first: int = 0) -> None:
        """Writes a character `count` times from a page's cursor on, which stays.

        Args:
            page: Of text.
            character: Of code page 437.
            attribute: Of text, or the colour in graphics modes; None keeps what is there.
            count: It goes on in the next row, and ends with the screen.
            first: So many places from the cursor on are left out.
        """
        row, column = self._data.cursor(page)
        column += first
        count = max(0, min(count, self.room(page) - first))
        if self.mode.layout != "text":
            self._draw(row, column, character, _GREY_ON_BLACK if attribute is None else attribute, count)
            return
        addr = self._cell(page, row, column)
        cells = bytearray(self._memory.read(addr, 2 * count))
        cells[::2] = bytes((character,)) * count
        if attribute is not None:
            cells[1::2] = bytes((attribute,)) * count
        self._memory.write(cells, addr)

    def _draw(self, row: int, column: int, character: int, colour: int, count: int) -> None:
        mode = self.mode
        glyph = self._glyph(character)
        surface = self._raster()
        columns = mode.width // 8
        for at in range(row * columns + column, row * columns + column + count):
            if at // columns < mode.height // len(glyph):
                raster.draw_glyph(surface, at % columns, at // columns, glyph, colour)

    def _glyph(self, character: int) -> bytes:
        height = self.mode.glyph_height
        font = font_for(height)
        return font[character * height : (character + 1) * height]

    def teletype(self, character: int, page: int, colour: int | None = None) -> None:
        """Writes as on a teletype: CR, LF, BS and BEL count, the cursor moves, the screen scrolls.

        Args:
            character: Of code page 437.
            page: Of text.
            colour: Of the ink in graphics modes; None in text modes keeps the attribute.
        """
        self.on_character(character)
        rows, columns = self.rows, self.columns
        row, column = self._data.cursor(page)
        row = min(row, rows - 1)
        if character == _CR:
            column = 0
        elif character == _LF:
            row += 1
        elif character == _BS:
            column = max(0, column - 1)
        elif character != _BEL:
            if colour is None:
                self._memory.set_u8(self._cell(page, row, column), character)
            else:
                self._draw(row, column, character, colour, 1)
            column += 1
        if column >= columns:
            row, column = row + 1, 0
        if row >= rows:
            row = rows - 1
            self.scroll(1, self._fill(page, row, column), 0, 0, row, columns - 1, page)
        self._data.set_cursor(page, row, column)

    def _fill(self, page: int, row: int, column: int) -> int:
        """The attribute of lines that come in at the bottom: that of the last one."""
        return self._memory.u8(self._cell(page, row, column) + 1) if self.mode.layout == "text" else 0

    def scroll(
        self, lines: int, attribute: int, top: int, left: int, bottom: int, right: int, page: int | None = None
    ) -> None:
        """Moves a window's lines up, or down if `lines` is negative; 0 clears it. Edges outside are cut off.

        Args:
            lines: How far.
            attribute: Of the lines that come in, or their colour in graphics modes.
            top: First row.
            left: First column.
            bottom: Last row.
            right: Last column.
            page: None is the visible one.
        """
        bottom, right = min(bottom, self.rows - 1), min(right, self.columns - 1)
        if top > bottom or left > right:
            return
        height, width = bottom - top + 1, right - left + 1
        if self.mode.layout == "text":
            self._scroll_text(lines, attribute, top, left, height, width, self._data.page if page is None else page)
        else:
            self._scroll_pixels(lines, attribute, top, left, height, width)

    def _scroll_pixels(self, lines: int, colour: int, top: int, left: int, height: int, width: int) -> None:
        mode = self.mode
        unit = mode.glyph_height
        across, down = min(8 * width, mode.width - 8 * left), min(unit * height, mode.height - unit * top)
        if across > 0 and down > 0:
            raster.scroll(self._raster(), 8 * left, unit * top, across, down, unit * lines, colour)

    def _scroll_text(self, lines: int, attribute: int, top: int, left: int, height: int, width: int, page: int) -> None:
        rows = [self._memory.read(self._cell(page, top + row, left), 2 * width) for row in range(height)]
        blank = bytes((_BLANK, attribute)) * width
        moved = min(abs(lines), height) or height
        rows = rows[moved:] + [blank] * moved if lines >= 0 else [blank] * moved + rows[: height - moved]
        for row, cells in enumerate(rows):
            self._memory.write(cells, self._cell(page, top + row, left))

    def set_page(self, page: int) -> None:
        """Shows another page."""
        if page < PAGES:
            self._data.page = page
            self._data.page_start = page * self._data.page_bytes
            self.crtc_start = None

    def pixel(self, x: int, y: int) -> int:
        """Returns a pixel's colour; 0 in text modes and outside."""
        return raster.pixel(self._raster(), x, y) if self.mode.layout != "text" else 0

    def set_pixel(self, x: int, y: int, colour: int) -> None:
        """Draws a pixel; in text modes and outside it does nothing."""
        if self.mode.layout != "text":
            raster.set_pixel(self._raster(), x, y, colour)
