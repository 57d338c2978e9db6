"""Vmo and Vmar: memory without and within a guest."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest, Vmo
from kvmbind.zx import (
    ZX_RIGHT_EXECUTE,
    ZX_RIGHT_MAP,
    ZX_RIGHT_READ,
    ZX_RIGHT_WRITE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE, MIB = 4096, 1 << 20


@pytest.fixture
def vmo() -> Iterator[Vmo]:
    with Vmo.create(2 * PAGE) as vmo:
        yield vmo


@pytest.mark.parametrize(("size", "rounded"), [(0, 0), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)])
@pytest.mark.parametrize("resizable", [False, True])
def test_a_size_is_rounded_up_to_pages(size: int, rounded: int, resizable: bool) -> None:
    with Vmo.create(size, resizable=resizable) as vmo:
        assert (vmo.size, bytes(vmo.view())) == (rounded, bytes(rounded))


def test_bytes_are_kept_and_seen_in_the_view_and_the_memfd(vmo: Vmo) -> None:
    vmo.write(memoryview(b"\1\2\3\4").cast("H"), 10)
    view = vmo.view()
    assert vmo.read(9, 6) == bytes(view[9:15]) == os.pread(vmo.fileno(), 6, 9) == b"\0\1\2\3\4\0"
    view[0] = 9
    with mmap.mmap(vmo.fileno(), PAGE) as theirs:
        assert theirs[0] == 9


def test_a_view_lives_on_when_the_vmo_is_closed(vmo: Vmo) -> None:
    view = vmo.view()
    vmo.write(b"kept", 0)
    vmo.close()
    assert (bytes(view[:4]), len(view)) == (b"kept", 2 * PAGE)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (2 * PAGE, 1), (0, 2 * PAGE + 1), (1 << 70, 0)])
def test_what_is_not_inside_is_out_of_range(vmo: Vmo, offset: int, length: int) -> None:
    with pytest.raises(kvmbind.OutOfRangeError, match=r"^zx_vmo_read: OUT_OF_RANGE"):
        vmo.read(offset, length)
    if length >= 0:
        with pytest.raises(kvmbind.OutOfRangeError, match=r"^zx_vmo_write: OUT_OF_RANGE"):
            vmo.write(b"1" * length, offset)


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(kvmbind.InvalidArgsError, match="negative"):
        Vmo.create(-1)
    with pytest.raises(kvmbind.OutOfRangeError):
        Vmo.create(1 << 63)


VMO_USES: list[tuple[str, int, Callable[[Vmo], object]]] = [
    ("zx_vmo_read", ZX_RIGHT_READ, lambda vmo: vmo.read(0, 1)),
    ("zx_vmo_write", ZX_RIGHT_WRITE, lambda vmo: vmo.write(b"1", 0)),
    ("Vmo.view", ZX_RIGHT_READ, lambda vmo: vmo.view()),
    ("Vmo.view", ZX_RIGHT_WRITE, lambda vmo: vmo.view()),
    ("zx_vmo_get_size", 0, lambda vmo: vmo.size),
]


@pytest.mark.parametrize(("call", "right", "use"), VMO_USES)
def test_a_use_needs_its_right_and_an_open_vmo(vmo: Vmo, call: str, right: int, use: Callable[[Vmo], object]) -> None:
    with vmo.duplicate(vmo.rights & ~right) as less:
        if right:
            with pytest.raises(kvmbind.AccessDeniedError, match=f"^{call}: "):
                use(less)
        less.close()
        with pytest.raises(kvmbind.BadHandleError, match=f"^{call}: .*the Vmo is closed"):
            use(less)


@pytest.mark.kvm
def test_a_map_is_where_it_was_asked_for_or_in_the_first_gap(kvm_guest: Guest, vmo: Vmo) -> None:
    vmo.write(b"second page", PAGE)
    assert kvm_guest.vmar.map(vmo, 4 * MIB, vmo_offset=PAGE) == 4 * MIB
    assert kvm_guest.vmar.map(vmo) == MIB
    assert kvm_guest.read(4 * MIB, 11) == kvm_guest.read(MIB + PAGE, 11) == b"second page"
    with pytest.raises(kvmbind.OutOfRangeError):
        kvm_guest.read(4 * MIB + PAGE, 1)


@pytest.mark.kvm
def test_an_unmap_takes_out_what_is_there(kvm_guest: Guest) -> None:
    kvm_guest.vmar.unmap(PAGE, PAGE)
    kvm_guest.vmar.unmap(8 * MIB, PAGE)
    with pytest.raises(kvmbind.OutOfRangeError, match="no memory at 0x1000"):
        kvm_guest.read(0, 2 * PAGE)
    kvm_guest.read(2 * PAGE, PAGE)


@pytest.mark.kvm
@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"offset": -PAGE}, kvmbind.InvalidArgsError),
        ({"offset": 4 * MIB, "vmo_offset": -PAGE}, kvmbind.InvalidArgsError),
        ({"offset": 4 * MIB, "length": -1}, kvmbind.InvalidArgsError),
        ({"offset": 4 * MIB, "length": 0}, kvmbind.InvalidArgsError),
        ({"offset": 4 * MIB, "vmo_offset": 2 * PAGE}, kvmbind.InvalidArgsError),
        ({"offset": 4 * MIB + 1}, kvmbind.InvalidArgsError),
        ({"offset": 1 << 70}, kvmbind.InvalidArgsError),
        ({"offset": 0}, kvmbind.AlreadyExistsError),
        ({"length": 1 << 48}, kvmbind.ZxError),
    ],
)
def test_a_map_refuses_what_the_call_refuses(
    kvm_guest: Guest, vmo: Vmo, values: dict[str, int], error: type[kvmbind.ZxError]
) -> None:
    with pytest.raises(error, match=r"^zx_vmar_map: "):
        kvm_guest.vmar.map(vmo, **values)  # type: ignore[arg-type]


@pytest.mark.kvm
@pytest.mark.parametrize("right", [ZX_RIGHT_READ, ZX_RIGHT_WRITE, ZX_RIGHT_EXECUTE])
def test_a_permission_needs_its_right_on_both_handles(kvm_guest: Guest, vmo: Vmo, right: int) -> None:
    asked = {"read": True, "write": right == ZX_RIGHT_WRITE, "execute": right == ZX_RIGHT_EXECUTE}
    with vmo.duplicate(vmo.rights & ~right) as less, pytest.raises(kvmbind.AccessDeniedError):
        kvm_guest.vmar.map(less, **asked)
    with (
        kvm_guest.vmar.duplicate(kvm_guest.vmar.rights & ~right) as less_vmar,
        pytest.raises(kvmbind.AccessDeniedError),
    ):
        less_vmar.map(vmo, **asked)


@pytest.mark.kvm
def test_a_vmo_without_the_right_to_map_is_refused(kvm_guest: Guest, vmo: Vmo) -> None:
    with vmo.duplicate(vmo.rights & ~ZX_RIGHT_MAP) as less, pytest.raises(kvmbind.AccessDeniedError, match="MAP"):
        kvm_guest.vmar.map(less)


@pytest.mark.kvm
@pytest.mark.parametrize(("addr", "length"), [(-PAGE, PAGE), (0, -1), (1, PAGE), (0, 0), (1 << 60, PAGE)])
def test_an_unmap_refuses_what_the_call_refuses(kvm_guest: Guest, addr: int, length: int) -> None:
    with pytest.raises(kvmbind.InvalidArgsError, match=r"^zx_vmar_unmap: "):
        kvm_guest.vmar.unmap(addr, length)


@pytest.mark.kvm
def test_the_vmar_of_a_guest_that_is_gone_is_in_bad_state(vmo: Vmo) -> None:
    with Guest.create() as guest:
        vmar = guest.vmar.duplicate()
    with vmar:
        for use in (lambda: vmar.map(vmo), lambda: vmar.unmap(0, PAGE)):
            with pytest.raises(kvmbind.BadStateError, match="the guest of this VMAR is gone"):
                use()
