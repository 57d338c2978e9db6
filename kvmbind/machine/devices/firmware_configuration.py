"""What QEMU's firmware reads at ports 510h and 511h, as far as test programs do: how much there is of what."""

from __future__ import annotations

_SELECT, _DATA = 0x510, 0x511
_MEMORY, _PROCESSORS = 0x03, 0x05
_ITEM_BYTES = {_MEMORY: 8, _PROCESSORS: 2}

PORTS = (_SELECT, _DATA)


class FirmwareConfiguration:
    """Items by their keys, read byte by byte, the lowest first: 3 has the memory's size, 5 the number of processors.

    Behind an item's end, and in one that there is not, all bytes are zero; the signature, key 0, is such a one.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_items", "_rest")

    def __init__(self, memory_bytes: int, processors: int) -> None:
        """Starts with nothing selected."""
        values = {_MEMORY: memory_bytes, _PROCESSORS: processors}
        self._items = {key: value.to_bytes(_ITEM_BYTES[key], "little") for key, value in values.items()}
        self._rest = b""

    def read(self, port: int, size: int) -> int:
        """511h: the item's next byte, however wide the access is."""
        if port != _DATA:
            return 0
        first, self._rest = self._rest[:1], self._rest[1:]
        return first[0] if first else 0

    def write(self, port: int, size: int, value: int) -> None:
        """510h: selects an item by its key, a word."""
        if port == _SELECT:
            self._rest = self._items.get(value & 0xFFFF, b"")
