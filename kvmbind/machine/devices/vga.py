"""The VGA's ports: colours, the cursor and start address, the retrace, the planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.screen import crtc, planes

if TYPE_CHECKING:
    from kvmbind.machine.bios.data_area import DataArea
    from kvmbind.machine.video import Video

_ATTRIBUTE, _ATTRIBUTE_READ = 0x3C0, 0x3C1
_DAC_MASK, _DAC_READ, _DAC_WRITE, _DAC_DATA = 0x3C6, 0x3C7, 0x3C8, 0x3C9
_CRTC = {0x3D4: 0x3D5, 0x3B4: 0x3B5}
_STATUS = (0x3DA, 0x3BA)
_MISCELLANEOUS_WRITE, _MISCELLANEOUS_READ, _CGA_MODE, _CGA_COLOUR = 0x3C2, 0x3CC, 0x3D8, 0x3D9
_MODE_CONTROL, _BLINKS = 0x10, 0x08
_DISPLAY_OFF, _RETRACE = 0x01, 0x08
_RETRACE_PERIOD = 4  # reads of the status

PORTS = (
    *(_ATTRIBUTE, _ATTRIBUTE_READ, _DAC_MASK, _DAC_READ, _DAC_WRITE, _DAC_DATA, *_CRTC, *_CRTC.values(), *_STATUS),
    *(_MISCELLANEOUS_WRITE, _MISCELLANEOUS_READ, _CGA_MODE, _CGA_COLOUR, *planes.PORTS),
)


class Vga:
    """The registers behind the ports 3B4h to 3DAh.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = (
        *("_attribute", "_attribute_is_data", "_crtc_index", "_dac_at", "_data", "_miscellaneous", "_reads", "_video"),
    )

    def __init__(self, video: Video, data: DataArea) -> None:
        """Takes the display, and the data area where the cursor is."""
        self._video = video
        self._data = data
        self._crtc_index = 0
        self._dac_at = 0
        self._attribute = 0
        self._attribute_is_data = False
        self._miscellaneous = 0x67
        self._reads = 0

    def read(self, port: int, size: int) -> int:
        """A register."""
        if port in planes.PORTS:
            return self._video.planes.read_port(port, size)
        if port in _STATUS:
            return self._status()
        if port in _CRTC:
            return self._crtc_index
        if port in _CRTC.values():
            return self._read_crtc(self._crtc_index)
        colours = self._video.colours
        if port == _DAC_DATA:
            level = colours.dac[self._dac_at]
            self._dac_at = (self._dac_at + 1) % len(colours.dac)
            return level
        if port == _DAC_WRITE:
            return self._dac_at // 3
        if port == _ATTRIBUTE:
            return self._attribute
        if port == _ATTRIBUTE_READ:
            return colours.attributes[self._attribute & 0x0F] if self._attribute & 0x1F < 0x10 else 0
        return self._miscellaneous if port == _MISCELLANEOUS_READ else 0xFF

    def write(self, port: int, size: int, value: int) -> None:
        """A register; a word to an index port is index and data."""
        if port in planes.PORTS:
            self._video.planes.write_port(port, size, value)
            self._video.watch_aperture()
            return
        if port in _CRTC:
            self._crtc_index = value & 0xFF
            if size > 1:
                self._write_crtc(self._crtc_index, value >> 8 & 0xFF)
        elif port in _CRTC.values():
            self._write_crtc(self._crtc_index, value & 0xFF)
        elif port in (_DAC_READ, _DAC_WRITE):
            self._dac_at = 3 * (value & 0xFF)
        elif port == _DAC_DATA:
            self._video.colours.dac[self._dac_at] = value & 0x3F
            self._dac_at = (self._dac_at + 1) % len(self._video.colours.dac)
        elif port == _ATTRIBUTE:
            self._write_attribute(value & 0xFF)
        elif port == _MISCELLANEOUS_WRITE:
            self._miscellaneous = value & 0xFF

    def _status(self) -> int:
        """Retrace comes and goes with each few reads: programs wait for both. A read makes 3C0h take an index next."""
        self._attribute_is_data = False
        self._reads += 1
        return _DISPLAY_OFF | _RETRACE if self._reads // _RETRACE_PERIOD % 2 else self._reads % 2

    def _write_attribute(self, value: int) -> None:
        if self._attribute_is_data:
            index = self._attribute & 0x1F
            if index < 0x10:
                self._video.colours.attributes[index] = value & 0x3F
            elif index == _MODE_CONTROL:
                self._video.colours.blinks = bool(value & _BLINKS)
        else:
            self._attribute = value
        self._attribute_is_data = not self._attribute_is_data

    def _cursor(self) -> int:
        row, column = self._data.cursor(self._data.page)
        return self._data.page_start // 2 + row * self._video.columns + column & 0xFFFF

    def _read_crtc(self, index: int) -> int:
        match index:
            case crtc.CURSOR_FIRST:
                return self._data.cursor_shape >> 8
            case crtc.CURSOR_LAST:
                return self._data.cursor_shape & 0xFF
            case crtc.START_HIGH | crtc.START_LOW:
                start = self._video.crtc_start
                start = self._data.page_start // 2 if start is None else start
                return (start >> 8 if index == crtc.START_HIGH else start) & 0xFF
            case crtc.CURSOR_HIGH:
                return self._cursor() >> 8
            case crtc.CURSOR_LOW:
                return self._cursor() & 0xFF
        return self._video.crtc.read(index)

    def _write_crtc(self, index: int, value: int) -> None:
        registers = self._video.crtc
        registers.write(index, value)
        data = self._data
        match index:
            case crtc.CURSOR_FIRST:
                data.cursor_shape = data.cursor_shape & 0x00FF | value << 8
            case crtc.CURSOR_LAST:
                data.cursor_shape = data.cursor_shape & 0xFF00 | value
            case crtc.START_HIGH | crtc.START_LOW:
                self._video.crtc_start = registers.read(crtc.START_HIGH) << 8 | registers.read(crtc.START_LOW)
            case crtc.CURSOR_HIGH | crtc.CURSOR_LOW:
                at = self._cursor()
                at = at & 0x00FF | value << 8 if index == crtc.CURSOR_HIGH else at & 0xFF00 | value
                row, column = divmod(max(at - data.page_start // 2, 0), self._video.columns)
                data.set_cursor(data.page, row, column)
