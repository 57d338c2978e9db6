"""Telling from content and size what an image is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvmbind.machine.images.image import ImageError

if TYPE_CHECKING:
    from kvmbind.machine.images.image import Format

    Bytes = bytes | bytearray | memoryview

SECTOR = 512
FLOPPY_MAX = 2880 * 1024
COM_MAX = 0xFF00
ELF_MAGIC = b"\x7fELF"
MULTIBOOT_MAGIC = b"\x02\xb0\xad\x1b"
MULTIBOOT_WITHIN = 8192  # where its header ends
_SIGNATURE = b"\x55\xaa"
_SIGNATURE_AT = 510
_PARTITIONS_AT = 446
_ISO, _ISO_AT = b"CD001", 0x8001
_SYSTEM_ROM_SIZES = (0x10000, 0x20000, 0x40000)
_RESET_VECTOR_FROM_END = 16
_JUMPS = (0xE9, 0xEA, 0xEB)

#: What others are by their first bytes, and what to do about it.
_FOREIGN = {
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"BZh": "a bzip2 file: unpack it first",
    b"\xfd7zXZ": "an xz file: unpack it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"MZ": "a DOS or Windows .EXE, which no format here can start",
    ELF_MAGIC: "an ELF file without a Multiboot header, by which it could be started",
    b"!<arch>": "an ar archive",
}


class Partition(NamedTuple):
    """An entry of a partition table."""

    active: int
    type: int
    end_head: int
    end_sector: int  # from 1
    first: int  # sector number
    sectors: int


def detect(data: Bytes, name: str = "") -> Format:
    """Returns what an image is.

    Args:
        data: The whole image.
        name: Its file's name; only whether it ends in .com matters.

    Raises:
        ImageError: It is something that cannot be started.
    """
    size = len(data)
    head = bytes(data[:MULTIBOOT_WITHIN])
    if not size:
        raise ImageError("the image is empty: expected at least one byte of code at offset 0")
    if head.startswith(ELF_MAGIC) and MULTIBOOT_MAGIC in head:
        return "multiboot"
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise ImageError(f"read {magic.hex(' ')} at offset 0: {what}")
    if _is_option_rom(data) or _is_system_rom(data):
        return "rom"
    if is_bootable(data):
        return "disk" if partitions(data) or size > FLOPPY_MAX else "boot" if size == SECTOR else "floppy"
    if MULTIBOOT_MAGIC in head and _is_multiboot(head):
        return "multiboot"
    if name.lower().endswith(".com") or _looks_like_com(data):
        return "com"
    if _has_file_system(head) and size % SECTOR == 0:
        return "floppy" if size <= FLOPPY_MAX else "disk"
    return "flat"


def is_bootable(data: Bytes) -> bool:
    """Tells whether the first sector has a boot sector's signature."""
    return bytes(data[_SIGNATURE_AT:SECTOR]) == _SIGNATURE


def partitions(data: Bytes) -> list[Partition]:
    """Returns the used entries of the partition table in the first sector; none if it is no such table."""
    table = bytes(data[_PARTITIONS_AT:_SIGNATURE_AT])
    if len(table) < 64 or not is_bootable(data):
        return []
    entries = [_partition(table[start : start + 16]) for start in range(0, 64, 16)]
    used = [entry for entry in entries if entry.type]
    may_begin_at_0 = bytes(data[_ISO_AT : _ISO_AT + len(_ISO)]) == _ISO  # a CD image that boots from disks too
    is_table = all(entry.active in (0, 0x80) for entry in entries) and all(
        (entry.first or may_begin_at_0) and entry.sectors and entry.end_sector for entry in used
    )
    # What the last ones of an image cut short have lost, no program will read.
    fits = all(entry.first < max(len(data) // SECTOR, 2) for entry in used)
    return used if is_table and fits else []


def _partition(entry: bytes) -> Partition:
    first, sectors = int.from_bytes(entry[8:12], "little"), int.from_bytes(entry[12:16], "little")
    return Partition(entry[0], entry[4], entry[5], entry[6] & 0x3F, first, sectors)


def _is_multiboot(head: bytes) -> bool:
    """One that is no ELF file has to say where it goes."""
    from kvmbind.machine.images import multiboot_header  # few images come here

    return multiboot_header.has_addresses(head)


def _has_file_system(head: bytes) -> bool:
    """A BIOS parameter block: a jump over it, and 512 bytes a sector."""
    return head[:1] in (b"\xeb", b"\xe9") and head[11:13] == SECTOR.to_bytes(2, "little")


def _looks_like_com(data: Bytes) -> bool:
    """A DOS program ends by INT 20h or calls INT 21h."""
    return len(data) <= COM_MAX and any(call in bytes(data) for call in (b"\xcd\x21", b"\xcd\x20"))


def _is_option_rom(data: Bytes) -> bool:
    return bytes(data[:2]) == _SIGNATURE and len(data) > 3 and 0 < data[2] * SECTOR <= len(data)


def _is_system_rom(data: Bytes) -> bool:
    return len(data) in _SYSTEM_ROM_SIZES and data[-_RESET_VECTOR_FROM_END] in _JUMPS and not is_bootable(data)
