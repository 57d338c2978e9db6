"""Resource: what is made from a root, and what it is good for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kvmbind
from kvmbind import Guest, Resource
from kvmbind.abi.structs import InfoResource
from kvmbind.zx import (
    ZX_RIGHT_INSPECT,
    ZX_RIGHT_WRITE,
    ZX_RSRC_FLAG_EXCLUSIVE,
    ZX_RSRC_KIND_HYPERVISOR,
    ZX_RSRC_KIND_IRQ,
    ZX_RSRC_KIND_ROOT,
)

pytestmark = pytest.mark.kvm


@pytest.fixture
def root() -> Iterator[Resource]:
    with Resource.root() as root:
        yield root


def test_it_says_what_it_is_the_right_to(root: Resource) -> None:
    assert root.info == InfoResource(kind=ZX_RSRC_KIND_ROOT, name=b"root")
    with Resource.create(root, ZX_RSRC_KIND_IRQ, 0x40, 8, "disks", exclusive=True) as irqs:
        expected = InfoResource(kind=ZX_RSRC_KIND_IRQ, flags=ZX_RSRC_FLAG_EXCLUSIVE, base=0x40, size=8, name=b"disks")
        assert irqs.info == expected


def test_a_hypervisor_resource_makes_guests_also_when_its_root_is_closed(root: Resource) -> None:
    with Resource.create(root, ZX_RSRC_KIND_HYPERVISOR) as hypervisor:
        root.close()
        with Guest.create(memory=4096, resource=hypervisor) as guest:
            hypervisor.close()
            kvmbind.Vcpu.create(guest).close()


def test_another_resource_makes_none(root: Resource) -> None:
    with Resource.create(root, ZX_RSRC_KIND_IRQ, 0, 256) as irqs:
        with pytest.raises(kvmbind.WrongTypeError, match="HYPERVISOR or ROOT"):
            Guest.create(resource=irqs)
        with pytest.raises(kvmbind.AccessDeniedError, match="ZX_RSRC_KIND_ROOT"):
            Resource.create(irqs, ZX_RSRC_KIND_IRQ, 0, 1)


def test_an_exclusive_range_is_nobody_elses_until_it_is_closed(root: Resource) -> None:
    with (
        Resource.create(root, ZX_RSRC_KIND_IRQ, 0x40, 8, exclusive=True),
        pytest.raises(kvmbind.NotFoundError, match=r"0x47\.\.0x48 is another's"),
    ):
        Resource.create(root, ZX_RSRC_KIND_IRQ, 0x47, 1)
    Resource.create(root, ZX_RSRC_KIND_IRQ, 0x47, 1).close()


@pytest.mark.parametrize("name", ["x" * 32, "ü" * 16, "a\0b"])
def test_a_name_that_would_be_cut_is_refused_and_nothing_is_left_of_it(root: Resource, name: str) -> None:
    with pytest.raises(kvmbind.InvalidArgsError, match="31 bytes"):
        Resource.create(root, ZX_RSRC_KIND_IRQ, 0, 256, name, exclusive=True)
    with Resource.create(root, ZX_RSRC_KIND_IRQ, 0, 256, "ü" * 15, exclusive=True) as irqs:
        assert irqs.info.name == ("ü" * 15).encode()


@pytest.mark.parametrize(("kind", "base", "size"), [(-1, 0, 0), (1 << 32, 0, 0), (1, -1, 1), (1, 0, 1 << 64)])
def test_what_does_not_fit_is_refused(root: Resource, kind: int, base: int, size: int) -> None:
    with pytest.raises(kvmbind.InvalidArgsError):
        Resource.create(root, kind, base, size)


def test_it_needs_its_rights(root: Resource) -> None:
    with (
        root.duplicate(root.rights & ~ZX_RIGHT_WRITE) as less,
        pytest.raises(kvmbind.AccessDeniedError, match=r"^zx_resource_create: "),
    ):
        Resource.create(less, ZX_RSRC_KIND_HYPERVISOR)
    with root.duplicate(root.rights & ~ZX_RIGHT_INSPECT) as less, pytest.raises(kvmbind.AccessDeniedError):
        _ = less.info
