"""zx_object_get_property and zx_object_set_property: the names of VMOs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_PROP_NAME,
    ZX_RIGHT_GET_PROPERTY,
    ZX_RIGHT_SET_PROPERTY,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, INVALID_ARGS, ACCESS_DENIED, BAD_HANDLE = Status.OK, Status.INVALID_ARGS, Status.ACCESS_DENIED, Status.BAD_HANDLE


def test_a_vmo_has_no_name_before_it_is_given_one(make: Maker) -> None:
    vmo = make.vmo(4096)
    assert zx.zx_object_get_property(vmo, ZX_PROP_NAME) == (OK, b"")
    assert zx.zx_object_set_property(vmo, ZX_PROP_NAME, b"guest memory") is OK
    assert zx.zx_object_get_property(vmo, ZX_PROP_NAME) == (OK, b"guest memory")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"", b""),
        (b"x" * 31, b"x" * 31),
        (b"x" * 32, b"x" * 31),
        (b"x" * 1000, b"x" * 31),
        (b"up to\0here", b"up to"),
        (b"\0", b""),
        (bytearray(b"\xff\x80"), b"\xff\x80"),
        (memoryview(b"a view"), b"a view"),
    ],
)
def test_a_name_is_its_first_31_bytes_up_to_a_nul(
    make: Maker, value: bytes | bytearray | memoryview, name: bytes
) -> None:
    vmo = make.vmo(4096)
    assert zx.zx_object_set_property(vmo, ZX_PROP_NAME, b"before") is OK
    assert zx.zx_object_set_property(vmo, ZX_PROP_NAME, value) is OK
    assert zx.zx_object_get_property(vmo, ZX_PROP_NAME) == (OK, name)


def test_handles_to_one_vmo_share_its_name(make: Maker) -> None:
    vmo = make.vmo(4096)
    setter, getter = make.with_rights(vmo, ZX_RIGHT_SET_PROPERTY), make.with_rights(vmo, ZX_RIGHT_GET_PROPERTY)
    assert zx.zx_object_set_property(setter, ZX_PROP_NAME, b"shared") is OK
    assert zx.zx_object_get_property(getter, ZX_PROP_NAME) == (OK, b"shared")


@pytest.mark.kvm
def test_handles_to_all_other_objects_have_neither_right(make: Maker) -> None:
    guest = make.guest()
    for handle in (guest.guest, guest.vmar, make.vcpu(guest.guest), make.interrupt(), make.port(), make.resource()):
        assert zx.zx_object_get_property(handle, ZX_PROP_NAME) == (ACCESS_DENIED, b"")
        assert zx.zx_object_set_property(handle, ZX_PROP_NAME, b"x") is ACCESS_DENIED
