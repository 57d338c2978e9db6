"""Vmo and Vmar: memory without and within a guest."""

from __future__ import annotations

import mmap
import os
import threading
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
    ("zx_vmo_set_size", ZX_RIGHT_WRITE, lambda vmo: vmo.resize(PAGE)),
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


@pytest.fixture
def resizable() -> Iterator[Vmo]:
    with Vmo.create(2 * PAGE, resizable=True) as vmo:
        yield vmo


def test_a_resizable_vmo_grows_and_shrinks_by_whole_pages(resizable: Vmo) -> None:
    resizable.write(b"1" * 2 * PAGE, 0)
    for size, rounded in [(PAGE - 1, PAGE), (0, 0), (3 * PAGE, 3 * PAGE), (PAGE, PAGE)]:
        resizable.resize(size)
        assert resizable.size == rounded
    assert resizable.read(0, PAGE) == bytes(PAGE)


def test_only_a_resizable_vmo_is_resized_and_to_no_size_that_is_none(vmo: Vmo, resizable: Vmo) -> None:
    with pytest.raises(kvmbind.UnavailableError, match=r"^zx_vmo_set_size: .*ZX_VMO_RESIZABLE"):
        vmo.resize(PAGE)
    with pytest.raises(kvmbind.InvalidArgsError, match="negative"):
        resizable.resize(-1)
    with pytest.raises(kvmbind.OutOfRangeError):
        resizable.resize(1 << 63)
    assert (vmo.size, resizable.size) == (2 * PAGE, 2 * PAGE)


def test_a_vmo_does_not_shrink_below_a_view_or_a_part_of_one_until_the_last_is_gone(resizable: Vmo) -> None:
    view = resizable.view()
    part = view[:10]
    resizable.resize(3 * PAGE)
    resizable.resize(2 * PAGE)
    for last in (view, part):
        with pytest.raises(kvmbind.BadStateError, match="first 0x2000 bytes are in use: release every view"):
            resizable.resize(PAGE)
        part[0] = 7
        last.release()
    del view, part
    resizable.resize(PAGE)
    assert resizable.read(0, 1) == b"\7"


def test_a_view_of_a_vmo_of_no_size_is_empty_and_keeps_nothing(resizable: Vmo) -> None:
    resizable.resize(0)
    view = resizable.view()
    resizable.resize(PAGE)
    resizable.resize(0)
    assert len(view) == 0


@pytest.mark.kvm
def test_a_vmo_does_not_shrink_below_a_dword_that_somebody_waits_for(kvm_guest: Guest, resizable: Vmo) -> None:
    addr = kvm_guest.vmar.map(resizable, 4 * MIB)
    thread = threading.Thread(target=lambda: kvm_guest.wait_u32(addr + PAGE, 1, timeout_s=60))
    thread.start()
    while True:  # until the thread waits; its place is free again afterwards
        try:
            resizable.resize(PAGE)
        except kvmbind.BadStateError:
            break
        resizable.resize(2 * PAGE)
    resizable.write(b"\1", PAGE)
    thread.join()
    resizable.resize(PAGE)
    with pytest.raises(kvmbind.OutOfRangeError):
        kvm_guest.read_u32(addr + PAGE)
    assert kvm_guest.read_u32(addr + PAGE - 4) == 0


@pytest.mark.kvm
def test_the_host_reads_and_writes_what_is_mapped_whatever_the_guest_may_do(kvm_guest: Guest, vmo: Vmo) -> None:
    for addr, read, write in [(4 * MIB, True, False), (5 * MIB, False, False)]:
        kvm_guest.vmar.map(vmo, addr, read=read, write=write, execute=False)
        kvm_guest.write(addr.to_bytes(4, "little"), addr)
        assert kvm_guest.read(addr, 4) == addr.to_bytes(4, "little")
        assert kvm_guest.read_u32(addr) == addr


@pytest.mark.kvm
def test_an_overwrite_needs_a_place_and_takes_it(kvm_guest: Guest, vmo: Vmo) -> None:
    vmo.write(b"new", 0)
    with pytest.raises(kvmbind.InvalidArgsError, match="overwrite needs an offset"):
        kvm_guest.vmar.map(vmo, overwrite=True)
    with pytest.raises(kvmbind.InvalidArgsError, match="MAP_RANGE"):
        kvm_guest.vmar.map(vmo, 0, overwrite=True, populate=True)
    assert kvm_guest.vmar.map(vmo, 0x8000, overwrite=True) == 0x8000
    assert kvm_guest.read(0x8000, 3) == b"new"
    assert kvm_guest.vmar.map(vmo, populate=True) == MIB


@pytest.mark.kvm
@pytest.mark.parametrize(
    ("addr", "length", "error"),
    [
        (-PAGE, PAGE, kvmbind.InvalidArgsError),
        (0, -1, kvmbind.InvalidArgsError),
        (1, PAGE, kvmbind.InvalidArgsError),
        (0, 0, kvmbind.InvalidArgsError),
        (1 << 60, PAGE, kvmbind.InvalidArgsError),
        (MIB, PAGE, kvmbind.NotFoundError),
        (0, 2 * MIB, kvmbind.NotFoundError),
    ],
)
def test_a_protect_refuses_what_the_call_refuses(
    kvm_guest: Guest, addr: int, length: int, error: type[kvmbind.ZxError]
) -> None:
    with pytest.raises(error, match=r"^zx_vmar_protect: "):
        kvm_guest.vmar.protect(addr, length, read=True, write=False, execute=False)


@pytest.mark.kvm
def test_a_protect_needs_the_rights_that_it_gives(kvm_guest: Guest) -> None:
    with pytest.raises(kvmbind.InvalidArgsError, match="need ZX_VM_PERM_READ"):
        kvm_guest.vmar.protect(0, PAGE, read=False, write=True, execute=False)
    with kvm_guest.vmar.duplicate(kvm_guest.vmar.rights & ~ZX_RIGHT_WRITE) as less:
        less.protect(0, PAGE, read=True, write=False, execute=True)
        with pytest.raises(kvmbind.AccessDeniedError):
            less.protect(0, PAGE, read=True, write=True, execute=True)


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
        for use in (
            lambda: vmar.map(vmo),
            lambda: vmar.unmap(0, PAGE),
            lambda: vmar.protect(0, PAGE, read=True, write=True, execute=True),
        ):
            with pytest.raises(kvmbind.BadStateError, match="the guest of this VMAR is gone"):
                use()
