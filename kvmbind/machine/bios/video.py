"""INT 10h: the display."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.bios import rom
from kvmbind.machine.bios.services import service
from kvmbind.machine.bios.slices import in_slices

if TYPE_CHECKING:
    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call

_BAR, _GREEN, _RED = 0x20, 0x3F, 0x30  # what set mode leaves in AL
_FONTS = {
    0x00: (None, 0x1F),
    0x01: (None, 0x43),
    0x02: (rom.FONT_8X14, 14),
    0x03: (rom.FONT_8X8, 8),
    0x04: (rom.FONT_8X8 + 128 * 8, 8),
    0x06: (rom.FONT_8X16, 16),
}
_ATTRIBUTES = 0x10
_SUPPORTED_12H = (0x30, 0x31, 0x32, 0x33, 0x34, 0x36)


@service(0x10)
def other_video(bios: Bios, call: Call) -> None:
    """Functions that do not exist change nothing, not even a flag."""


@service(0x10, 0x00)
def set_mode(bios: Bios, call: Call) -> None:
    """AL: the mode; with bit 7 memory stays."""
    number = call.al
    bios.video.set_mode(number)
    call.al = _GREEN if number & 0x7F == 6 else _RED if number & 0x7F < 8 else _BAR


@service(0x10, 0x01)
def set_cursor_shape(bios: Bios, call: Call) -> None:
    """CX: first and last row of pixels."""
    bios.data.cursor_shape = call.cx


@service(0x10, 0x02)
def set_cursor(bios: Bios, call: Call) -> None:
    """BH: page; DH, DL: row and column."""
    bios.data.set_cursor(call.bh, call.dh, call.dl)


@service(0x10, 0x03)
def get_cursor(bios: Bios, call: Call) -> None:
    """BH: page. Returns DH, DL: row and column; CX: shape."""
    row, column = bios.data.cursor(call.bh)
    call.dh, call.dl = row, column
    call.cx = bios.data.cursor_shape
    call.ax = 0


@service(0x10, 0x04)
def get_light_pen(bios: Bios, call: Call) -> None:
    """There is none: AH = 0."""
    call.ah = 0


@service(0x10, 0x05)
def set_page(bios: Bios, call: Call) -> None:
    """AL: the page to show."""
    bios.video.set_page(call.al)


@service(0x10, 0x06)
def scroll_up(bios: Bios, call: Call) -> None:
    """AL: lines, 0 clears; BH: attribute; CH, CL: first row and column; DH, DL: last ones."""
    bios.video.scroll(call.al, call.bh, call.ch, call.cl, call.dh, call.dl)


@service(0x10, 0x07)
def scroll_down(bios: Bios, call: Call) -> None:
    """As scroll up, the other way."""
    bios.video.scroll(-call.al, call.bh, call.ch, call.cl, call.dh, call.dl)


@service(0x10, 0x08)
def read_cell(bios: Bios, call: Call) -> None:
    """BH: page. Returns AL: character; AH: attribute."""
    call.al, call.ah = bios.video.read_cell(call.bh)


@service(0x10, 0x09)
def write_cell(bios: Bios, call: Call) -> None:
    """AL: character; BH: page; BL: attribute; CX: how often."""
    _put(bios, call, call.bl)


@service(0x10, 0x0A)
def write_character(bios: Bios, call: Call) -> None:
    """AL: character; BH: page; BL: colour in graphics modes; CX: how often."""
    _put(bios, call, None if bios.video.mode.layout == "text" else call.bl)


def _put(bios: Bios, call: Call, attribute: int | None) -> None:
    video = bios.video
    if video.mode.layout == "text":
        video.put(call.bh, call.al, attribute, call.cx)
        return
    for at in in_slices(bios, call, min(call.cx, video.room(call.bh))):  # a glyph is slow to draw
        video.put(call.bh, call.al, attribute, first=at)


@service(0x10, 0x0B)
def set_cga_palette(bios: Bios, call: Call) -> None:
    """BH: 0 background and border, 1 palette; BL: which."""
    registers = bios.video.colours.attributes
    if call.bh == 0:
        registers[0] = call.bl & 0x0F if call.bl & 0x0F < 8 else 0x10 | call.bl & 0x07
    elif call.bh == 1:
        odd = call.bl & 1
        registers[1:4] = bytes((0x13, 0x15, 0x17) if odd else (0x12, 0x14, 0x16))


@service(0x10, 0x0C)
def write_pixel(bios: Bios, call: Call) -> None:
    """AL: colour; CX, DX: column and row."""
    bios.video.set_pixel(call.cx, call.dx, call.al)


@service(0x10, 0x0D)
def read_pixel(bios: Bios, call: Call) -> None:
    """CX, DX: column and row. Returns AL: colour."""
    call.al = bios.video.pixel(call.cx, call.dx)


@service(0x10, 0x0E)
def teletype(bios: Bios, call: Call) -> None:
    """AL: character; BL: colour in graphics modes. It goes to the visible page."""
    colour = None if bios.video.mode.layout == "text" else call.bl
    bios.video.teletype(call.al, bios.data.page, colour)


@service(0x10, 0x0F)
def get_mode(bios: Bios, call: Call) -> None:
    """Returns AL: mode; AH: columns; BH: page."""
    call.al = bios.data.video_mode | bios.data.video_options & 0x80
    call.ah = bios.data.columns
    call.bh = bios.data.page


@service(0x10, 0x10)
def set_colours(bios: Bios, call: Call) -> None:
    """AL: which of the colour registers; see the branches."""
    colours = bios.video.colours
    match call.al:
        case 0x00 if call.bl < 16:
            colours.attributes[call.bl] = call.bh & 0x3F
        case 0x02:
            table = bios.memory.read((call.es << 4) + call.dx, _ATTRIBUTES)
            colours.attributes[:] = bytes(value & 0x3F for value in table)
        case 0x03:
            colours.blinks = bool(call.bl & 1)
        case 0x07 if call.bl < 16:
            call.bh = colours.attributes[call.bl]
        case 0x09:
            bios.memory.write(bytes(colours.attributes) + b"\0", (call.es << 4) + call.dx)
        case 0x10:
            _write_dac(bios, call.bx, bytes((call.dh, call.ch, call.cl)))
        case 0x12:
            _write_dac(bios, call.bx, bios.memory.read((call.es << 4) + call.dx, min(3 * call.cx, 768)))
        case 0x15:
            call.dh, call.ch, call.cl = colours.dac[3 * call.bl : 3 * call.bl + 3]
        case 0x17:
            first = 3 * (call.bx & 0xFF)
            bios.memory.write(bytes(colours.dac[first : first + 3 * call.cx]), (call.es << 4) + call.dx)
        case _:
            pass


def _write_dac(bios: Bios, first: int, levels: bytes) -> None:
    start = 3 * (first & 0xFF)
    levels = bytes(level & 0x3F for level in levels)[: 768 - start]
    bios.video.colours.dac[start : start + len(levels)] = levels


@service(0x10, 0x11)
def set_font(bios: Bios, call: Call) -> None:
    """AL: 30h returns where a font is in ES:BP; 11h, 12h and 14h load one: rows of text follow its height."""
    if call.al == 0x30:
        offset, height = _FONTS.get(call.bh, (rom.FONT_8X16, 16))
        if offset is None:
            pointer = bios.memory.u32(4 * height)
            call.es, call.bp = pointer >> 16, pointer & 0xFFFF
        else:
            call.es, call.bp = rom.SEGMENT, offset
        call.cx = bios.data.glyph_height
        call.dl = bios.data.last_row
    heights = {0x01: 14, 0x02: 8, 0x04: 16, 0x11: 14, 0x12: 8, 0x14: 16}
    if call.al in heights and bios.video.mode.layout == "text":
        bios.data.glyph_height = heights[call.al]
        if call.al & 0x10:
            bios.data.last_row = 400 // heights[call.al] - 1


@service(0x10, 0x12)
def select_video(bios: Bios, call: Call) -> None:
    """BL 10h returns what there is: BH = 0 colour, BL = 3 (256 KiB), CX: switches. The others do nothing."""
    if call.bl == 0x10:
        call.bh, call.bl, call.cx = 0, 3, 0x0009
    elif call.bl in _SUPPORTED_12H:
        call.al = 0x12


@service(0x10, 0x13)
def write_string(bios: Bios, call: Call) -> None:
    """ES:BP: CX characters, with attributes among them if AL has bit 1; DH, DL: where; bit 0 moves the cursor."""
    page = call.bh
    stride = 2 if call.al & 2 else 1
    text = bios.memory.read((call.es << 4) + call.bp, call.cx * stride)
    if not call.is_resumed:
        row, column = bios.data.cursor(page)
        call.kept = row << 8 | column
        if call.dh != 0xFF:
            bios.data.set_cursor(page, call.dh, call.dl)
    is_text = bios.video.mode.layout == "text"
    for number in in_slices(bios, call, call.cx):
        at = number * stride
        attribute = text[at + 1] if stride == 2 else call.bl
        if is_text and text[at] not in b"\a\b\n\r":
            bios.video.put(page, text[at], attribute)
        bios.video.teletype(text[at], page, None if is_text else attribute)
    if call.is_done and not call.al & 1:
        bios.data.set_cursor(page, *divmod(call.kept, 0x100))


@service(0x10, 0x1A)
def display_combination(bios: Bios, call: Call) -> None:
    """AL 0 returns BL = 08h, a VGA with a colour monitor."""
    if call.al == 0:
        call.bx = 0x0008
    call.al = 0x1A


@service(0x10, 0x1B)
def get_state(bios: Bios, call: Call) -> None:
    """ES:DI gets 64 bytes about the display."""
    state = bytearray(64)
    state[0:4] = (rom.FUNCTIONALITY | rom.SEGMENT << 16).to_bytes(4, "little")
    state[4:34] = bios.memory.read(0x449, 30)
    state[34] = bios.data.last_row + 1 & 0xFF
    state[35:37] = (bios.data.glyph_height & 0xFFFF).to_bytes(2, "little")
    state[37] = 0x08
    state[39:41] = (16).to_bytes(2, "little")
    state[49] = 3
    bios.memory.write(bytes(state), (call.es << 4) + call.di)
    call.al = 0x1B
