"""Multiboot images for tests of their loader: headers and ELF files, well-formed unless a test says otherwise."""

from __future__ import annotations

import struct
from typing import NamedTuple

MAGIC = 0x1BADB002
HAS_ADDRESSES = 1 << 16
PAGE = 0x1000
ELF_HEADER_BYTES = {1: 52, 2: 64}
PROGRAM_HEADER_BYTES = {1: 32, 2: 56}


class Load(NamedTuple):
    """A segment of an ELF file: what is in it, and where it goes."""

    data: bytes
    addr: int
    virtual: int | None = None  # addr
    memory_bytes: int | None = None  # as many as there is data


def header(flags: int = 0, *addresses: int, checksum: int | None = None) -> bytes:
    """A Multiboot header."""
    checksum = -(MAGIC + flags) & 0xFFFFFFFF if checksum is None else checksum
    return struct.pack(f"<{3 + len(addresses)}I", MAGIC, flags, checksum, *addresses)


def flat(
    flags: int = 0, *, code: bytes = b"\xf4", load_addr: int = 0x100000, load_end: int = 0, bss_end: int = 0
) -> bytes:
    """An image that says itself where it goes: its header, then code."""
    size = len(header(0, 0, 0, 0, 0, 0))
    addresses = load_addr, load_addr, load_end, bss_end, load_addr + size
    return header(flags | HAS_ADDRESSES, *addresses) + code


def elf(*loads: Load, entry: int | None = None, bits: int = 32, machine: int | None = None, kind: int = 2) -> bytes:
    """An ELF file; without `loads` one segment at 1 MiB: a Multiboot header, and behind that the entry."""
    loads = loads or (Load(header() + b"\xf4", 0x100000),)
    entry = loads[0].addr + len(header()) if entry is None else entry
    elf_class = bits // 32
    count, size = len(loads), PROGRAM_HEADER_BYTES[elf_class]
    table_at = ELF_HEADER_BYTES[elf_class]
    offset = table_at + count * size
    table, contents = b"", b""
    for load in loads:
        at = offset + len(contents)
        virtual = load.addr if load.virtual is None else load.virtual
        memory_bytes = len(load.data) if load.memory_bytes is None else load.memory_bytes
        if bits == 32:
            table += struct.pack("<8I", 1, at, virtual, load.addr, len(load.data), memory_bytes, 7, PAGE)
        else:
            table += struct.pack("<II6Q", 1, 7, at, virtual, load.addr, len(load.data), memory_bytes, PAGE)
        contents += load.data + bytes(-len(load.data) % 4)
        contents += bytes(-(offset + len(contents)) % 4)
    machine = machine or {32: 3, 64: 62}[bits]
    layout = {32: "<HHIIIIIHHHHHH", 64: "<HHIQQQIHHHHHH"}[bits]
    rest = struct.pack(layout, kind, machine, 1, entry, table_at, 0, 0, table_at, size, count, 40, 0, 0)
    return b"\x7fELF" + bytes((elf_class, 1, 1)) + bytes(9) + rest + table + contents


def patched(image: bytes, at: int, data: bytes) -> bytes:
    """An image with other bytes at an offset."""
    return image[:at] + data + image[at + len(data) :]


def u32(value: int) -> bytes:
    """A little-endian dword."""
    return value.to_bytes(4, "little")
