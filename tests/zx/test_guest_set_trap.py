"""zx_guest_set_trap: what is refused, in which order, and what a trap does to memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_GUEST_TRAP_BELL,
    ZX_GUEST_TRAP_IO,
    ZX_GUEST_TRAP_MEM,
    ZX_RIGHT_WRITE,
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

#: A fault of each step of the table in zircon.md 2.2 together with one of the next; the first decides. The guest has an
#: I/O trap at 40h..43h and a memory trap at 80000h..82FFFh.
TRAPS = [
    ("a closed guest before a closed port", "closed", IO, 0, 0, "closed", Status.BAD_HANDLE),
    ("the guest's type before a closed port", "port", IO, 0, 0, "closed", Status.WRONG_TYPE),
    ("the guest's right before a closed port", "read-only", IO, 0, 0, "closed", Status.ACCESS_DENIED),
    ("a closed port before the size", "guest", BELL, 0, 0, "closed", Status.BAD_HANDLE),
    ("the port's type before the size", "guest", BELL, 0, 0, "guest", Status.WRONG_TYPE),
    ("the port's right before the size", "guest", BELL, 0, 0, "read-only port", Status.ACCESS_DENIED),
    ("no size before the end of 64 bits", "guest", IO, TOP, 0, "port", INVALID_ARGS),
    ("the end of 64 bits before the port's place", "guest", IO, TOP, 1, "port", OUT_OF_RANGE),
    ("the end of 64 bits before the kind", "guest", 77, TOP, 2, "none", OUT_OF_RANGE),
    ("the end of 64 bits before alignment", "guest", MEM, TOP, 2, "none", OUT_OF_RANGE),
    ("exactly 64 bits are too many", "guest", IO, 1, TOP, "port", OUT_OF_RANGE),
    ("a port for I/O before the range", "guest", IO, 0xFFFF, 2, "port", INVALID_ARGS),
    ("an unknown kind", "guest", 77, 0x60, 1, "none", INVALID_ARGS),
    ("a port for memory", "guest", MEM, PAGE, PAGE, "port", INVALID_ARGS),
    ("a bell without a port", "guest", BELL, PAGE, PAGE, "none", INVALID_ARGS),
    ("the range of I/O before the overlap", "guest", IO, 0x40, 0xFFFF, "none", OUT_OF_RANGE),
    ("port FFFFh can never be covered", "guest", IO, 0xFFFF, 1, "none", OUT_OF_RANGE),
    ("the last port is FFFEh", "guest", IO, 0xFFFE, 1, "none", OK),
    ("the same I/O trap again", "guest", IO, 0x40, 4, "none", ALREADY_EXISTS),
    ("an I/O trap that begins inside", "guest", IO, 0x43, 9, "none", ALREADY_EXISTS),
    ("an I/O trap that ends inside", "guest", IO, 0x30, 17, "none", ALREADY_EXISTS),
    ("an I/O trap around it", "guest", IO, 0x30, 0x100, "none", ALREADY_EXISTS),
    ("an I/O trap just below", "guest", IO, 0x30, 16, "none", OK),
    ("an I/O trap just above", "guest", IO, 0x44, 1, "none", OK),
    ("an address amid a page before the overlap", "guest", MEM, 0x80800, PAGE, "none", INVALID_ARGS),
    ("a size of half a page before the overlap", "guest", BELL, 0x80000, PAGE // 2, "port", INVALID_ARGS),
    ("memory past the address space", "guest", MEM, END, PAGE, "none", INVALID_ARGS),
    ("a bell past the address space", "guest", BELL, END - PAGE, 2 * PAGE, "port", INVALID_ARGS),
    ("the address space before the overlap", "guest", MEM, 0x80000, END, "none", INVALID_ARGS),
    ("the same memory trap again", "guest", MEM, 0x80000, 3 * PAGE, "none", ALREADY_EXISTS),
    ("a bell on a memory trap", "guest", BELL, 0x81000, PAGE, "port", ALREADY_EXISTS),
    ("a memory trap that begins inside", "guest", MEM, 0x82000, 2 * PAGE, "none", ALREADY_EXISTS),
    ("a memory trap that ends inside", "guest", MEM, 0x7F000, 2 * PAGE, "none", ALREADY_EXISTS),
    ("a memory trap around it", "guest", MEM, 0x70000, 0x20000, "none", ALREADY_EXISTS),
    ("a memory trap just below", "guest", MEM, 0x7F000, PAGE, "none", OK),
    ("a bell just above", "guest", BELL, 0x83000, PAGE, "port", OK),
    ("memory that was never mapped", "guest", MEM, 0x40000000, PAGE, "none", OK),
    ("memory with the numbers of an I/O trap", "guest", MEM, 0, PAGE, "none", OK),
]


@pytest.mark.parametrize(
    ("guest", "kind", "addr", "size", "port", "status"), [trap[1:] for trap in TRAPS], ids=[trap[0] for trap in TRAPS]
)
def test_set_trap_answers_with_the_first_fault(
    make: Maker, guest: str, kind: int, addr: int, size: int, port: str, status: Status
) -> None:
    made = make.guest()
    assert zx.zx_guest_set_trap(made.guest, IO, 0x40, 4, 0, 1) is OK
    assert zx.zx_guest_set_trap(made.guest, MEM, 0x80000, 3 * PAGE, 0, 1) is OK
    handles = {
        "none": 0,
        "closed": make.closed(),
        "guest": made.guest,
        "read-only": make.without(made.guest, ZX_RIGHT_WRITE),
        "port": make.port(0),
        "read-only port": make.without(make.port(0), ZX_RIGHT_WRITE),
    }
    assert zx.zx_guest_set_trap(handles[guest], kind, addr, size, handles[port], 2) is status


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


@pytest.mark.parametrize(
    ("kind", "addr", "size", "key"),
    [(-1, 0, 1, 0), (1 << 32, 0, 1, 0), (MEM, -1, 1, 0), (MEM, 0, 1 << 64, 0), (MEM, 0, PAGE, 1 << 64)],
)
def test_a_number_outside_its_c_type_is_invalid(make: Maker, kind: int, addr: int, size: int, key: int) -> None:
    assert zx.zx_guest_set_trap(make.guest().guest, kind, addr, size, 0, key) is INVALID_ARGS
