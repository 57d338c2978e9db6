"""zx_guest_set_trap: which traps go together, and what a trap does to memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_GUEST_TRAP_BELL,
    ZX_GUEST_TRAP_IO,
    ZX_GUEST_TRAP_MEM,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import GuestHandles, Maker

pytestmark = pytest.mark.kvm

BELL, MEM, IO = ZX_GUEST_TRAP_BELL, ZX_GUEST_TRAP_MEM, ZX_GUEST_TRAP_IO
OK, INVALID_ARGS, OUT_OF_RANGE = Status.OK, Status.INVALID_ARGS, Status.OUT_OF_RANGE
ALREADY_EXISTS = Status.ALREADY_EXISTS
TOP = (1 << 64) - 1
PAGE = 0x1000
END = 1 << 48  # no guest's address space is larger
MEMORY = 1 << 20

#: What may lie beside an I/O trap at 40h..43h and a memory trap at 80000h..82FFFh.
NEIGHBOURS = [
    ("an I/O trap just below", IO, 0x30, 16, OK),
    ("an I/O trap just above", IO, 0x44, 1, OK),
    ("a bell on a memory trap", BELL, 0x81000, PAGE, ALREADY_EXISTS),
    ("a memory trap just below", MEM, 0x7F000, PAGE, OK),
    ("a bell just above", BELL, 0x83000, PAGE, OK),
    ("memory with the numbers of an I/O trap", MEM, 0, PAGE, OK),
]


@pytest.mark.parametrize(
    ("kind", "addr", "size", "status"), [row[1:] for row in NEIGHBOURS], ids=[row[0] for row in NEIGHBOURS]
)
def test_traps_of_one_space_may_touch_and_not_overlap(
    make: Maker, kind: int, addr: int, size: int, status: Status
) -> None:
    guest = make.guest().guest
    assert zx.zx_guest_set_trap(guest, IO, 0x40, 4, 0, 1) is OK
    assert zx.zx_guest_set_trap(guest, MEM, 0x80000, 3 * PAGE, 0, 1) is OK
    port = make.port(0) if kind == BELL else 0
    assert zx.zx_guest_set_trap(guest, kind, addr, size, port, 2) is status


def test_traps_of_two_guests_do_not_meet(make: Maker) -> None:
    for _ in range(2):
        guest = make.guest().guest
        for kind, addr, size in [(IO, 0x60, 1), (MEM, 0x60000, PAGE)]:
            assert zx.zx_guest_set_trap(guest, kind, addr, size, 0, 0) is OK


@pytest.mark.parametrize(("kind", "unit"), [(IO, 1), (MEM, PAGE)], ids=["I/O", "memory"])
def test_a_thousand_traps_are_kept_apart(make: Maker, kind: int, unit: int) -> None:
    guest = make.guest().guest
    base = 0 if kind == IO else MEMORY
    places = [base + (place * 7919) % 4096 * unit for place in range(1000)]
    for place in places:
        assert zx.zx_guest_set_trap(guest, kind, place, unit, 0, place) is OK
    for place in places:
        assert zx.zx_guest_set_trap(guest, kind, place, unit, 0, place) is ALREADY_EXISTS


def has_memory(made: GuestHandles, addr: int) -> bool:
    """Whether a page is mapped: mapping it in its place again is refused then."""
    options = zx.ZX_VM_PERM_READ | zx.ZX_VM_SPECIFIC
    status, _ = zx.zx_vmar_map(made.vmar, options, addr, made.memory, addr, PAGE)
    if status is OK:
        assert zx.zx_vmar_unmap(made.vmar, addr, PAGE) is OK
    return status is ALREADY_EXISTS


@pytest.mark.parametrize("kind", [MEM, BELL], ids=["memory", "bell"])
def test_a_trap_takes_what_is_mapped_there_out_of_guest_memory_and_no_more(make: Maker, kind: int) -> None:
    made = make.guest()
    port = make.port() if kind == BELL else 0
    assert zx.zx_guest_set_trap(made.guest, kind, 0x80000, 2 * PAGE, port, 0) is OK
    pages = [0x7F000, 0x80000, 0x81000, 0x82000]
    assert [has_memory(made, page) for page in pages] == [True, False, False, True]


@pytest.mark.parametrize("kind", [MEM, BELL], ids=["memory", "bell"])
def test_a_trap_may_begin_in_memory_and_end_behind_it(make: Maker, kind: int) -> None:
    made = make.guest()
    port = make.port() if kind == BELL else 0
    assert zx.zx_guest_set_trap(made.guest, kind, MEMORY - PAGE, 3 * PAGE, port, 0) is OK
    assert [has_memory(made, page) for page in (MEMORY - 2 * PAGE, MEMORY - PAGE)] == [True, False]


@pytest.mark.parametrize(
    ("kind", "addr", "status"),
    [(MEM, 0x7F000, ALREADY_EXISTS), (BELL, 0x7F000, ALREADY_EXISTS), (MEM, 0x7F800, INVALID_ARGS)],
)
def test_a_trap_that_is_refused_leaves_memory_as_it_was(make: Maker, kind: int, addr: int, status: Status) -> None:
    made = make.guest()
    port = make.port() if kind == BELL else 0
    assert zx.zx_guest_set_trap(made.guest, MEM, 0x80000, PAGE, 0, 0) is OK
    assert zx.zx_guest_set_trap(made.guest, kind, addr, 2 * PAGE, port, 0) is status
    assert has_memory(made, 0x7F000)


def test_keys_are_opaque_and_need_not_differ(make: Maker) -> None:
    guest = make.guest().guest
    for place, key in enumerate([0, TOP, 0, TOP]):
        assert zx.zx_guest_set_trap(guest, MEM, place * PAGE, PAGE, 0, key) is OK
