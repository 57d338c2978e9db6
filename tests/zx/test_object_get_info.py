"""zx_object_get_info: what is known of handles and their objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_INFO_HANDLE_BASIC,
    ZX_INFO_HANDLE_COUNT,
    ZX_INFO_HANDLE_VALID,
    ZX_INFO_RESOURCE,
    ZX_INFO_VCPU,
    ZX_INFO_VCPU_FLAG_KICKED,
    ZX_INFO_VMAR,
    ZX_INFO_VMO,
    ZX_INFO_VMO_RESIZABLE,
    ZX_INFO_VMO_TYPE_PAGED,
    ZX_INFO_VMO_VIA_HANDLE,
    ZX_OBJ_TYPE_GUEST,
    ZX_OBJ_TYPE_INTERRUPT,
    ZX_OBJ_TYPE_PORT,
    ZX_OBJ_TYPE_RESOURCE,
    ZX_OBJ_TYPE_VCPU,
    ZX_OBJ_TYPE_VMAR,
    ZX_OBJ_TYPE_VMO,
    ZX_PROP_NAME,
    ZX_RIGHT_NONE,
    ZX_RIGHT_SAME_RIGHTS,
    ZX_RSRC_FLAG_EXCLUSIVE,
    ZX_RSRC_KIND_IRQ,
    ZX_RSRC_KIND_ROOT,
    ZX_VMO_RESIZABLE,
    InfoResource,
    InfoVcpu,
    InfoVmar,
    InfoVmo,
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


@pytest.mark.kvm
def test_vcpu_tells_whether_a_kick_waits_for_the_next_enter(make: Maker) -> None:
    vcpu = make.vcpu(make.guest().guest)
    assert zx.zx_object_get_info(vcpu, ZX_INFO_VCPU) == (Status.OK, InfoVcpu())
    assert zx.zx_vcpu_kick(vcpu) is Status.OK
    kicked = InfoVcpu(flags=ZX_INFO_VCPU_FLAG_KICKED)
    assert zx.zx_object_get_info(vcpu, ZX_INFO_VCPU) == (Status.OK, kicked)
    assert zx.zx_vcpu_enter(vcpu)[0] is Status.CANCELED
    assert zx.zx_object_get_info(vcpu, ZX_INFO_VCPU) == (Status.OK, InfoVcpu())


@pytest.mark.kvm
def test_vmar_tells_the_guests_physical_address_space(make: Maker) -> None:
    status, info = zx.zx_object_get_info(make.guest().vmar, ZX_INFO_VMAR)
    assert (status, info.base) == (Status.OK, 0)
    assert info.len in [1 << bits for bits in range(36, 49)]


@pytest.mark.kvm
def test_a_vmar_whose_guest_is_gone_still_tells_it(make: Maker) -> None:
    guest = make.guest()
    before = zx.zx_object_get_info(guest.vmar, ZX_INFO_VMAR)
    zx.zx_handle_close(guest.guest)
    assert zx.zx_object_get_info(guest.vmar, ZX_INFO_VMAR) == before


@pytest.mark.kvm
def test_resource_tells_kind_flags_range_and_name(make: Maker) -> None:
    root = make.resource()
    assert zx.zx_object_get_info(root, ZX_INFO_RESOURCE) == (
        Status.OK,
        InfoResource(kind=ZX_RSRC_KIND_ROOT, name=b"root"),
    )
    options = ZX_RSRC_KIND_IRQ | ZX_RSRC_FLAG_EXCLUSIVE
    irqs = make.keep(zx.zx_resource_create(root, options, 0x40, 0x10, b"disks"))
    assert zx.zx_object_get_info(irqs, ZX_INFO_RESOURCE) == (
        Status.OK,
        InfoResource(kind=ZX_RSRC_KIND_IRQ, flags=ZX_RSRC_FLAG_EXCLUSIVE, base=0x40, size=0x10, name=b"disks"),
    )


def test_vmo_tells_its_name_and_size_and_the_rights_of_the_handle(make: Maker) -> None:
    vmo = make.vmo(0x2001)
    blind = make.with_rights(vmo, ZX_RIGHT_NONE)
    assert zx.zx_object_set_property(vmo, ZX_PROP_NAME, b"ram") is Status.OK
    _, basic = zx.zx_object_get_info(vmo, ZX_INFO_HANDLE_BASIC)
    flags = ZX_INFO_VMO_TYPE_PAGED | ZX_INFO_VMO_VIA_HANDLE
    expected = InfoVmo(koid=basic.koid, name=b"ram", size_bytes=0x3000, flags=flags, handle_rights=basic.rights)
    assert zx.zx_object_get_info(vmo, ZX_INFO_VMO) == (Status.OK, expected)
    expected.handle_rights = 0
    assert zx.zx_object_get_info(blind, ZX_INFO_VMO) == (Status.OK, expected)


def test_vmo_tells_whether_its_size_may_change(make: Maker) -> None:
    status, info = zx.zx_object_get_info(make.vmo(4096, ZX_VMO_RESIZABLE), ZX_INFO_VMO)
    assert status is Status.OK
    assert info.flags == ZX_INFO_VMO_TYPE_PAGED | ZX_INFO_VMO_RESIZABLE | ZX_INFO_VMO_VIA_HANDLE


def test_vmo_tells_how_much_memory_its_touched_pages_take(make: Maker) -> None:
    vmo, committed = make.vmo(1 << 30), []
    for offset in (0, 1, 0x5000):
        committed.append(zx.zx_object_get_info(vmo, ZX_INFO_VMO)[1].committed_bytes)
        assert zx.zx_vmo_write(vmo, b"x", offset) is Status.OK
    committed.append(zx.zx_object_get_info(vmo, ZX_INFO_VMO)[1].committed_bytes)
    assert committed == [0, 0x1000, 0x1000, 0x2000]


@pytest.mark.kvm
def test_vmo_tells_its_mappings_and_in_how_many_guests_they_are(make: Maker) -> None:
    guests, vmo = [make.guest(), make.guest()], make.vmo(0x10000)

    def counts() -> tuple[int, int]:
        status, info = zx.zx_object_get_info(vmo, ZX_INFO_VMO)
        assert status is Status.OK
        return info.num_mappings, info.share_count

    seen = [counts()]
    for guest, addr in [(guests[0], 1 << 20), (guests[0], 2 << 20), (guests[1], 1 << 20)]:
        make.map(guest.vmar, vmo, addr, 0x10000)
        seen.append(counts())
    assert zx.zx_vmar_unmap(guests[1].vmar, 1 << 20, 0x10000) is Status.OK
    seen.append(counts())
    assert zx.zx_vmar_unmap(guests[0].vmar, (1 << 20) + 0x4000, 0x1000) is Status.OK  # two are left of it
    seen.append(counts())
    zx.zx_handle_close(guests[0].guest)
    seen.append(counts())
    assert seen == [(0, 0), (1, 1), (2, 1), (3, 2), (2, 1), (3, 1), (0, 0)]


#: What each topic that has a type of its own needs.
TYPED = [(ZX_INFO_VMAR, InfoVmar()), (ZX_INFO_RESOURCE, InfoResource()), (ZX_INFO_VCPU, InfoVcpu())]


@pytest.mark.parametrize(("topic", "nothing"), [*TYPED, (ZX_INFO_VMO, InfoVmo())])
def test_a_handle_to_another_type_is_refused_before_its_rights_are_looked_at(
    make: Maker, topic: int, nothing: object
) -> None:
    blind = make.with_rights(make.port(), ZX_RIGHT_NONE)
    assert zx.zx_object_get_info(blind, topic) == (Status.WRONG_TYPE, nothing)
