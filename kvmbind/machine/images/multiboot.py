"""Loading Multiboot images: where their bytes go, and what they are told."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.machine.images import elf, multiboot_header
from kvmbind.machine.images.detect import ELF_MAGIC
from kvmbind.machine.images.image import Image, ImageError, Placed, ProtectedStart
from kvmbind.machine.images.multiboot_information import MAGIC, Told, information
from kvmbind.machine.memory import EXTENDED_AREA, ROM_END

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvmbind.machine.images.load import Options
    from kvmbind.machine.images.multiboot_header import Addresses, Header

    Bytes = bytes | memoryview

_BIOS_AREAS_END = 0x500  # interrupt vectors and the BIOS data area
_PAGE = 0x1000


class _Part(NamedTuple):
    """Bytes of the file, and the memory that they begin."""

    addr: int
    data: Bytes
    memory_bytes: int
    said_at: int  # the offset in the file that says so

    @property
    def end(self) -> int:
        return self.addr + self.memory_bytes


class _Program(NamedTuple):
    entry: int
    entry_at: int
    parts: list[_Part]


def load(data: Bytes, options: Options) -> Image:
    """Returns what to run.

    Raises:
        ImageError: The image is malformed, or its parts do not fit into memory.
    """
    if options.load_at is not None or options.entry is not None:
        raise ImageError("a Multiboot image says itself where it goes and starts: leave load_at and entry out")
    header = multiboot_header.parse(data)
    program = _from_elf(data) if header.addresses is None else _from_addresses(data, header, header.addresses)
    for part in program.parts:
        _require_ram(part, options.memory)
    _require_apart(program.parts)
    if not any(part.addr <= program.entry < part.end for part in program.parts):
        raise ImageError(
            f"read entry {program.entry:#x} at offset {program.entry_at:#x}; expected an address that is loaded"
        )
    told = Told(_command_line(options), options.memory, options.smp)
    addr = _free_place(len(information(told, 0)), program.parts, options.memory)
    pieces = [Placed(part.addr, bytes(part.data)) for part in program.parts]
    return Image(
        "multiboot", ProtectedStart(program.entry, MAGIC, addr), [*pieces, Placed(addr, information(told, addr))]
    )


def _command_line(options: Options) -> str:
    name = os.path.basename(options.name) or "image"
    return f"{name} {options.args}" if options.args else name


def _from_elf(data: Bytes) -> _Program:
    if not bytes(data[:4]) == ELF_MAGIC:
        raise ImageError(
            f"read {bytes(data[:4]).hex(' ')} at offset 0; expected {ELF_MAGIC.hex(' ')}, an ELF file, since the"
            " Multiboot header does not say where the image goes (bit 16 of its flags)"
        )
    entry, entry_at, segments = elf.parse(data)
    parts = [
        _Part(one.addr, data[one.offset : one.offset + one.file_bytes], one.memory_bytes, one.header_at)
        for one in segments
    ]
    return _Program(entry, entry_at, parts)


def _from_addresses(data: Bytes, header: Header, addresses: Addresses) -> _Program:
    header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr = addresses
    said_at = header.addresses_at
    offset = header.at - (header_addr - load_addr)
    length = (load_end_addr - load_addr) if load_end_addr else len(data) - offset
    if load_addr > header_addr or offset < 0:
        raise ImageError(
            f"read header_addr {header_addr:#x} and load_addr {load_addr:#x} at offset {said_at:#x}; expected a"
            f" load_addr from {header_addr - header.at:#x} to {header_addr:#x}, as the header is at {header.at:#x}"
        )
    if not 0 < length <= len(data) - offset:
        raise ImageError(
            f"read load_end_addr {load_end_addr:#x} at offset {said_at + 8:#x}; expected"
            f" {load_addr + 1:#x} to {load_addr + len(data) - offset:#x}, where the file ends, or 0"
        )
    if bss_end_addr and bss_end_addr < load_addr + length:
        raise ImageError(
            f"read bss_end_addr {bss_end_addr:#x} at offset {said_at + 12:#x}; expected {load_addr + length:#x} or"
            " more, where what is loaded ends, or 0"
        )
    memory_bytes = bss_end_addr - load_addr if bss_end_addr else length
    return _Program(entry_addr, said_at + 16, [_Part(load_addr, data[offset : offset + length], memory_bytes, said_at)])


def _require_ram(part: _Part, memory: int) -> None:
    for start, end in ((_BIOS_AREAS_END, EXTENDED_AREA), (ROM_END, memory)):
        if start <= part.addr and part.end <= end:
            return
    raise ImageError(
        f"read {part.addr:#x} to {part.end:#x} at offset {part.said_at:#x} as a place for a part of the image; expected"
        f" one in memory, {_BIOS_AREAS_END:#x} to {EXTENDED_AREA:#x} or {ROM_END:#x} to {memory:#x}"
    )


def _require_apart(parts: Iterable[_Part]) -> None:
    ordered = sorted(parts, key=lambda part: part.addr)
    for first, second in pairwise(ordered):
        if first.end > second.addr:
            raise ImageError(
                f"read {second.addr:#x} at offset {second.said_at:#x} as a place for a part of the image; expected one"
                f" apart from {first.addr:#x} to {first.end:#x}, of the part at offset {first.said_at:#x}"
            )


def _free_place(size: int, parts: Iterable[_Part], memory: int) -> int:
    """The top of low memory, or else the first page behind the image."""
    top = EXTENDED_AREA - size & -_PAGE
    if all(part.end <= top or part.addr >= EXTENDED_AREA for part in parts):
        return top
    behind = -(-max(ROM_END, *(part.end for part in parts)) // _PAGE) * _PAGE
    if behind + size > memory:
        raise ImageError(
            f"there is no room for the boot information behind the image, which ends at {behind:#x}: expected"
            f" {size:#x} bytes of the {memory:#x} of memory"
        )
    return behind
