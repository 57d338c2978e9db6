"""zx_vmar_map and zx_vmar_unmap: where memory is in a guest, and where none can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.kvm.system import System
from kvmbind.zx import (
    ZX_VM_PERM_EXECUTE,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_SPECIFIC,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

pytestmark = pytest.mark.kvm

OK, INVALID_ARGS, ACCESS_DENIED = Status.OK, Status.INVALID_ARGS, Status.ACCESS_DENIED
PAGE, MIB = 4096, 1 << 20
RWX = ZX_VM_PERM_READ | ZX_VM_PERM_WRITE | ZX_VM_PERM_EXECUTE
SPECIFIC = RWX | ZX_VM_SPECIFIC


def end_of_space() -> int:
    """min(2^48, 2^MAXPHYADDR)."""
    system = System()
    bits = min(48, system.address_bits)
    system.close()
    return 1 << bits


def read(guest: int, addr: int, length: int) -> bytes:
    return kvmbind.Guest.borrow(guest).read(addr, length)


def is_mapped(guest: int, addr: int) -> bool:
    try:
        read(guest, addr, 1)
    except kvmbind.OutOfRangeError:
        return False
    return True


def test_memory_is_the_vmos_bytes_from_its_offset_on(make: Maker) -> None:
    guest, vmo = make.guest(), make.vmo(3 * PAGE)
    zx.zx_vmo_write(vmo, b"second", PAGE)
    assert zx.zx_vmar_map(guest.vmar, SPECIFIC, 2 * MIB, vmo, PAGE, 2 * PAGE) == (OK, 2 * MIB)
    assert read(guest.guest, 2 * MIB, 6) == b"second"
    assert not is_mapped(guest.guest, 2 * MIB + 2 * PAGE)


def test_a_vmo_may_be_mapped_in_many_places_and_guests(make: Maker) -> None:
    first, second, vmo = make.guest(), make.guest(), make.vmo(PAGE)
    for guest, addr in [(first, MIB), (first, 2 * MIB), (second, MIB)]:
        make.map(guest.vmar, vmo, addr, PAGE)
    zx.zx_vmo_write(vmo, b"shared", 0)
    assert [read(first.guest, MIB, 6), read(first.guest, 2 * MIB, 6), read(second.guest, MIB, 6)] == [b"shared"] * 3


def test_a_mapping_holds_its_vmo_and_outlives_the_handles_of_vmo_and_vmar(make: Maker) -> None:
    guest, vmo = make.guest(), make.vmo(PAGE)
    zx.zx_vmo_write(vmo, b"held", 0)
    make.map(guest.vmar, vmo, MIB, PAGE)
    assert zx.zx_handle_close_many([vmo, guest.vmar, guest.memory]) is OK
    assert read(guest.guest, MIB, 4) == b"held"


def test_a_length_is_rounded_up_to_pages(make: Maker) -> None:
    guest, vmo = make.guest(), make.vmo(2 * PAGE)
    assert zx.zx_vmar_map(guest.vmar, SPECIFIC, MIB, vmo, 0, PAGE + 1) == (OK, MIB)
    assert is_mapped(guest.guest, MIB + 2 * PAGE - 1)
    assert zx.zx_vmar_map(guest.vmar, SPECIFIC, MIB + PAGE, vmo, 0, 1) == (Status.ALREADY_EXISTS, 0)


def test_without_specific_the_first_gap_that_is_large_enough_is_taken(make: Maker) -> None:
    status, guest, vmar = zx.zx_guest_create(make.resource(), 0)
    make.keep((status, guest))
    make.keep((status, vmar))
    vmo = make.vmo(4 * PAGE)
    make.map(vmar, vmo, PAGE, PAGE)
    make.map(vmar, vmo, 4 * PAGE, PAGE)
    places = [zx.zx_vmar_map(vmar, RWX, 0, vmo, 0, pages * PAGE) for pages in (1, 3, 2, 1)]
    assert places == [(OK, 0), (OK, 5 * PAGE), (OK, 2 * PAGE), (OK, 8 * PAGE)]


def test_the_gap_is_never_one_that_kvm_or_the_local_apic_needs(make: Maker) -> None:
    guest = make.guest()
    vmo = make.vmo(1 << 33)
    make.map(guest.vmar, vmo, MIB, 0xFEDF0000 - MIB)
    assert zx.zx_vmar_map(guest.vmar, RWX, 0, vmo, 0, 0x10000) == (OK, 0xFEDF0000)
    assert zx.zx_vmar_map(guest.vmar, RWX, 0, vmo, 0, 0x2000000) == (OK, 0xFFFC0000)


#: Two ranges are not the guest's: start, length, status.
AROUND_RESERVED = [
    (0xFEE00000, PAGE, INVALID_ARGS),
    (0xFEDFF000, PAGE, OK),
    (0xFEDFF000, 2 * PAGE, INVALID_ARGS),
    (0xFEE01000, PAGE, OK),
    (0xFFFBC000, PAGE, INVALID_ARGS),
    (0xFFFBF000, PAGE, INVALID_ARGS),
    (0xFFFBB000, PAGE, OK),
    (0xFFFBB000, 2 * PAGE, INVALID_ARGS),
    (0xFFFC0000, PAGE, OK),
    (0xF0000000, 0x20000000, INVALID_ARGS),
]


@pytest.mark.parametrize(("addr", "length", "status"), AROUND_RESERVED)
def test_pages_that_kvm_and_the_local_apic_need_cannot_be_mapped(
    make: Maker, addr: int, length: int, status: Status
) -> None:
    guest, vmo = make.guest(), make.vmo(PAGE)
    result = zx.zx_vmar_map(guest.vmar, SPECIFIC, addr, vmo, 0, length)
    assert result == (status, addr if status is OK else 0)


def test_the_space_ends_where_the_processors_addresses_end(make: Maker) -> None:
    guest, vmo, end = make.guest(), make.vmo(2 * PAGE), end_of_space()
    assert zx.zx_vmar_map(guest.vmar, SPECIFIC, end - PAGE, vmo, 0, 2 * PAGE) == (INVALID_ARGS, 0)
    assert zx.zx_vmar_map(guest.vmar, SPECIFIC, end, vmo, 0, PAGE) == (INVALID_ARGS, 0)
    assert zx.zx_vmar_map(guest.vmar, SPECIFIC, end - PAGE, vmo, 0, PAGE) == (OK, end - PAGE)


#: What is unmapped of a mapping of four pages at 1 MiB, and which of these are left.
UNMAPPED = [
    ("all", MIB, 4 * PAGE, []),
    ("the first", MIB, PAGE, [1, 2, 3]),
    ("the last", MIB + 3 * PAGE, PAGE, [0, 1, 2]),
    ("the middle", MIB + PAGE, 2 * PAGE, [0, 3]),
    ("a part of a page is the page", MIB + PAGE, 1, [0, 2, 3]),
    ("from below", MIB - PAGE, 2 * PAGE, [1, 2, 3]),
    ("to above", MIB + 3 * PAGE, 9 * PAGE, [0, 1, 2]),
    ("below only", MIB - PAGE, PAGE, [0, 1, 2, 3]),
    ("above only", MIB + 4 * PAGE, PAGE, [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("addr", "length", "left"), [u[1:] for u in UNMAPPED], ids=[u[0] for u in UNMAPPED])
def test_unmap_takes_the_range_out_and_splits_what_reaches_out_of_it(
    make: Maker, addr: int, length: int, left: list[int]
) -> None:
    guest, vmo = make.guest(memory=MIB - PAGE), make.vmo(4 * PAGE)
    for page in range(4):
        zx.zx_vmo_write(vmo, bytes([0x10 + page]), page * PAGE)
    make.map(guest.vmar, vmo, MIB, 4 * PAGE)
    assert zx.zx_vmar_unmap(guest.vmar, addr, length) is OK
    assert [page for page in range(4) if is_mapped(guest.guest, MIB + page * PAGE)] == left
    assert [read(guest.guest, MIB + page * PAGE, 1)[0] for page in left] == [0x10 + page for page in left]
    for page in {0, 1, 2, 3} - set(left):
        make.map(guest.vmar, vmo, MIB + page * PAGE, PAGE)  # the place is free again


def test_unmap_of_several_mappings_at_once(make: Maker) -> None:
    guest, vmo = make.guest(), make.vmo(PAGE)
    for page in range(10):
        make.map(guest.vmar, vmo, MIB + 2 * page * PAGE, PAGE)
    assert zx.zx_vmar_unmap(guest.vmar, MIB + PAGE, 16 * PAGE) is OK
    assert [page for page in range(10) if is_mapped(guest.guest, MIB + 2 * page * PAGE)] == [0, 9]


def test_used_up_memory_slots_are_no_resources_and_change_nothing(make: Maker) -> None:
    from kvmbind.zircon import handles
    from kvmbind.zircon.guest import GuestDispatcher

    guest, vmo = make.guest(), make.vmo(4 * PAGE)
    handles.find(guest.guest, GuestDispatcher).space._slots_max = 2
    make.map(guest.vmar, vmo, MIB, 4 * PAGE)
    assert zx.zx_vmar_map(guest.vmar, SPECIFIC, 2 * MIB, vmo, 0, PAGE) == (Status.NO_RESOURCES, 0)
    assert zx.zx_vmar_unmap(guest.vmar, MIB + PAGE, PAGE) is Status.NO_RESOURCES
    assert is_mapped(guest.guest, MIB + PAGE)
    assert zx.zx_vmar_unmap(guest.vmar, MIB, PAGE) is OK
