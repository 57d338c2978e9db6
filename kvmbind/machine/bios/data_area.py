"""The BIOS data area at 0040:0000, field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from typing import Self

    from kvmbind.machine.memory import PhysicalMemory

BASE = 0x400
TICKS_A_DAY = 0x1800B0
KEY_RING_FIRST, KEY_RING_END = 0x1E, 0x3E  # offsets in segment 40h
PAGES = 8
_CURSORS = BASE + 0x50


class _Field:
    """A number in the data area."""

    __slots__ = ("_end", "_size", "_start")

    def __init__(self, offset: int, size: int) -> None:
        self._start = BASE + offset
        self._end = self._start + size
        self._size = size

    @overload
    def __get__(self, area: None, owner: type) -> Self: ...
    @overload
    def __get__(self, area: DataArea, owner: type) -> int: ...
    def __get__(self, area: DataArea | None, owner: type) -> int | Self:
        if area is None:
            return self
        return int.from_bytes(area.view[self._start : self._end], "little")

    def __set__(self, area: DataArea, value: int) -> None:
        limit = 1 << 8 * self._size
        area.view[self._start : self._end] = (value % limit).to_bytes(self._size, "little")


class DataArea:
    """What the BIOS and the programs share. It lies in guest memory, so any field may have any value.

    Threads: as of the memory.
    """

    __slots__ = ("view",)

    serial_ports = _Field(0x00, 8)
    parallel_ports = _Field(0x08, 6)
    extended_area = _Field(0x0E, 2)  # its segment
    equipment = _Field(0x10, 2)
    memory_kib = _Field(0x13, 2)
    shift_flags = _Field(0x17, 1)
    more_shift_flags = _Field(0x18, 1)
    key_head = _Field(0x1A, 2)
    key_tail = _Field(0x1C, 2)
    motor_timeout = _Field(0x40, 1)
    floppy_status = _Field(0x41, 1)
    video_mode = _Field(0x49, 1)
    columns = _Field(0x4A, 2)
    page_bytes = _Field(0x4C, 2)
    page_start = _Field(0x4E, 2)
    cursor_shape = _Field(0x60, 2)
    page = _Field(0x62, 1)
    crtc_port = _Field(0x63, 2)
    crt_mode = _Field(0x65, 1)
    crt_palette = _Field(0x66, 1)
    ticks = _Field(0x6C, 4)
    midnight = _Field(0x70, 1)
    break_flag = _Field(0x71, 1)
    reset_flag = _Field(0x72, 2)
    disk_status = _Field(0x74, 1)
    disks = _Field(0x75, 1)
    key_ring_start = _Field(0x80, 2)
    key_ring_end = _Field(0x82, 2)
    last_row = _Field(0x84, 1)
    glyph_height = _Field(0x85, 2)
    video_options = _Field(0x87, 1)
    video_switches = _Field(0x88, 1)
    video_flags = _Field(0x89, 1)
    display_combination = _Field(0x8A, 1)
    keyboard_type = _Field(0x96, 1)

    def __init__(self, memory: PhysicalMemory) -> None:
        """Reads and writes `memory`."""
        self.view = memory.view

    def cursor(self, page: int) -> tuple[int, int]:
        """Returns the row and column of a page's cursor."""
        at = _CURSORS + 2 * (page % PAGES)
        return self.view[at + 1], self.view[at]

    def set_cursor(self, page: int, row: int, column: int) -> None:
        """Puts a page's cursor somewhere."""
        at = _CURSORS + 2 * (page % PAGES)
        self.view[at], self.view[at + 1] = column & 0xFF, row & 0xFF
