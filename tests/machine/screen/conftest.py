"""A PC's first megabyte for tests of the screen."""

from __future__ import annotations

import pytest


class Ram:
    """Guest-physical memory of 1 MiB, with a BIOS data area that one can set a mode in."""

    def __init__(self) -> None:
        self.data = bytearray(1 << 20)

    def read(self, addr: int, length: int, /) -> bytes:
        assert 0 <= addr <= addr + length <= len(self.data)
        return bytes(self.data[addr : addr + length])

    def write(self, data: bytes, addr: int, /) -> None:
        assert 0 <= addr <= addr + len(data) <= len(self.data)
        self.data[addr : addr + len(data)] = data

    def set_mode(self, mode: int, columns: int = 80, rows: int = 25, glyph_height: int = 16) -> None:
        self.data[0x449] = mode
        self.write(columns.to_bytes(2, "little"), 0x44A)
        self.data[0x484] = rows - 1
        self.write(glyph_height.to_bytes(2, "little"), 0x485)
        self.write(b"\x0e\x0d", 0x460)  # a cursor of lines 13 and 14, on each page at the top left

    def type_text(self, text: str, row: int = 0, column: int = 0, attribute: int = 0x07, base: int = 0xB8000) -> None:
        cells = b"".join(bytes((code, attribute)) for code in text.encode("cp437"))
        self.write(cells, base + 2 * (80 * row + column))


@pytest.fixture(scope="session")
def make_ram() -> type[Ram]:
    """Makes 1 MiB of zeros."""
    return Ram


@pytest.fixture
def ram() -> Ram:
    """1 MiB in mode 03h; a character 00h is a blank."""
    memory = Ram()
    memory.set_mode(0x03)
    return memory
