"""zx_vmar_map and zx_vmar_unmap: where memory is in a guest, and what is refused in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.kvm.system import System
from kvmbind.zx import (
    ZX_RIGHT_EXECUTE,
    ZX_RIGHT_MAP,
    ZX_RIGHT_NONE,
    ZX_RIGHT_READ,
    ZX_RIGHT_WRITE,
    ZX_VM_CAN_MAP_EXECUTE,
    ZX_VM_CAN_MAP_READ,
    ZX_VM_CAN_MAP_SPECIFIC,
    ZX_VM_CAN_MAP_WRITE,
    ZX_VM_COMPACT,
    ZX_VM_MAP_RANGE,
    ZX_VM_PERM_EXECUTE,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_REQUIRE_NON_RESIZABLE,
    ZX_VM_SPECIFIC,
    ZX_VM_SPECIFIC_OVERWRITE,
    ZX_VMO_RESIZABLE,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

pytestmark = pytest.mark.kvm

OK, INVALID_ARGS, ACCESS_DENIED = Status.OK, Status.INVALID_ARGS, Status.ACCESS_DENIED
PAGE, MIB = 4096, 1 << 20
RWX = ZX_VM_PERM_READ | ZX_VM_PERM_WRITE | ZX_VM_PERM_EXECUTE
SPECIFIC = RWX | ZX_VM_SPECIFIC
U64_END = 1 << 64


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


#: The steps of zircon.md 2.18 by number: vmar, vmo, options, vmar_offset, vmo_offset, length, and the answer. Each row
#: has a fault of its step together with one of a later step.
ORDER = [
    ("1 a closed VMAR", "closed", "closed", 0, 0, 0, 0, Status.BAD_HANDLE),
    ("1 the VMAR's type before the VMO", "vmo", "closed", 0, 0, 0, 0, Status.WRONG_TYPE),
    ("1 a closed VMO", "vmar", "closed", 0, 0, 0, 0, Status.BAD_HANDLE),
    ("1 the VMO's type", "vmar", "vmar", ZX_VM_PERM_WRITE, 0, 0, 0, Status.WRONG_TYPE),
    ("2 no right to map", "vmar", "no map", ZX_VM_PERM_WRITE, 0, 0, 0, ACCESS_DENIED),
    ("3 WRITE without READ", "vmar", "no write", ZX_VM_PERM_WRITE, 0, 0, 0, INVALID_ARGS),
    ("3 EXECUTE without READ", "vmar", "no execute", ZX_VM_PERM_EXECUTE, 0, 0, 0, INVALID_ARGS),
    ("4 MAP_RANGE and SPECIFIC_OVERWRITE", "vmar", "no read",
     RWX | ZX_VM_MAP_RANGE | ZX_VM_SPECIFIC_OVERWRITE, 0, 0, 0, INVALID_ARGS),
    ("5 CAN_MAP_READ", "vmar", "no read", RWX | ZX_VM_CAN_MAP_READ, 0, 0, 0, INVALID_ARGS),
    ("5 CAN_MAP_WRITE", "vmar", "no read", RWX | ZX_VM_CAN_MAP_WRITE, 0, 0, 0, INVALID_ARGS),
    ("5 CAN_MAP_EXECUTE", "vmar", "no read", RWX | ZX_VM_CAN_MAP_EXECUTE, 0, 0, 0, INVALID_ARGS),
    ("6 READ not held by the VMO", "vmar", "no read", RWX | 1 << 31, 0, 0, 0, ACCESS_DENIED),
    ("6 WRITE not held by the VMO", "vmar", "no write", RWX | 1 << 31, 0, 0, 0, ACCESS_DENIED),
    ("6 EXECUTE not held by the VMO", "vmar", "no execute", RWX | 1 << 31, 0, 0, 0, ACCESS_DENIED),
    ("6 READ not held by the VMAR", "no read", "vmo", RWX | 1 << 31, 0, 0, 0, ACCESS_DENIED),
    ("6 WRITE not held by the VMAR", "no write", "vmo", RWX | 1 << 31, 0, 0, 0, ACCESS_DENIED),
    ("6 EXECUTE not held by the VMAR", "no execute", "vmo", RWX | 1 << 31, 0, 0, 0, ACCESS_DENIED),
    ("7 unknown options", "vmar", "resizable", RWX | 1 << 31 | ZX_VM_REQUIRE_NON_RESIZABLE, 0, 0, 0, INVALID_ARGS),
    ("8 a resizable VMO", "vmar", "resizable",
     RWX | ZX_VM_REQUIRE_NON_RESIZABLE | ZX_VM_COMPACT, 0, 0, 0, Status.NOT_SUPPORTED),
    ("9 COMPACT", "dead", "vmo", RWX | ZX_VM_COMPACT, 0, 1, 0, INVALID_ARGS),
    ("9 CAN_MAP_SPECIFIC", "dead", "vmo", RWX | ZX_VM_CAN_MAP_SPECIFIC, 0, 1, 0, INVALID_ARGS),
    ("10 an odd offset in the VMO", "dead", "vmo", RWX, 0, 1, 0, INVALID_ARGS),
    ("10 beyond 64 bits in the VMO", "dead", "vmo", RWX, 0, U64_END - PAGE, 2 * PAGE, INVALID_ARGS),
    ("11 the guest is gone", "dead", "vmo", RWX, 0, 0, 0, Status.BAD_STATE),
    ("11 the guest is gone, otherwise right", "dead", "vmo", SPECIFIC, 0, 0, PAGE, Status.BAD_STATE),
    ("12 no length", "vmar", "vmo", RWX, PAGE, 0, 0, INVALID_ARGS),
    ("14 an offset without SPECIFIC", "vmar", "vmo", RWX, PAGE, 0, PAGE, INVALID_ARGS),
    ("16 outside the space", "vmar", "vmo", SPECIFIC, 1 << 48, 0, PAGE, INVALID_ARGS),
    ("16 longer than the space", "vmar", "vmo", SPECIFIC, 0, 0, (1 << 48) + 1, INVALID_ARGS),
    ("17 an odd address before the overlap", "vmar", "vmo", SPECIFIC, 1, 0, PAGE, INVALID_ARGS),
    ("18 an overlap", "vmar", "vmo", SPECIFIC, 0, 0, PAGE, Status.ALREADY_EXISTS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("vmar", "vmo", "options", "addr", "vmo_offset", "length", "status"),
    [row[1:] for row in ORDER],
    ids=[row[0] for row in ORDER],
)
def test_map_answers_with_the_first_fault(
    make: Maker, vmar: str, vmo: str, options: int, addr: int, vmo_offset: int, length: int, status: Status
) -> None:
    guest, dead = make.guest(), make.guest()
    assert zx.zx_handle_close(dead.guest) is OK
    memory = make.vmo(PAGE)
    rights = {"no read": ZX_RIGHT_READ, "no write": ZX_RIGHT_WRITE, "no execute": ZX_RIGHT_EXECUTE}
    vmars = {"closed": make.closed(), "vmo": memory, "vmar": guest.vmar, "dead": dead.vmar}
    vmars |= {name: make.without(guest.vmar, right) for name, right in rights.items()}
    vmos = {"closed": make.closed(), "vmo": memory, "vmar": guest.vmar, "no map": make.without(memory, ZX_RIGHT_MAP)}
    vmos |= {name: make.without(memory, right) for name, right in rights.items()}
    vmos["resizable"] = make.vmo(PAGE, ZX_VMO_RESIZABLE)
    assert zx.zx_vmar_map(vmars[vmar], options, addr, vmos[vmo], vmo_offset, length) == (status, 0)


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


UNMAP_ORDER = [
    ("a closed VMAR", "closed", 1, 0, Status.BAD_HANDLE),
    ("another type", "vmo", 1, 0, Status.WRONG_TYPE),
    ("an odd address before a dead guest", "dead", 1, PAGE, INVALID_ARGS),
    ("no length before a dead guest", "dead", 0, 0, INVALID_ARGS),
    ("a dead guest before the range", "dead", 0, 1 << 60, Status.BAD_STATE),
    ("outside", "vmar", 1 << 48, PAGE, INVALID_ARGS),
    ("reaching outside", "vmar", 0, (1 << 48) + 1, INVALID_ARGS),
    ("beyond 64 bits", "vmar", U64_END - PAGE, PAGE, INVALID_ARGS),
    ("nothing is mapped there", "no rights", 8 * MIB, PAGE, OK),
]


@pytest.mark.parametrize(
    ("vmar", "addr", "length", "status"), [row[1:] for row in UNMAP_ORDER], ids=[row[0] for row in UNMAP_ORDER]
)
def test_unmap_answers_with_the_first_fault_and_needs_no_right(
    make: Maker, vmar: str, addr: int, length: int, status: Status
) -> None:
    guest, dead = make.guest(), make.guest()
    assert zx.zx_handle_close(dead.guest) is OK
    vmars = {"closed": make.closed(), "vmo": guest.memory, "vmar": guest.vmar, "dead": dead.vmar}
    vmars["no rights"] = make.with_rights(guest.vmar, ZX_RIGHT_NONE)
    assert zx.zx_vmar_unmap(vmars[vmar], addr, length) is status
    assert is_mapped(guest.guest, 0)


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
