"""The device for tests of processors and interrupt controllers, as QEMU's pc-testdev has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmbind.machine.host import Host

_LATCH, _LATCH_BYTES, _FLUSH = 0xE0, 4, 0xE4
_LINES, _LINES_COUNT = 0x2000, 24

MEMORY_ADDR, MEMORY_BYTES = 0xFF000000, 0x10000
PORTS = (*range(_LATCH, _LATCH + _LATCH_BYTES), _FLUSH, *range(_LINES, _LINES + _LINES_COUNT))


class PcTestdev:
    """E0h to E3h keep what is written, for accesses of any width; 2000h + n sets interrupt line n by its lowest bit.

    E4h takes the address of a page that the host is to forget; there is nothing to forget here.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_host", "_latch")

    def __init__(self, host: Host) -> None:
        """Starts with zeros and all lines as they are."""
        self._host = host
        self._latch = bytearray(_LATCH_BYTES)

    def read(self, port: int, size: int) -> int:
        """What was written to E0h to E3h."""
        offset = port - _LATCH
        return int.from_bytes(self._latch[offset : offset + size], "little") if offset < _LATCH_BYTES else 0

    def write(self, port: int, size: int, value: int) -> None:
        """Keeps it, or sets a line."""
        if port >= _LINES:
            self._host.set_line(port - _LINES, bool(value & 1))
        elif port < _FLUSH:
            offset = port - _LATCH
            data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            self._latch[offset : offset + size] = data[: _LATCH_BYTES - offset]


class PcTestdevMemory:
    """64 KiB that keep what is written, where each access comes to the host.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        """Starts with zeros."""
        self._kept = bytearray(MEMORY_BYTES)

    def read(self, offset: int, size: int) -> int:
        """What was written."""
        return int.from_bytes(self._kept[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Keeps it; what reaches over the end is lost."""
        self._kept[offset : offset + size] = value.to_bytes(size, "little")[: MEMORY_BYTES - offset]
