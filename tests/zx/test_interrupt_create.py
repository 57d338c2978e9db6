"""zx_interrupt_create: which interrupts there are, and what each can do."""

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
    ZX_RIGHT_NONE,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, INVALID_ARGS, BAD_HANDLE, WRONG_TYPE = Status.OK, Status.INVALID_ARGS, Status.BAD_HANDLE, Status.WRONG_TYPE
ACCESS_DENIED = Status.ACCESS_DENIED


@pytest.mark.parametrize("vector", [0, 1, 15, 16, 64, 255])
def test_a_virtual_interrupt_has_any_vector_from_0_to_255(make: Maker, vector: int) -> None:
    interrupt = make.interrupt(vector)
    assert kvmbind.Interrupt.borrow(interrupt).vector == vector


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
def test_a_resource_that_is_not_for_interrupts_is_of_wrong_type(make: Maker) -> None:
    root = make.resource()
    for kind in (zx.ZX_RSRC_KIND_HYPERVISOR, zx.ZX_RSRC_KIND_VMEX):
        resource = make.keep(zx.zx_resource_create(root, kind, 0, 0, b""))
        assert zx.zx_interrupt_create(resource, 256, 0x100) == (WRONG_TYPE, 0)
    ports = make.keep(zx.zx_resource_create(root, zx.ZX_RSRC_KIND_IOPORT, 0, 256, b""))
    assert zx.zx_interrupt_create(ports, 256, 0x100) == (WRONG_TYPE, 0)


@pytest.mark.kvm
def test_a_root_resource_is_for_every_vector(make: Maker) -> None:
    root = make.resource()
    assert zx.zx_interrupt_create(root, 256, 0) == (INVALID_ARGS, 0)
    for vector in (0, 255):
        make.keep(zx.zx_interrupt_create(root, vector, 0))
