"""zx_vmo_*: memory of whole pages."""

from __future__ import annotations

import os
import threading
from array import array
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.zx import (
    ZX_VMO_RESIZABLE,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, OUT_OF_RANGE = Status.OK, Status.OUT_OF_RANGE
PAGE = 4096
LARGEST = (1 << 63) - PAGE
TOP = (1 << 64) - 1


@pytest.mark.parametrize(
    ("size", "rounded"),
    [(0, 0), (1, PAGE), (PAGE - 1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE), (1 << 40, 1 << 40), (LARGEST, LARGEST)],
)
@pytest.mark.parametrize("options", [0, ZX_VMO_RESIZABLE])
def test_a_size_is_rounded_up_to_pages(make: Maker, size: int, rounded: int, options: int) -> None:
    assert zx.zx_vmo_get_size(make.vmo(size, options)) == (OK, rounded)


@pytest.mark.parametrize("size", [LARGEST + 1, 1 << 63, TOP - PAGE, TOP])
def test_a_size_that_cannot_be_rounded_up_is_out_of_range(size: int) -> None:
    assert zx.zx_vmo_create(size, 0) == (OUT_OF_RANGE, 0)


def test_it_is_zero_at_first_and_keeps_what_is_written(make: Maker) -> None:
    vmo = make.vmo(2 * PAGE)
    assert zx.zx_vmo_read(vmo, 0, 2 * PAGE) == (OK, bytes(2 * PAGE))
    assert zx.zx_vmo_write(vmo, b"across", PAGE - 3) is OK
    assert zx.zx_vmo_read(vmo, PAGE - 4, 8) == (OK, b"\0across\0")


@pytest.mark.parametrize("data", [b"\1\0\2\0", bytearray(b"\1\0\2\0"), memoryview(b"\1\0\2\0"), array("H", [1, 2])])
def test_any_buffer_can_be_written(make: Maker, data: bytes | bytearray | memoryview) -> None:
    vmo = make.vmo(PAGE)
    assert zx.zx_vmo_write(vmo, data, 8) is OK
    assert zx.zx_vmo_read(vmo, 8, 5) == (OK, b"\1\0\2\0\0")


#: Offset, length, and what becomes of such a read or write of a VMO of two pages.
RANGES = [
    (0, 0, OK),
    (2 * PAGE, 0, OK),
    (2 * PAGE + 1, 0, OUT_OF_RANGE),
    (TOP, 0, OUT_OF_RANGE),
    (2 * PAGE - 1, 1, OK),
    (2 * PAGE - 1, 2, OUT_OF_RANGE),
    (2 * PAGE, 1, OUT_OF_RANGE),
    (0, 2 * PAGE, OK),
    (0, 2 * PAGE + 1, OUT_OF_RANGE),
    (TOP, 1, OUT_OF_RANGE),
]


@pytest.mark.parametrize(("offset", "length", "status"), [*RANGES, (1, TOP, OUT_OF_RANGE), (TOP, TOP, OUT_OF_RANGE)])
def test_a_read_gives_all_of_its_range_or_nothing(make: Maker, offset: int, length: int, status: Status) -> None:
    assert zx.zx_vmo_read(make.vmo(2 * PAGE), offset, length) == (status, bytes(length if status is OK else 0))


@pytest.mark.parametrize(("offset", "length", "status"), RANGES)
def test_a_write_stores_all_of_its_data_or_nothing(make: Maker, offset: int, length: int, status: Status) -> None:
    vmo = make.vmo(2 * PAGE)
    assert zx.zx_vmo_write(vmo, b"\xff" * length, offset) is status
    expected = bytearray(2 * PAGE)
    if status is OK:
        expected[offset : offset + length] = b"\xff" * length
    assert zx.zx_vmo_read(vmo, 0, 2 * PAGE) == (OK, bytes(expected))


def test_a_read_that_no_memory_is_left_for_is_no_memory(make: Maker) -> None:
    assert zx.zx_vmo_read(make.vmo(1 << 62), 0, 1 << 62) == (Status.NO_MEMORY, b"")


def test_a_vmo_of_a_size_no_machine_has_is_there_where_it_is_touched(make: Maker) -> None:
    vmo = make.vmo(LARGEST)
    assert zx.zx_vmo_write(vmo, b"end", LARGEST - 3) is OK
    assert zx.zx_vmo_read(vmo, LARGEST - 4, 4) == (OK, b"\0end")


RESIZED = [(0, 0), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE), (1 << 40, 1 << 40), (LARGEST, LARGEST)]


@pytest.mark.parametrize(("size", "rounded"), RESIZED)
def test_set_size_rounds_up_to_pages(make: Maker, size: int, rounded: int) -> None:
    vmo = make.vmo(2 * PAGE, ZX_VMO_RESIZABLE)
    assert zx.zx_vmo_set_size(vmo, size) is OK
    assert zx.zx_vmo_get_size(vmo) == (OK, rounded)


def test_what_was_cut_off_is_zero_when_the_vmo_grows_again_and_the_rest_is_kept(make: Maker) -> None:
    vmo = make.vmo(3 * PAGE, ZX_VMO_RESIZABLE)
    assert zx.zx_vmo_write(vmo, b"1" * 3 * PAGE, 0) is OK
    assert zx.zx_vmo_set_size(vmo, PAGE) is OK
    assert zx.zx_vmo_read(vmo, PAGE, 1) == (OUT_OF_RANGE, b"")
    assert zx.zx_vmo_write(vmo, b"1", PAGE) is OUT_OF_RANGE
    assert zx.zx_vmo_set_size(vmo, 3 * PAGE) is OK
    assert zx.zx_vmo_read(vmo, 0, 3 * PAGE) == (OK, b"1" * PAGE + bytes(2 * PAGE))


#: Which VMO, the size, and the answer.
SET_SIZES = [
    ("a fixed size, also when it is the same", "fixed", PAGE, Status.UNAVAILABLE),
    ("a size that cannot be rounded up, before a view of it all", "viewed", LARGEST + 1, OUT_OF_RANGE),
    ("beyond what a page can be added to", "viewed", TOP, OUT_OF_RANGE),
    ("below a live view", "viewed", 0, Status.BAD_STATE),
    ("at the end of a live view", "viewed", PAGE, OK),
    ("beyond a live view", "viewed", 2 * PAGE, OK),
]


@pytest.mark.parametrize(
    ("handle", "size", "status"), [row[1:] for row in SET_SIZES], ids=[row[0] for row in SET_SIZES]
)
def test_a_size_is_set_down_to_where_a_view_ends_or_not_at_all(
    make: Maker, handle: str, size: int, status: Status
) -> None:
    fixed, viewed = make.vmo(PAGE), make.vmo(PAGE, ZX_VMO_RESIZABLE)
    view = kvmbind.Vmo.borrow(viewed).view()
    assert zx.zx_vmo_set_size({"fixed": fixed, "viewed": viewed}[handle], size) is status
    assert zx.zx_vmo_get_size(fixed) == (OK, PAGE)
    assert zx.zx_vmo_get_size(viewed) == (OK, size if status is OK else PAGE)
    view.release()
    assert zx.zx_vmo_set_size(viewed, 0) is OK


def test_reads_and_writes_beside_resizing_are_whole_or_out_of_range(make: Maker) -> None:
    vmo, done = make.vmo(8 * PAGE, ZX_VMO_RESIZABLE), threading.Event()
    found: list[object] = []

    def use() -> None:
        while not done.is_set():
            status, data = zx.zx_vmo_read(vmo, PAGE, 7 * PAGE)
            found.append((status, len(data)))
            found.append(zx.zx_vmo_write(vmo, b"1" * 7 * PAGE, PAGE))

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(1000):
        assert zx.zx_vmo_set_size(vmo, (1 + turn % 2 * 7) * PAGE) is OK
        assert zx.zx_vmo_get_size(vmo) == (OK, (1 + turn % 2 * 7) * PAGE)
    done.set()
    for thread in threads:
        thread.join()
    assert set(found) <= {(OK, 7 * PAGE), (OUT_OF_RANGE, 0), OK, OUT_OF_RANGE}
    assert os.fstat(kvmbind.Vmo.borrow(vmo).fileno()).st_size == 8 * PAGE
