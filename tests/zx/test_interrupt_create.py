"""zx_interrupt_create, and the lookups that every interrupt call begins with."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.zx import (
    ZX_INTERRUPT_MODE_EDGE_BOTH,
    ZX_INTERRUPT_MODE_EDGE_HIGH,
    ZX_INTERRUPT_MODE_EDGE_LOW,
    ZX_INTERRUPT_MODE_LEVEL_HIGH,
    ZX_INTERRUPT_MODE_LEVEL_LOW,
    ZX_INTERRUPT_REMAP_IRQ,
    ZX_INTERRUPT_SLOT_USER,
    ZX_INTERRUPT_UNBIND,
    ZX_INTERRUPT_VIRTUAL,
    ZX_RIGHT_NONE,
    ZX_RIGHT_READ,
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WAIT,
    ZX_RIGHT_WRITE,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zx.conftest import Maker

OK, INVALID_ARGS, BAD_HANDLE, WRONG_TYPE = Status.OK, Status.INVALID_ARGS, Status.BAD_HANDLE, Status.WRONG_TYPE
ACCESS_DENIED = Status.ACCESS_DENIED


@pytest.mark.parametrize("vector", [0, 1, 15, 16, 64, 255])
def test_a_virtual_interrupt_has_any_vector_from_0_to_255(make: Maker, vector: int) -> None:
    interrupt = make.interrupt(vector)
    assert kvmbind.Interrupt.borrow(interrupt).vector == vector


@pytest.mark.parametrize("vector", [256, 1 << 31, 0xFFFFFFFF])
def test_there_is_no_vector_above_255(vector: int) -> None:
    assert zx.zx_interrupt_create(0, vector, ZX_INTERRUPT_VIRTUAL) == (INVALID_ARGS, 0)


@pytest.mark.parametrize("options", [0x11, 0x12, 0x18, 0x30, 0x50, ZX_INTERRUPT_SLOT_USER, 0xFFFFFFFF])
def test_virtual_goes_with_no_other_option_whatever_the_resource(make: Maker, options: int) -> None:
    assert zx.zx_interrupt_create(make.closed(), 0x40, options) == (INVALID_ARGS, 0)


EDGES = [0, ZX_INTERRUPT_MODE_EDGE_LOW, ZX_INTERRUPT_MODE_EDGE_HIGH, ZX_INTERRUPT_MODE_EDGE_BOTH]


@pytest.mark.kvm
@pytest.mark.parametrize("mode", [*EDGES, ZX_INTERRUPT_REMAP_IRQ, ZX_INTERRUPT_REMAP_IRQ | ZX_INTERRUPT_MODE_EDGE_LOW])
def test_a_physical_interrupt_has_any_mode_of_edges_and_is_not_triggered_by_a_call(make: Maker, mode: int) -> None:
    resource = make.with_rights(make.resource(), ZX_RIGHT_NONE)
    interrupt = make.keep(zx.zx_interrupt_create(resource, 0x40, mode))
    assert zx.zx_interrupt_trigger(interrupt, 0, 1) is Status.BAD_STATE
    assert zx.zx_interrupt_destroy(interrupt) is OK
    assert zx.zx_interrupt_trigger(interrupt, 0, 1) is Status.BAD_STATE


@pytest.mark.kvm
@pytest.mark.parametrize("mode", [ZX_INTERRUPT_MODE_LEVEL_LOW, ZX_INTERRUPT_MODE_LEVEL_HIGH])
def test_a_physical_interrupt_of_a_level_mode_tells_each_end_by_an_eventfd(make: Maker, mode: int) -> None:
    interrupt, port = make.keep(zx.zx_interrupt_create(make.resource(), 0x40, mode)), make.port()
    assert zx.zx_interrupt_bind(interrupt, port, 7, 0) is OK
    level = kvmbind.Interrupt.borrow(interrupt)
    os.eventfd_write(level.fileno(), 1)
    assert zx.zx_port_wait(port, zx.ZX_TIME_INFINITE)[0] is OK
    assert select.select([level.eoi_fileno()], [], [], 0)[0] == []
    assert zx.zx_interrupt_ack(interrupt) is OK
    assert os.eventfd_read(level.eoi_fileno()) == 1


@pytest.mark.kvm
@pytest.mark.parametrize("options", [0xC, 0xE, 0x20, 0x40, 0x100, 1 << 31])
def test_a_physical_interrupt_looks_at_the_resource_before_the_options(make: Maker, options: int) -> None:
    assert zx.zx_interrupt_create(make.closed(), 256, options) == (BAD_HANDLE, 0)
    assert zx.zx_interrupt_create(make.port(), 256, options) == (WRONG_TYPE, 0)
    assert zx.zx_interrupt_create(make.resource(), 256, options) == (INVALID_ARGS, 0)


@pytest.mark.kvm
def test_a_resource_that_is_not_for_interrupts_is_of_wrong_type(make: Maker) -> None:
    root = make.resource()
    for kind in (zx.ZX_RSRC_KIND_HYPERVISOR, zx.ZX_RSRC_KIND_VMEX):
        resource = make.keep(zx.zx_resource_create(root, kind, 0, 0, b""))
        assert zx.zx_interrupt_create(resource, 256, 0x100) == (WRONG_TYPE, 0)
    ports = make.keep(zx.zx_resource_create(root, zx.ZX_RSRC_KIND_IOPORT, 0, 256, b""))
    assert zx.zx_interrupt_create(ports, 256, 0x100) == (WRONG_TYPE, 0)


@pytest.mark.kvm
def test_the_vector_of_a_physical_interrupt_is_in_the_resources_range_before_anything_else_of_it(make: Maker) -> None:
    resource = make.keep(zx.zx_resource_create(make.resource(), zx.ZX_RSRC_KIND_IRQ, 0x40, 2, b""))
    for vector in (0, 0x3F, 0x42, 0xFF, 0x100, 0xFFFFFFFF):
        assert zx.zx_interrupt_create(resource, vector, 0x100) == (Status.OUT_OF_RANGE, 0)
    assert zx.zx_interrupt_create(resource, 0x40, 0x100) == (INVALID_ARGS, 0)
    for vector in (0x40, 0x41):
        make.keep(zx.zx_interrupt_create(resource, vector, 0))


@pytest.mark.kvm
def test_a_root_resource_is_for_every_vector(make: Maker) -> None:
    root = make.resource()
    assert zx.zx_interrupt_create(root, 256, 0) == (INVALID_ARGS, 0)
    for vector in (0, 255):
        make.keep(zx.zx_interrupt_create(root, vector, 0))


#: Each call on the interrupt with the right that it needs.
CALLS: dict[str, tuple[int, Callable[[int, int], Status]]] = {
    "bind": (ZX_RIGHT_READ, lambda interrupt, port: zx.zx_interrupt_bind(interrupt, port, 0, 0)),
    "unbind": (ZX_RIGHT_READ, lambda interrupt, port: zx.zx_interrupt_bind(interrupt, port, 0, ZX_INTERRUPT_UNBIND)),
    "wait": (ZX_RIGHT_WAIT, lambda interrupt, port: zx.zx_interrupt_wait(interrupt)[0]),
    "ack": (ZX_RIGHT_WRITE, lambda interrupt, port: zx.zx_interrupt_ack(interrupt)),
    "trigger": (ZX_RIGHT_SIGNAL, lambda interrupt, port: zx.zx_interrupt_trigger(interrupt, 0, 0)),
    "destroy": (ZX_RIGHT_NONE, lambda interrupt, port: zx.zx_interrupt_destroy(interrupt)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_looks_at_the_handle_then_its_type_then_the_right(make: Maker, name: str) -> None:
    right, call = CALLS[name]
    interrupt, port = make.interrupt(), make.port()
    assert zx.zx_interrupt_destroy(interrupt) is OK  # a later fault than all of these
    assert call(make.closed(), port) is BAD_HANDLE
    assert call(make.with_rights(make.vmo(4096), ZX_RIGHT_NONE), port) is WRONG_TYPE
    if right:
        assert call(make.without(interrupt, right), port) is ACCESS_DENIED
    assert call(make.with_rights(interrupt, right), port) not in (BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED)


BIND_ORDER = [
    ("options before the interrupt", "closed", "closed", 2, INVALID_ARGS),
    ("the interrupt's handle before the port's", "closed", "closed", 0, BAD_HANDLE),
    ("the interrupt's type before the port's handle", "port", "closed", 0, WRONG_TYPE),
    ("the interrupt's right before the port's handle", "denied", "closed", 0, ACCESS_DENIED),
    ("the port's handle before the state", "destroyed", "closed", 0, BAD_HANDLE),
    ("the port's type before the state", "destroyed", "denied", 0, WRONG_TYPE),
    ("the port's right before its kind", "destroyed", "plain denied", 0, ACCESS_DENIED),
    ("the port's kind before the state", "destroyed", "plain", 0, WRONG_TYPE),
    ("the state", "destroyed", "port", 0, Status.CANCELED),
]


@pytest.mark.parametrize(
    ("interrupt", "port", "options", "status"), [row[1:] for row in BIND_ORDER], ids=[row[0] for row in BIND_ORDER]
)
def test_bind_answers_with_the_first_fault(
    make: Maker, interrupt: str, port: str, options: int, status: Status
) -> None:
    destroyed, plain = make.interrupt(), make.port(0)
    zx.zx_interrupt_destroy(destroyed)
    handles = {"closed": make.closed(), "port": make.port(), "destroyed": destroyed, "plain": plain}
    handles["denied"] = make.without(destroyed, ZX_RIGHT_READ)
    handles["plain denied"] = make.without(plain, ZX_RIGHT_WRITE)
    assert zx.zx_interrupt_bind(handles[interrupt], handles[port], 0, options) is status


def test_trigger_looks_at_its_options_before_the_handle(make: Maker) -> None:
    assert zx.zx_interrupt_trigger(make.closed(), 1, 0) is INVALID_ARGS
    assert zx.zx_interrupt_trigger(make.closed(), 0, 0) is BAD_HANDLE
