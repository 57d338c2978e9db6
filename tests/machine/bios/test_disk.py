"""INT 13h."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.machine.disk import Disk, Geometry

if TYPE_CHECKING:
    from tests.machine.conftest import Bench

KIB = 1024
SECTOR = 512


def numbered(sectors: int) -> bytearray:
    return bytearray(b"".join(number.to_bytes(4, "little") * (SECTOR // 4) for number in range(sectors)))


@pytest.fixture
def numbers(bench: Bench) -> Bench:
    """Drives whose sectors hold their own numbers."""
    bench.disks[0] = Disk(0, numbered(2880))
    bench.disks[0x80] = Disk(0x80, numbered(4 * 16 * 63))
    return bench


@pytest.mark.parametrize(
    ("size", "geometry", "kind"),
    [
        (160 * KIB, Geometry(40, 1, 8), 1),
        (360 * KIB, Geometry(40, 2, 9), 1),
        (720 * KIB, Geometry(80, 2, 9), 3),
        (1200 * KIB, Geometry(80, 2, 15), 2),
        (1440 * KIB, Geometry(80, 2, 18), 4),
        (2880 * KIB, Geometry(80, 2, 36), 6),
        (512, Geometry(80, 2, 18), 4),
        (100 * KIB, Geometry(80, 2, 18), 4),
        (1500 * KIB, Geometry(80, 2, 36), 6),
    ],
)
def test_a_floppy_of_a_standard_size_has_its_geometry_and_others_are_padded(
    bench: Bench, size: int, geometry: Geometry, kind: int
) -> None:
    bench.disks[0] = Disk(0, bytearray(size))
    assert bench.disks[0].geometry == geometry
    found = bench.call(0x13, ah=0x08, dl=0)
    assert (found.ch + 1, found.dh + 1, found.cl, found.bl, found.dl) == (*geometry, kind, 1)
    table = bench.memory.read((found.es << 4) + found.di, 11)
    assert table[3] == 2


def test_reads_go_across_heads_and_cylinders(numbers: Bench) -> None:
    done = numbers.call(0x13, ax=0x0204, cx=0x0011, dx=0x0100, es=0x1000, bx=0x10)
    assert (done.carry, done.ah, done.al) == (False, 0, 4)
    read = [numbers.memory.u32(0x10010 + at * SECTOR) for at in range(4)]
    assert read == [34, 35, 36, 37]


def test_a_buffer_may_cross_64_kib(numbers: Bench) -> None:
    assert not numbers.call(0x13, ax=0x0202, cx=0x0001, es=0x1000, bx=0xFF00).carry
    assert [numbers.memory.u32(0x1FF00 + at * SECTOR) for at in range(2)] == [0, 1]


def test_a_write_is_read_back(numbers: Bench) -> None:
    numbers.memory.write(b"\xa5" * SECTOR, 0x5000)
    assert not numbers.call(0x13, ax=0x0301, cx=0x0102, es=0x500).carry
    assert numbers.disks[0].read(37, 1) == b"\xa5" * SECTOR


def test_what_is_behind_the_image_reads_as_zeros_and_keeps_what_is_written(bench: Bench) -> None:
    bench.disks[0] = Disk(0, bytearray(b"\x11" * 700))
    disk = bench.disks[0]
    assert disk.read(1, 2) == (b"\x11" * 188).ljust(2 * SECTOR, b"\0")
    disk.write(100, b"\x22" * SECTOR)
    disk.write(1, b"\x33" * SECTOR)
    assert disk.read(99, 3) == bytes(SECTOR) + b"\x22" * SECTOR + bytes(SECTOR)
    assert disk.read(0, 2) == b"\x11" * SECTOR + b"\x33" * SECTOR


@pytest.mark.parametrize(
    ("registers", "status"),
    [
        ({"ax": 0x0201, "cx": 0x0000}, 0x04),
        ({"ax": 0x0201, "cx": 0x0013}, 0x04),
        ({"ax": 0x0201, "cx": 0x0001, "dx": 0x0200}, 0x04),
        ({"ax": 0x0202, "cx": 0x4F12, "dx": 0x0100}, 0x04),
        ({"ax": 0x0201, "cx": 0x0001, "dx": 0x0001}, 0x80),
        ({"ax": 0x0201, "cx": 0x0001, "dx": 0x0081}, 0x01),
        ({"ax": 0x7700}, 0x01),
    ],
)
def test_what_is_not_there_fails_and_the_status_is_kept(numbers: Bench, registers: dict[str, int], status: int) -> None:
    failed = numbers.call(0x13, **registers)
    assert (failed.carry, failed.ah) == (True, status)
    after = numbers.call(0x13, ah=0x01, dl=registers.get("dx", 0) & 0xFF)
    assert (after.carry, after.ah) == (True, status)


def test_resets_and_seeks_of_a_drive_that_is_there_succeed(numbers: Bench) -> None:
    for function in (0x00, 0x0C, 0x0D, 0x10, 0x11):
        assert not numbers.call(0x13, ah=function, dl=0x80).carry


def test_a_disk_has_the_same_geometry_in_02_08_and_48(numbers: Bench) -> None:
    found = numbers.call(0x13, ah=0x08, dl=0x80)
    assert (found.ch + 1, found.dh + 1, found.cl & 0x3F, found.dl) == (4, 16, 63, 1)
    numbers.memory.write((0x1A).to_bytes(2, "little"), 0x5000)
    assert not numbers.call(0x13, ah=0x48, dl=0x80, ds=0x500).carry
    assert [numbers.memory.u32(0x5000 + at) for at in (4, 8, 12, 16)] == [4, 16, 63, 4 * 16 * 63]
    assert numbers.memory.u16(0x5000 + 24) == SECTOR
    assert not numbers.call(0x13, ax=0x0201, cx=0x033F, dx=0x0F80, es=0x1000).carry
    assert numbers.memory.u32(0x10000) == 4 * 16 * 63 - 1


def test_a_partition_table_says_the_geometry(bench: Bench) -> None:
    entry = bytes((0x80, 1, 1, 0, 6, 3, 17, 9)) + (17).to_bytes(4, "little") + (100).to_bytes(4, "little")
    table = bytes(446) + entry + bytes(48) + b"\x55\xaa"
    assert Disk(0x80, bytearray(table + bytes(4 * 17 * SECTOR - SECTOR))).geometry == Geometry(1, 4, 17)


def test_extensions_are_there_for_disks_and_not_for_floppies(numbers: Bench) -> None:
    found = numbers.call(0x13, ah=0x41, bx=0x55AA, dl=0x80)
    assert (found.carry, found.bx, found.cx & 1) == (False, 0xAA55, 1)
    assert numbers.call(0x13, ah=0x41, bx=0x55AA, dl=0).carry
    assert numbers.call(0x13, ah=0x41, bx=0x1234, dl=0x80).carry


def packet(count: int, first: int, segment: int = 0x1000, offset: int = 0) -> bytes:
    words = (0x10, count, offset, segment)
    return b"".join(word.to_bytes(2, "little") for word in words) + first.to_bytes(8, "little")


def test_an_extended_read_and_write(numbers: Bench) -> None:
    numbers.memory.write(packet(3, 1000), 0x5000)
    assert not numbers.call(0x13, ah=0x42, dl=0x80, ds=0x500).carry
    assert [numbers.memory.u32(0x10000 + at * SECTOR) for at in range(3)] == [1000, 1001, 1002]
    numbers.memory.write(packet(1, 7), 0x5000)
    assert not numbers.call(0x13, ah=0x43, dl=0x80, ds=0x500).carry
    assert numbers.disks[0x80].read(7, 1)[:4] == (1000).to_bytes(4, "little")


@pytest.mark.parametrize(("bad", "status"), [(packet(1, 1 << 40), 4), (packet(128, 0), 1), (bytes(16), 1)])
def test_an_extended_read_refuses_a_packet_that_is_none(numbers: Bench, bad: bytes, status: int) -> None:
    numbers.memory.write(bad, 0x5000)
    failed = numbers.call(0x13, ah=0x42, dl=0x80, ds=0x500)
    assert (failed.carry, failed.ah) == (True, status)


def test_types_of_drives(numbers: Bench) -> None:
    assert numbers.call(0x13, ah=0x15, dl=0).ah == 1
    disk = numbers.call(0x13, ah=0x15, dl=0x80)
    assert (disk.ah, disk.cx << 16 | disk.dx) == (3, 4 * 16 * 63)
    assert numbers.call(0x13, ah=0x15, dl=0x81).ah == 0


def test_interrupt_40h_is_the_same(numbers: Bench) -> None:
    assert not numbers.call(0x40, ax=0x0201, cx=0x0002, es=0x1000).carry
    assert numbers.memory.u32(0x10000) == 1
