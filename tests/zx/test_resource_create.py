"""zx_resource_create: kinds, ranges, and whose a range is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_INFO_RESOURCE,
    ZX_RSRC_FLAG_EXCLUSIVE,
    ZX_RSRC_KIND_HYPERVISOR,
    ZX_RSRC_KIND_IOPORT,
    ZX_RSRC_KIND_IRQ,
    ZX_RSRC_KIND_MMIO,
    ZX_RSRC_KIND_ROOT,
    ZX_RSRC_KIND_SMC,
    ZX_RSRC_KIND_VMEX,
    InfoResource,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

pytestmark = pytest.mark.kvm

OK, INVALID_ARGS, ACCESS_DENIED, NOT_FOUND = Status.OK, Status.INVALID_ARGS, Status.ACCESS_DENIED, Status.NOT_FOUND
RANGELESS = [ZX_RSRC_KIND_HYPERVISOR, ZX_RSRC_KIND_ROOT, ZX_RSRC_KIND_VMEX]
#: Where the numbers of each ranged kind end, but for MMIO: the host's processor says that.
ENDS = {ZX_RSRC_KIND_IRQ: 256, ZX_RSRC_KIND_IOPORT: 65536}
EXCLUSIVE = ZX_RSRC_FLAG_EXCLUSIVE


def create(root: int, options: int, base: int = 0, size: int = 0, name: bytes = b"") -> tuple[Status, int]:
    return zx.zx_resource_create(root, options, base, size, name)


def refused(status: Status) -> tuple[Status, int]:
    return status, 0


@pytest.mark.parametrize("kind", RANGELESS)
def test_a_kind_without_a_range_is_made_without_one(make: Maker, kind: int) -> None:
    root = make.resource()
    for base, size in [(1, 0), (0, 1), (0, 4096)]:
        assert create(root, kind, base, size) == refused(INVALID_ARGS)
    resource = make.keep(create(root, kind))
    assert zx.zx_object_get_info(resource, ZX_INFO_RESOURCE) == (OK, InfoResource(kind=kind))


@pytest.mark.parametrize("kind", [ZX_RSRC_KIND_MMIO, *ENDS, ZX_RSRC_KIND_SMC])
def test_a_range_is_neither_empty_nor_wraps(make: Maker, kind: int) -> None:
    root = make.resource()
    for base, size in [(0, 0), (5, 0), (2, (1 << 64) - 1), ((1 << 64) - 1, 2)]:
        assert create(root, kind, base, size) == refused(INVALID_ARGS)
    assert create(root, kind, 1, (1 << 64) - 1) == refused(NOT_FOUND)


@pytest.mark.parametrize("kind", ENDS)
def test_a_range_ends_where_its_kind_does(make: Maker, kind: int) -> None:
    root, end = make.resource(), ENDS[kind]
    for base, size in [(0, end + 1), (end, 1), (end - 1, 2)]:
        assert create(root, kind, base, size) == refused(NOT_FOUND)
    for base, size in [(0, end), (end - 1, 1)]:
        make.keep(create(root, kind, base, size))


def test_memory_ends_where_the_processors_addresses_do_and_x86_has_no_smc(make: Maker) -> None:
    root = make.resource()
    make.keep(create(root, ZX_RSRC_KIND_MMIO, 0xFEE00000, 4096))
    assert create(root, ZX_RSRC_KIND_MMIO, 1 << 52, 4096) == refused(NOT_FOUND)
    assert create(root, ZX_RSRC_KIND_SMC, 0, 1) == refused(NOT_FOUND)


#: Two ranges one after the other, and whether the second may be had.
OVERLAPS = [
    ("shared ones overlap", 0, (0x40, 4), 0, (0x42, 4), OK),
    ("a shared one touches an exclusive one's end", EXCLUSIVE, (0x40, 4), 0, (0x43, 1), NOT_FOUND),
    ("a shared one is around an exclusive one", EXCLUSIVE, (0x40, 4), 0, (0, 256), NOT_FOUND),
    ("an exclusive one touches a shared one", 0, (0x40, 4), EXCLUSIVE, (0x3F, 2), NOT_FOUND),
    ("exclusive ones are the same", EXCLUSIVE, (0x40, 4), EXCLUSIVE, (0x40, 4), NOT_FOUND),
    ("exclusive ones lie side by side", EXCLUSIVE, (0x40, 4), EXCLUSIVE, (0x44, 4), OK),
    ("a shared one lies before an exclusive one", EXCLUSIVE, (0x40, 4), 0, (0x3F, 1), OK),
]


@pytest.mark.parametrize(
    ("first_flags", "first", "flags", "second", "status"), [row[1:] for row in OVERLAPS], ids=[r[0] for r in OVERLAPS]
)
@pytest.mark.parametrize("kind", [ZX_RSRC_KIND_IRQ, ZX_RSRC_KIND_IOPORT, ZX_RSRC_KIND_MMIO])
def test_an_exclusive_range_is_nobody_elses(
    make: Maker, kind: int, first_flags: int, first: tuple[int, int], flags: int, second: tuple[int, int],
    status: Status,
) -> None:  # fmt: skip
    root = make.resource()
    make.keep(create(root, kind | first_flags, *first))
    got, handle = create(root, kind | flags, *second)
    assert got is status
    zx.zx_handle_close(handle)


def test_ranges_of_two_kinds_or_of_two_roots_have_nothing_to_do_with_each_other(make: Maker) -> None:
    root = make.resource()
    make.keep(create(root, ZX_RSRC_KIND_IRQ | EXCLUSIVE, 0, 256))
    make.keep(create(root, ZX_RSRC_KIND_IOPORT | EXCLUSIVE, 0, 256))
    make.keep(create(make.resource(), ZX_RSRC_KIND_IRQ | EXCLUSIVE, 0, 256))


def test_an_exclusive_range_is_free_again_when_its_last_handle_is_closed(make: Maker) -> None:
    root = make.resource()
    resource = make.keep(create(root, ZX_RSRC_KIND_IRQ | EXCLUSIVE, 0, 256))
    other = make.with_rights(resource, 0)
    zx.zx_handle_close(resource)
    assert create(root, ZX_RSRC_KIND_IRQ, 7, 1) == refused(NOT_FOUND)
    zx.zx_handle_close(other)
    make.keep(create(root, ZX_RSRC_KIND_IRQ, 7, 1))


def test_a_root_that_a_root_makes_shares_its_ranges_and_makes_others(make: Maker) -> None:
    root = make.resource()
    second = make.keep(create(root, ZX_RSRC_KIND_ROOT))
    make.keep(create(second, ZX_RSRC_KIND_IRQ | EXCLUSIVE, 0x40, 1))
    assert create(root, ZX_RSRC_KIND_IRQ, 0x40, 1) == refused(NOT_FOUND)


@pytest.mark.parametrize(("name", "kept"), [(b"x" * 31, b"x" * 31), (b"x" * 40, b"x" * 31), (b"ab\0c", b"ab")])
def test_a_name_is_its_first_31_bytes_up_to_a_nul(make: Maker, name: bytes, kept: bytes) -> None:
    resource = make.keep(create(make.resource(), ZX_RSRC_KIND_VMEX, 0, 0, name))
    assert zx.zx_object_get_info(resource, ZX_INFO_RESOURCE)[1].name == kept


def test_a_hypervisor_resource_makes_guests_and_no_resources(make: Maker) -> None:
    resource = make.keep(create(make.resource(), ZX_RSRC_KIND_HYPERVISOR))
    status, guest, vmar = zx.zx_guest_create(resource, 0)
    assert status is OK
    zx.zx_handle_close_many([guest, vmar])
    assert create(resource, ZX_RSRC_KIND_HYPERVISOR) == refused(ACCESS_DENIED)


def test_the_device_stays_open_as_long_as_a_resource_or_a_guest_from_it(
    make: Maker, count_fds: Callable[[], int]
) -> None:
    before = count_fds()
    root = make.resource()
    resource = make.keep(create(make.keep(create(root, ZX_RSRC_KIND_ROOT)), ZX_RSRC_KIND_HYPERVISOR))
    with_device = count_fds()
    assert with_device == before + 1
    make.close()
    assert count_fds() == before
    root = make.resource()
    resource = make.keep(create(root, ZX_RSRC_KIND_HYPERVISOR))
    zx.zx_handle_close(root)
    assert count_fds() == with_device
    status, guest, vmar = zx.zx_guest_create(resource, 0)
    assert status is OK
    zx.zx_handle_close(resource)
    vcpu = make.vcpu(guest, 0)
    zx.zx_handle_close_many([guest, vmar])
    assert count_fds() > with_device
    zx.zx_handle_close(vcpu)
    assert count_fds() == before
