"""zx_guest_create, and zx_guest_set_trap for I/O ports: what is refused, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_GUEST_TRAP_BELL,
    ZX_GUEST_TRAP_IO,
    ZX_GUEST_TRAP_MEM,
    ZX_INFO_HANDLE_BASIC,
    ZX_RIGHT_NONE,
    ZX_RIGHT_WRITE,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

pytestmark = pytest.mark.kvm

OK, INVALID_ARGS, OUT_OF_RANGE = Status.OK, Status.INVALID_ARGS, Status.OUT_OF_RANGE
TOP = (1 << 64) - 1


def test_create_gives_a_guest_and_its_vmar_and_needs_no_right_on_the_resource(make: Maker) -> None:
    resource = make.with_rights(make.resource(), ZX_RIGHT_NONE)
    status, guest, vmar = zx.zx_guest_create(resource, 0)
    make.keep((status, guest))
    make.keep((status, vmar))
    assert guest != vmar
    for handle, rights in [(guest, 0x2800B), (vmar, 0x801F)]:
        assert zx.zx_object_get_info(handle, ZX_INFO_HANDLE_BASIC)[1].rights == rights


def test_create_looks_at_options_then_the_handle_then_its_type(make: Maker) -> None:
    assert zx.zx_guest_create(0, 1) == (INVALID_ARGS, 0, 0)
    assert zx.zx_guest_create(make.resource(), 1) == (INVALID_ARGS, 0, 0)
    assert zx.zx_guest_create(make.closed(), 0) == (Status.BAD_HANDLE, 0, 0)
    assert zx.zx_guest_create(make.port(), 0) == (Status.WRONG_TYPE, 0, 0)


def test_create_refuses_a_resource_of_another_kind_as_of_wrong_type(make: Maker) -> None:
    from kvmbind.zircon import handles
    from kvmbind.zircon.resource import ResourceDispatcher

    resource = make.resource()
    handles.find(resource, ResourceDispatcher).kind = zx.ZX_RSRC_KIND_IRQ
    assert zx.zx_guest_create(resource, 0) == (Status.WRONG_TYPE, 0, 0)
    handles.find(resource, ResourceDispatcher).kind = zx.ZX_RSRC_KIND_HYPERVISOR
    status, guest, vmar = zx.zx_guest_create(resource, 0)
    assert status is OK
    assert zx.zx_handle_close_many([guest, vmar]) is OK


def test_a_guest_outlives_its_resource(make: Maker) -> None:
    resource = make.resource()
    status, guest, vmar = zx.zx_guest_create(resource, 0)
    zx.zx_handle_close(resource)
    assert status is OK
    make.vcpu(guest)
    assert zx.zx_handle_close_many([vmar, guest]) is OK


#: A fault of each step of the table in zircon.md 2.2 together with one of the next; the first decides.
TRAPS = [
    ("a closed guest before a closed port", "closed", ZX_GUEST_TRAP_IO, 0, 0, "closed", Status.BAD_HANDLE),
    ("the guest's type before a closed port", "port", ZX_GUEST_TRAP_IO, 0, 0, "closed", Status.WRONG_TYPE),
    ("the guest's right before a closed port", "read-only", ZX_GUEST_TRAP_IO, 0, 0, "closed", Status.ACCESS_DENIED),
    ("a closed port before the size", "guest", ZX_GUEST_TRAP_IO, 0, 0, "closed", Status.BAD_HANDLE),
    ("the port's type before the size", "guest", ZX_GUEST_TRAP_IO, 0, 0, "guest", Status.WRONG_TYPE),
    ("the port's right before the size", "guest", ZX_GUEST_TRAP_IO, 0, 0, "read-only port", Status.ACCESS_DENIED),
    ("no size before the end of 64 bits", "guest", ZX_GUEST_TRAP_IO, TOP, 0, "port", INVALID_ARGS),
    ("the end of 64 bits before the port's place", "guest", ZX_GUEST_TRAP_IO, TOP, 1, "port", OUT_OF_RANGE),
    ("the end of 64 bits before the kind", "guest", 77, TOP, 2, "none", OUT_OF_RANGE),
    ("exactly 64 bits are too many", "guest", ZX_GUEST_TRAP_IO, 1, TOP, "port", OUT_OF_RANGE),
    ("a port for I/O before the range", "guest", ZX_GUEST_TRAP_IO, 0xFFFF, 2, "port", INVALID_ARGS),
    ("an unknown kind", "guest", 77, 0x60, 1, "none", INVALID_ARGS),
    ("a port for memory", "guest", ZX_GUEST_TRAP_MEM, 0x1000, 0x1000, "port", INVALID_ARGS),
    ("a bell without a port", "guest", ZX_GUEST_TRAP_BELL, 0x1000, 0x1000, "none", INVALID_ARGS),
    ("the range before the overlap", "guest", ZX_GUEST_TRAP_IO, 0x40, 0xFFFF, "none", OUT_OF_RANGE),
    ("port FFFFh can never be covered", "guest", ZX_GUEST_TRAP_IO, 0xFFFF, 1, "none", OUT_OF_RANGE),
    ("the last port is FFFEh", "guest", ZX_GUEST_TRAP_IO, 0xFFFE, 1, "none", OK),
    ("the same trap again", "guest", ZX_GUEST_TRAP_IO, 0x40, 4, "none", Status.ALREADY_EXISTS),
    ("one that begins inside", "guest", ZX_GUEST_TRAP_IO, 0x43, 9, "none", Status.ALREADY_EXISTS),
    ("one that ends inside", "guest", ZX_GUEST_TRAP_IO, 0x30, 17, "none", Status.ALREADY_EXISTS),
    ("one around it", "guest", ZX_GUEST_TRAP_IO, 0x30, 0x100, "none", Status.ALREADY_EXISTS),
    ("one just below", "guest", ZX_GUEST_TRAP_IO, 0x30, 16, "none", OK),
    ("one just above", "guest", ZX_GUEST_TRAP_IO, 0x44, 1, "none", OK),
]


@pytest.mark.parametrize(
    ("guest", "kind", "addr", "size", "port", "status"), [trap[1:] for trap in TRAPS], ids=[trap[0] for trap in TRAPS]
)
def test_set_trap_answers_with_the_first_fault(
    make: Maker, guest: str, kind: int, addr: int, size: int, port: str, status: Status
) -> None:
    made = make.guest()
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_IO, 0x40, 4, 0, 1) is OK
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
        assert zx.zx_guest_set_trap(make.guest().guest, ZX_GUEST_TRAP_IO, 0x60, 1, 0, 0) is OK


def test_a_thousand_traps_are_kept_apart(make: Maker) -> None:
    guest = make.guest().guest
    ports = [(place * 7919) % 4096 for place in range(1000)]
    for port in ports:
        assert zx.zx_guest_set_trap(guest, ZX_GUEST_TRAP_IO, port, 1, 0, port) is OK
    for port in ports:
        assert zx.zx_guest_set_trap(guest, ZX_GUEST_TRAP_IO, port, 1, 0, port) is Status.ALREADY_EXISTS
