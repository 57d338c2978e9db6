"""A drive of the machine: sectors, and the geometry that INT 13h shows."""

from __future__ import annotations

from typing import NamedTuple

from kvmbind.machine.images.detect import SECTOR, partitions

FIRST_DISK = 0x80
_CYLINDERS_MAX = 1024


class Geometry(NamedTuple):
    """How a drive is divided."""

    cylinders: int
    heads: int
    sectors: int  # of a track

    @property
    def total(self) -> int:
        """Sectors of the drive."""
        return self.cylinders * self.heads * self.sectors


#: Floppies by their size in KiB, with the type that INT 13h/08h returns in BL.
_FLOPPIES = {
    160: (Geometry(40, 1, 8), 1),
    180: (Geometry(40, 1, 9), 1),
    320: (Geometry(40, 2, 8), 1),
    360: (Geometry(40, 2, 9), 1),
    640: (Geometry(80, 2, 8), 3),
    720: (Geometry(80, 2, 9), 3),
    1200: (Geometry(80, 2, 15), 2),
    1440: (Geometry(80, 2, 18), 4),
    1680: (Geometry(80, 2, 21), 4),
    1722: (Geometry(82, 2, 21), 4),
    2880: (Geometry(80, 2, 36), 6),
}
_STANDARD_KIB = 1440
_EXTRA_HIGH_KIB = 2880


class Disk:
    """A drive over bytes in memory. Reads behind their end give zeros, up to the end of the drive.

    Threads: it belongs to whoever has the PC's lock.

    Attributes:
        number: As INT 13h has it: 0 for a floppy, 80h for the first disk.
        geometry: The same for every function.
        floppy_type: What 08h returns in BL; 0 for a disk.
    """

    __slots__ = ("_bytes", "_pad", "floppy_type", "geometry", "number", "sectors")

    def __init__(self, number: int, data: memoryview | bytearray) -> None:
        """Makes the drive.

        Args:
            number: 0 to 7Fh for a floppy, above for a disk.
            data: Writable; its length need be no multiple of a sector. What is written behind it is kept apart.
        """
        self.number = number
        self._bytes = data
        self._pad: dict[int, bytes] = {}
        if number < FIRST_DISK:
            self.geometry, self.floppy_type = _floppy_geometry(len(data))
            self.sectors = self.geometry.total
        else:
            self.geometry, self.floppy_type = _disk_geometry(data), 0
            self.sectors = max(-(-len(data) // SECTOR), 1)

    def sector_of(self, cylinder: int, head: int, sector: int) -> int | None:
        """Returns the number of a sector that is named by cylinder, head and sector from 1; None: no such one."""
        _, heads, sectors = self.geometry
        if head >= heads or not 1 <= sector <= sectors:
            return None
        return (cylinder * heads + head) * sectors + sector - 1

    def holds(self, first: int, count: int) -> bool:
        """Tells whether the drive has all these sectors."""
        limit = max(self.sectors, self.geometry.total) if self.number >= FIRST_DISK else self.sectors
        return first + count <= limit

    def read(self, first: int, count: int) -> bytes:
        """Returns sectors."""
        data = bytes(self._bytes[first * SECTOR : (first + count) * SECTOR]).ljust(count * SECTOR, b"\0")
        if not self._pad:
            return data
        parts = [data[at : at + SECTOR] for at in range(0, len(data), SECTOR)]
        return b"".join(self._pad.get(first + at, part) for at, part in enumerate(parts))

    def write(self, first: int, data: bytes) -> None:
        """Stores whole sectors."""
        for at in range(0, len(data), SECTOR):
            number, sector = first + at // SECTOR, data[at : at + SECTOR]
            if (number + 1) * SECTOR <= len(self._bytes):
                self._bytes[number * SECTOR : (number + 1) * SECTOR] = sector
            else:
                self._pad[number] = sector

    def close(self) -> None:
        """Lets go of the bytes, and so of the file that they are a mapping of."""
        self._bytes = bytearray()

    def table(self) -> bytes:
        """Returns the fixed disk parameter table that INT 41h and 46h point to."""
        cylinders, heads, sectors = self.geometry
        table = bytearray(16)
        table[0:2] = min(cylinders, 0xFFFF).to_bytes(2, "little")
        table[2] = heads & 0xFF
        table[5:7] = b"\xff\xff"
        table[8] = 0x08 if heads > 8 else 0
        table[14] = sectors
        return bytes(table)


def _floppy_geometry(size: int) -> tuple[Geometry, int]:
    kib, rest = divmod(size, 1024)
    if not rest and kib in _FLOPPIES:
        return _FLOPPIES[kib]
    return _FLOPPIES[_STANDARD_KIB if size <= _STANDARD_KIB * 1024 else _EXTRA_HIGH_KIB]


def _disk_geometry(data: memoryview | bytearray) -> Geometry:
    """16 heads and 63 sectors, or what the ends of the partitions say that other systems have put there."""
    heads, sectors = 16, 63
    for partition in partitions(data):
        if 0 < partition.end_head < 0xFF and partition.end_sector:
            heads, sectors = partition.end_head + 1, partition.end_sector
            break
    cylinders = -(-len(data) // (SECTOR * heads * sectors))
    return Geometry(max(1, min(cylinders, _CYLINDERS_MAX)), heads, sectors)
