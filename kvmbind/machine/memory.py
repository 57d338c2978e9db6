"""The guest's physical memory as the BIOS and the devices see it."""

from __future__ import annotations

ROM_START, ROM_END = 0xF0000, 0x100000
EXTENDED_AREA = 0x9FC00  # the BIOS's, up to where the screen begins
_LOW_MEMORY_END = 0xA0000
_RAM, _RESERVED = 1, 2


def ranges(size: int, low_end: int = EXTENDED_AREA) -> list[tuple[int, int, int]]:
    """Returns what is memory of a machine and what is not, as INT 15h/E820h and Multiboot tell it.

    Args:
        size: Bytes of memory.
        low_end: Where the memory below the screen that programs may use ends.

    Returns:
        Start, end and type (1 memory, 2 reserved) of each range, by their addresses; none is empty.
    """
    found = [
        (0, low_end, _RAM),
        (low_end, _LOW_MEMORY_END, _RESERVED),
        (ROM_START, ROM_END, _RESERVED),
        (ROM_END, size, _RAM),
    ]
    return [entry for entry in found if entry[0] < entry[1]]


class PhysicalMemory:
    """Bytes by their physical address. What is not there reads as FFh, and neither it nor the ROM can be written.

    So a service may take any address that a guest gives it.

    Threads: any thread may use it; the guest writes meanwhile.

    Attributes:
        view: All of it, without these manners.
        size: Bytes.
    """

    __slots__ = ("size", "view")

    def __init__(self, view: memoryview) -> None:
        """Takes a writable view of all memory from address 0 on."""
        self.view = view
        self.size = len(view)

    def read(self, addr: int, length: int) -> bytes:
        """Returns bytes."""
        found = bytes(self.view[addr : addr + length]) if addr < self.size else b""
        return found if len(found) == length else found + b"\xff" * (length - len(found))

    def write(self, data: bytes | bytearray | memoryview, addr: int) -> None:
        """Stores bytes."""
        end = addr + len(data)
        if end <= ROM_START or (addr >= ROM_END and end <= self.size):
            self.view[addr:end] = data
            return
        if addr < ROM_START:
            self.view[addr:ROM_START] = data[: ROM_START - addr]
        first = max(addr, ROM_END)
        if first < min(end, self.size):
            self.view[first : min(end, self.size)] = data[first - addr : self.size - addr]

    def burn(self, data: bytes, addr: int) -> None:
        """Stores bytes, in the ROM too; all of them must be there."""
        self.view[addr : addr + len(data)] = data

    def u8(self, addr: int) -> int:
        """Returns a byte."""
        return self.view[addr] if addr < self.size else 0xFF

    def u16(self, addr: int) -> int:
        """Returns a little-endian word."""
        return int.from_bytes(self.read(addr, 2), "little")

    def u32(self, addr: int) -> int:
        """Returns a little-endian dword."""
        return int.from_bytes(self.read(addr, 4), "little")

    def set_u8(self, addr: int, value: int) -> None:
        """Stores the low byte of a number."""
        self.write(bytes((value & 0xFF,)), addr)

    def set_u16(self, addr: int, value: int) -> None:
        """Stores the low word of a number."""
        self.write((value & 0xFFFF).to_bytes(2, "little"), addr)

    def set_u32(self, addr: int, value: int) -> None:
        """Stores the low dword of a number."""
        self.write((value & 0xFFFFFFFF).to_bytes(4, "little"), addr)

    def string(self, addr: int, end: bytes, limit: int = 0x10000) -> bytes:
        """Returns the bytes up to the first `end`, or `limit` of them if there is none."""
        return self.read(addr, limit).partition(end)[0]
