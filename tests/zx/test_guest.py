"""zx_guest_create: what it makes, and with which resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import ZX_INFO_HANDLE_BASIC, ZX_RIGHT_NONE, Status

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

pytestmark = pytest.mark.kvm

OK, INVALID_ARGS = Status.OK, Status.INVALID_ARGS


def test_create_gives_a_guest_and_its_vmar_and_needs_no_right_on_the_resource(make: Maker) -> None:
    resource = make.with_rights(make.resource(), ZX_RIGHT_NONE)
    status, guest, vmar = zx.zx_guest_create(resource, 0)
    make.keep((status, guest))
    make.keep((status, vmar))
    assert guest != vmar
    for handle, rights in [(guest, 0x2800B), (vmar, 0x801F)]:
        assert zx.zx_object_get_info(handle, ZX_INFO_HANDLE_BASIC)[1].rights == rights


def test_create_refuses_a_resource_of_another_kind_as_of_wrong_type(make: Maker) -> None:
    root = make.resource()
    irq = make.keep(zx.zx_resource_create(root, zx.ZX_RSRC_KIND_IRQ, 0, 256, b""))
    vmex = make.keep(zx.zx_resource_create(root, zx.ZX_RSRC_KIND_VMEX, 0, 0, b""))
    for resource in (irq, vmex):
        assert zx.zx_guest_create(resource, 0) == (Status.WRONG_TYPE, 0, 0)


def test_a_guest_outlives_its_resource(make: Maker) -> None:
    resource = make.resource()
    status, guest, vmar = zx.zx_guest_create(resource, 0)
    zx.zx_handle_close(resource)
    assert status is OK
    make.vcpu(guest)
    assert zx.zx_handle_close_many([vmar, guest]) is OK
