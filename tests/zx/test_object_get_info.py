"""zx_object_get_info: what is known of handles and their objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_INFO_GUEST_STATS,
    ZX_INFO_HANDLE_BASIC,
    ZX_INFO_HANDLE_COUNT,
    ZX_INFO_HANDLE_VALID,
    ZX_INFO_MSI,
    ZX_INFO_VCPU,
    ZX_INFO_VCPU_FLAG_KICKED,
    ZX_OBJ_TYPE_GUEST,
    ZX_OBJ_TYPE_INTERRUPT,
    ZX_OBJ_TYPE_PORT,
    ZX_OBJ_TYPE_RESOURCE,
    ZX_OBJ_TYPE_VCPU,
    ZX_OBJ_TYPE_VMAR,
    ZX_OBJ_TYPE_VMO,
    ZX_RIGHT_INSPECT,
    ZX_RIGHT_NONE,
    ZX_RIGHT_SAME_RIGHTS,
    InfoHandleBasic,
    InfoVcpu,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

#: Each kind of object: its type, the rights of its first handle, and whether signals can be waited for.
KINDS = {
    "resource": (ZX_OBJ_TYPE_RESOURCE, 0x800B, 0),
    "guest": (ZX_OBJ_TYPE_GUEST, 0x2800B, 0),
    "vmar": (ZX_OBJ_TYPE_VMAR, 0x801F, 0),
    "vcpu": (ZX_OBJ_TYPE_VCPU, 0xD01F, 1),
    "interrupt": (ZX_OBJ_TYPE_INTERRUPT, 0xD00F, 1),
    "port": (ZX_OBJ_TYPE_PORT, 0x800F, 0),
    "vmo": (ZX_OBJ_TYPE_VMO, 0xD0FF, 1),
}


def one(make: Maker, kind: str) -> int:
    match kind:
        case "interrupt":
            return make.interrupt()
        case "port":
            return make.port()
        case "vmo":
            return make.vmo(4096)
        case "resource":
            return make.resource()
        case "guest":
            return make.guest().guest
        case "vmar":
            return make.guest().vmar
    return make.vcpu(make.guest().guest)


@pytest.mark.kvm
@pytest.mark.parametrize("kind", KINDS)
def test_handle_basic_tells_type_rights_and_koid_of_every_kind_of_object(make: Maker, kind: str) -> None:
    status, info = zx.zx_object_get_info(one(make, kind), ZX_INFO_HANDLE_BASIC)
    assert status is Status.OK
    assert (info.type, info.rights, info.props) == KINDS[kind]
    assert info.koid >= 1024
    assert info.related_koid == 0


def test_handles_to_one_object_have_one_koid_and_their_own_rights(make: Maker) -> None:
    port = make.port()
    other = make.with_rights(port, ZX_RIGHT_NONE)
    _, first = zx.zx_object_get_info(port, ZX_INFO_HANDLE_BASIC)
    status, second = zx.zx_object_get_info(other, ZX_INFO_HANDLE_BASIC)
    assert (status, second.rights) == (Status.OK, 0)
    assert first.koid == second.koid
    _, another = zx.zx_object_get_info(make.port(), ZX_INFO_HANDLE_BASIC)
    assert another.koid > first.koid


def test_handle_valid_needs_no_right_and_tells_open_handles_from_others(make: Maker) -> None:
    port = make.with_rights(make.port(), ZX_RIGHT_NONE)
    assert zx.zx_object_get_info(port, ZX_INFO_HANDLE_VALID) == (Status.OK, 0)
    assert zx.zx_object_get_info(make.closed(), ZX_INFO_HANDLE_VALID) == (Status.BAD_HANDLE, 0)


def test_handle_count_follows_the_handles(make: Maker) -> None:
    port = make.port()
    counts = [zx.zx_object_get_info(port, ZX_INFO_HANDLE_COUNT)]
    other = make.with_rights(port, ZX_RIGHT_SAME_RIGHTS)
    counts.append(zx.zx_object_get_info(port, ZX_INFO_HANDLE_COUNT))
    zx.zx_handle_close(other)
    counts.append(zx.zx_object_get_info(port, ZX_INFO_HANDLE_COUNT))
    assert counts == [(Status.OK, 1), (Status.OK, 2), (Status.OK, 1)]


def test_handle_count_needs_the_right_to_inspect(make: Maker) -> None:
    blind = make.without(make.port(), ZX_RIGHT_INSPECT)
    assert zx.zx_object_get_info(blind, ZX_INFO_HANDLE_COUNT) == (Status.ACCESS_DENIED, 0)


@pytest.mark.kvm
def test_vcpu_tells_whether_a_kick_waits_for_the_next_enter(make: Maker) -> None:
    vcpu = make.vcpu(make.guest().guest)
    assert zx.zx_object_get_info(vcpu, ZX_INFO_VCPU) == (Status.OK, InfoVcpu())
    assert zx.zx_vcpu_kick(vcpu) is Status.OK
    kicked = InfoVcpu(flags=ZX_INFO_VCPU_FLAG_KICKED)
    assert zx.zx_object_get_info(vcpu, ZX_INFO_VCPU) == (Status.OK, kicked)
    assert zx.zx_vcpu_enter(vcpu)[0] is Status.CANCELED
    assert zx.zx_object_get_info(vcpu, ZX_INFO_VCPU) == (Status.OK, InfoVcpu())


def test_vcpu_looks_at_the_type_before_the_right(make: Maker) -> None:
    blind = make.without(make.port(), ZX_RIGHT_INSPECT)
    assert zx.zx_object_get_info(blind, ZX_INFO_VCPU) == (Status.WRONG_TYPE, InfoVcpu())


@pytest.mark.kvm
def test_vcpu_needs_the_right_to_inspect(make: Maker) -> None:
    blind = make.without(make.vcpu(make.guest().guest), ZX_RIGHT_INSPECT)
    assert zx.zx_object_get_info(blind, ZX_INFO_VCPU) == (Status.ACCESS_DENIED, InfoVcpu())


@pytest.mark.parametrize("topic", [0, 3, ZX_INFO_MSI, ZX_INFO_GUEST_STATS, 99, 0xFFFFFFFF])
def test_another_topic_is_not_supported_but_a_bad_handle_comes_first(make: Maker, topic: int) -> None:
    assert zx.zx_object_get_info(make.port(), topic) == (Status.NOT_SUPPORTED, 0)
    assert zx.zx_object_get_info(make.closed(), topic) == (Status.BAD_HANDLE, 0)


@pytest.mark.parametrize(("topic", "nothing"), [(ZX_INFO_HANDLE_BASIC, InfoHandleBasic()), (ZX_INFO_VCPU, InfoVcpu())])
def test_a_closed_handle_gives_zeros(make: Maker, topic: int, nothing: object) -> None:
    assert zx.zx_object_get_info(make.closed(), topic) == (Status.BAD_HANDLE, nothing)
