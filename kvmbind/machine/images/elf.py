"""Reading where the parts of an ELF program go. Offsets, addresses and lengths are bytes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.machine.images.image import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Bytes = bytes | bytearray | memoryview

_CLASS, _DATA, _HEADER = 4, 5, 16
_LITTLE_ENDIAN, _EXECUTABLE, _LOAD = 1, 2, 1


class Segment(NamedTuple):
    """A part of the file, and the memory that it begins; what is behind it there is zero."""

    offset: int
    virtual: int
    addr: int
    file_bytes: int
    memory_bytes: int
    header_at: int  # where the file says so


class Elf(NamedTuple):
    """An ELF program."""

    entry: int  # physical
    entry_at: int  # where the file says so
    segments: list[Segment]


class _Layout(NamedTuple):
    """What a class of ELF files is made of."""

    machine: int
    machine_name: str
    header: struct.Struct
    program_header_size_at: int
    program_header: struct.Struct
    fields: tuple[int, int, int, int, int, int]  # type, offset, virtual, addr, file_bytes, memory_bytes


_LAYOUTS = {
    1: _Layout(3, "i386", struct.Struct("<HHIIIIIHHH6x"), 42, struct.Struct("<8I"), (0, 1, 2, 3, 4, 5)),
    2: _Layout(62, "x86-64", struct.Struct("<HHIQQQIHHH6x"), 54, struct.Struct("<IIQQQQQQ"), (0, 2, 3, 4, 5, 6)),
}
_ENTRY_AT = _HEADER + 8


def parse(data: Bytes) -> Elf:
    """Returns what an ELF file for a PC says.

    Raises:
        ImageError: It is malformed, or for another machine.
    """
    layout = _LAYOUTS.get(_byte(data, _CLASS))
    if layout is None or _byte(data, _DATA) != _LITTLE_ENDIAN:
        read = bytes(data[_CLASS : _DATA + 1]).hex(" ") or "nothing"
        raise _wrong(read, _CLASS, "01 01 or 02 01, a little-endian ELF file of 32 or 64 bits")
    if len(data) < _HEADER + layout.header.size:
        raise _wrong(f"{len(data)} bytes", 0, f"an ELF header of {_HEADER + layout.header.size}")
    kind, machine, _, entry, table_at, _, _, _, size, count = layout.header.unpack_from(data, _HEADER)
    if kind != _EXECUTABLE:
        raise _wrong(f"type {kind}", _HEADER, f"{_EXECUTABLE}, an executable ELF file")
    if machine != layout.machine:
        raise _wrong(f"machine {machine}", _HEADER + 2, f"{layout.machine}, {layout.machine_name}")
    segments = [segment for segment in _segments(data, layout, table_at, size, count) if segment.memory_bytes]
    if not segments:
        raise _wrong(f"{count} program headers", table_at, "at least one that loads something")
    return Elf(_to_physical(entry, segments), _ENTRY_AT, segments)


def _byte(data: Bytes, at: int) -> int:
    return data[at] if at < len(data) else -1


def _segments(data: Bytes, layout: _Layout, table_at: int, size: int, count: int) -> Iterator[Segment]:
    if count and size < layout.program_header.size:
        expected = f"{layout.program_header.size} bytes each"
        raise _wrong(f"program headers of {size} bytes", layout.program_header_size_at, expected)
    for header_at in range(table_at, table_at + count * size, size or 1):
        if header_at + layout.program_header.size > len(data):
            raise ImageError(
                f"the file ends at offset {len(data):#x}; expected a program header at offset {header_at:#x}"
            )
        values = layout.program_header.unpack_from(data, header_at)
        kind, offset, virtual, addr, file_bytes, memory_bytes = (values[field] for field in layout.fields)
        if kind == _LOAD:
            yield _checked(data, Segment(offset, virtual, addr, file_bytes, memory_bytes, header_at))


def _checked(data: Bytes, segment: Segment) -> Segment:
    end = segment.offset + segment.file_bytes
    if segment.file_bytes and end > len(data):
        raise ImageError(
            f"the file ends at offset {len(data):#x}; expected a segment up to {end:#x}, as the program header at"
            f" offset {segment.header_at:#x} says"
        )
    if segment.file_bytes > segment.memory_bytes:
        raise _wrong(
            f"a segment of {segment.file_bytes:#x} bytes in the file and {segment.memory_bytes:#x} in memory",
            segment.header_at,
            "at least as many in memory",
        )
    return segment


def _to_physical(entry: int, segments: list[Segment]) -> int:
    """A kernel may be linked for where it will map itself; its entry may be of either kind."""
    for segment in segments:
        if segment.virtual <= entry < segment.virtual + segment.memory_bytes:
            return entry - segment.virtual + segment.addr
    return entry


def _wrong(read: str, at: int, expected: str) -> ImageError:
    return ImageError(f"read {read} at offset {at:#x}; expected {expected}")
