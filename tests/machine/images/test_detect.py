"""What an image is, from its content and size."""

from __future__ import annotations

import pytest

from kvmbind.machine.images.detect import detect, partitions
from kvmbind.machine.images.image import ImageError

SIGNATURE = b"\x55\xaa"
SECTOR = 512


def boot_sector(code: bytes = b"\xeb\xfe", table: bytes = b"") -> bytes:
    return code.ljust(446, b"\0") + table.ljust(64, b"\0") + SIGNATURE


def entry(active: int = 0x80, kind: int = 6, first: int = 63, sectors: int = 100) -> bytes:
    numbers = first.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    return bytes((active, 1, 1, 0, kind, 15, 63, 9)) + numbers


DISK = boot_sector(table=entry()) + bytes(199 * SECTOR)
FAT = b"\xeb\x3c\x90" + b"MSDOS5.0" + b"\x00\x02"


@pytest.mark.parametrize(
    ("data", "name", "format"),
    [
        (boot_sector(), "", "boot"),
        (boot_sector() + bytes(SECTOR), "", "floppy"),
        (boot_sector() + bytes(1440 * 1024 - SECTOR), "", "floppy"),
        (boot_sector() + bytes(2880 * 1024 - SECTOR), "", "floppy"),
        (boot_sector() + bytes(2880 * 1024), "", "disk"),
        (DISK, "", "disk"),
        (FAT.ljust(720 * 1024, b"\0"), "", "floppy"),
        (FAT.ljust(4096 * 1024, b"\0"), "", "disk"),
        (b"\xb4\x09\xcd\x21\xc3", "", "com"),
        (b"\xcd\x20", "", "com"),
        (b"\xf4", "HALT.COM", "com"),
        (b"\xf4", "halt.com.bin", "flat"),
        (b"\xf4", "", "flat"),
        (bytes(70000), "", "flat"),
        (SIGNATURE + b"\x01" + b"\xcb" + bytes(508), "", "rom"),
        (bytes(0x10000 - 16) + b"\xea\x5b\xe0\x00\xf0" + bytes(11), "", "rom"),
        (bytes(0x20000 - 16) + b"\xe9" + bytes(15), "", "rom"),
    ],
)
def test_the_format_is_found(data: bytes, name: str, format: str) -> None:
    assert detect(data, name) == format


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty: expected at least one byte of code at offset 0"),
        (b"\x1f\x8b\x08", "read 1f 8b at offset 0: a gzip file: unpack it first"),
        (b"MZ\x90\x00", r"read 4d 5a at offset 0: a DOS or Windows \.EXE"),
        (b"\x7fELF\x01", "ELF"),
        (b"PK\x03\x04", "zip"),
    ],
)
def test_what_cannot_be_started_is_one_line_with_what_was_read_and_where(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        detect(data)
    assert "\n" not in str(caught.value)


def test_the_partitions_of_a_table_are_its_used_entries() -> None:
    table = entry(first=1, sectors=9) + bytes(16) + entry(0, 0x83, 10, 20)
    found = partitions(boot_sector(table=table) + bytes(63 * SECTOR))
    assert [(one.active, one.type, one.first, one.sectors) for one in found] == [(0x80, 6, 1, 9), (0, 0x83, 10, 20)]


@pytest.mark.parametrize(
    "table",
    [
        entry(active=0x12),
        entry() + entry(active=0x7F),
        entry(first=0),
        entry(sectors=0),
        entry(first=1 << 30),
        b"\xb8\x00\xb8\x8e\xc0" * 12,
    ],
)
def test_code_in_the_place_of_a_partition_table_is_none(table: bytes) -> None:
    data = boot_sector(table=table) + bytes(200 * SECTOR)
    assert partitions(data) == []
    assert detect(data) == "floppy"


def test_a_cd_image_that_boots_from_disks_has_a_partition_from_its_first_sector() -> None:
    data = bytearray(boot_sector(table=entry(kind=0x17, first=0)) + bytes(0x10000))
    data[0x8001:0x8006] = b"CD001"
    assert detect(bytes(data)) == "disk"
