"""Memory as the guest itself finds it: its bytes, what unmap leaves of it, and what may not be written.

What the calls answer is in test_vmo.py and test_vmar.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_SPECIFIC,
    ZX_VM_SPECIFIC_OVERWRITE,
    ZX_VMO_RESIZABLE,
    PortPacket,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import GuestHandles, Maker

pytestmark = pytest.mark.kvm

PAGE = 4096
#: Four pages below 1 MiB, where real mode reaches them: segment 8000h, offsets 0, 1000h, 2000h and 3000h.
PLACE = 0x80000
#: mov ax, 8000h; mov ds, ax; then for each page: mov al, [page]; out 80h, al
READ_FOUR = bytes.fromhex("b80080 8ed8" + "".join(f"a000{page:x}0 e680" for page in range(4)))
#: mov ax, 8000h; mov ds, ax; then for each page: mov byte [page], 61h + page
WRITE_FOUR = bytes.fromhex("b80080 8ed8" + "".join(f"c60600{page:x}0 6{page + 1}" for page in range(4)) + "e680")


def guest_with_room(make: Maker, image: bytes) -> GuestHandles:
    guest = make.guest(image, memory=PLACE)
    assert zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0) is Status.OK
    return guest


def four_pages(make: Maker) -> int:
    """A VMO whose pages begin with 10h, 11h, 12h and 13h."""
    vmo = make.vmo(4 * PAGE)
    for page in range(4):
        assert zx.zx_vmo_write(vmo, bytes([0x10 + page]), page * PAGE) is Status.OK
    return vmo


def next_event(vcpu: int) -> int | kvmbind.Access:
    """The byte that the guest says next, or its next access to what is not there."""
    try:
        return kvmbind.Vcpu.borrow(vcpu).enter(timeout_s=60).guest_io.u8
    except kvmbind.NotFoundError as error:
        if error.access is None:
            raise
        return error.access


def what_it_reads(vcpu: int) -> list[int | None]:
    """The four bytes that READ_FOUR finds; None where nothing is."""
    found: list[int | None] = []
    for page in range(4):
        event = next_event(vcpu)
        if isinstance(event, kvmbind.Access):
            assert event == kvmbind.Access("memory", PLACE + page * PAGE, 1, is_write=False)
            assert next_event(vcpu) == 0xFF
            found.append(None)
        else:
            found.append(event)
    return found


def first_bytes(vmo: int) -> bytes:
    return b"".join(zx.zx_vmo_read(vmo, page * PAGE, 1)[1] for page in range(4))


def test_the_guest_finds_the_vmos_bytes_from_its_offset_on(make: Maker) -> None:
    guest, vmo = guest_with_room(make, READ_FOUR), four_pages(make)
    options = ZX_VM_PERM_READ | ZX_VM_SPECIFIC
    assert zx.zx_vmar_map(guest.vmar, options, PLACE, vmo, 2 * PAGE, 2 * PAGE) == (Status.OK, PLACE)
    assert what_it_reads(make.vcpu(guest.guest)) == [0x12, 0x13, None, None]


def test_the_guest_finds_nothing_past_the_end_of_a_vmo(make: Maker) -> None:
    guest, vmo = guest_with_room(make, READ_FOUR), make.vmo(2 * PAGE)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    assert what_it_reads(make.vcpu(guest.guest)) == [0, 0, None, None]


def test_each_write_past_the_end_of_a_vmo_is_an_access_to_no_memory(make: Maker) -> None:
    guest, vmo = guest_with_room(make, WRITE_FOUR), make.vmo(2 * PAGE)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    vcpu = make.vcpu(guest.guest)
    written = [next_event(vcpu) for _ in range(2)]
    places = [(PLACE + page * PAGE, bytes([0x61 + page])) for page in (2, 3)]
    assert written == [kvmbind.Access("memory", addr, 1, is_write=True, data=data) for addr, data in places]
    assert zx.zx_vmo_get_size(vmo) == (Status.OK, 2 * PAGE)


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_the_guest_finds_nothing_of_what_a_vmo_has_lost_and_zeros_when_it_grows_again(make: Maker, pages: int) -> None:
    vmo = make.vmo(4 * PAGE, ZX_VMO_RESIZABLE)
    for page in range(4):
        assert zx.zx_vmo_write(vmo, bytes([0x10 + page]), page * PAGE) is Status.OK
    guest = guest_with_room(make, READ_FOUR)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    kept: list[int | None] = [0x10 + page for page in range(pages)]
    assert zx.zx_vmo_set_size(vmo, pages * PAGE) is Status.OK
    assert what_it_reads(make.vcpu(guest.guest)) == kept + [None] * (4 - pages)
    assert zx.zx_vmo_set_size(vmo, 9 * PAGE) is Status.OK
    assert what_it_reads(make.vcpu(guest.guest)) == kept + [0] * (4 - pages)


def test_all_guests_that_have_a_vmo_find_its_new_size(make: Maker) -> None:
    vmo = make.vmo(PAGE, ZX_VMO_RESIZABLE)
    guests = [guest_with_room(make, READ_FOUR) for _ in range(3)]
    for guest in guests:
        make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    assert zx.zx_handle_close(guests.pop().guest) is Status.OK
    for pages, found in [(4, [0, 0, 0, 0]), (2, [0, 0, None, None]), (3, [0, 0, 0, None])]:
        assert zx.zx_vmo_set_size(vmo, pages * PAGE) is Status.OK
        assert [what_it_reads(make.vcpu(guest.guest)) for guest in guests] == [found] * 2


#: Permissions of the second and third of four pages, what each of four reads finds, which writes are refused.
PROTECTED = [
    (ZX_VM_PERM_READ, [0x10, 0x11, 0x12, 0x13], [1, 2]),
    (ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, [0x10, 0x11, 0x12, 0x13], []),
    (0, [0x10, None, None, 0x13], [1, 2]),
]


@pytest.mark.parametrize(("options", "found", "refused"), PROTECTED)
def test_the_guest_may_do_what_protect_left_it_and_anything_else_is_an_access_to_no_memory(
    make: Maker, options: int, found: list[int | None], refused: list[int]
) -> None:
    for image in (READ_FOUR, WRITE_FOUR):
        guest, vmo = guest_with_room(make, image), four_pages(make)
        make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
        assert zx.zx_vmar_protect(guest.vmar, options, PLACE + PAGE, 2 * PAGE) is Status.OK
        vcpu = make.vcpu(guest.guest)
        if image is READ_FOUR:
            assert what_it_reads(vcpu) == found
            continue
        for page in refused:
            addr, data = PLACE + page * PAGE, bytes([0x61 + page])
            assert next_event(vcpu) == kvmbind.Access("memory", addr, 1, is_write=True, data=data)
        assert isinstance(next_event(vcpu), int)
        assert first_bytes(vmo) == bytes(0x10 + p if p in refused else 0x61 + p for p in range(4))


@pytest.mark.parametrize("image", [READ_FOUR, WRITE_FOUR], ids=["read", "write"])
def test_a_mapping_that_the_guest_may_not_read_is_no_memory_to_it_until_it_may(make: Maker, image: bytes) -> None:
    guest, vmo = guest_with_room(make, image), four_pages(make)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE, 0)
    event = next_event(make.vcpu(guest.guest))
    assert isinstance(event, kvmbind.Access)
    assert (event.addr, event.is_write) == (PLACE, image is WRITE_FOUR)
    options = ZX_VM_PERM_READ | ZX_VM_PERM_WRITE
    assert zx.zx_vmar_protect(guest.vmar, options, PLACE, 4 * PAGE) is Status.OK
    assert isinstance(next_event(make.vcpu(guest.guest)), int)


def test_an_overwrite_takes_the_place_of_what_was_there_and_splits_the_rest(make: Maker) -> None:
    guest, vmo, other = guest_with_room(make, READ_FOUR), four_pages(make), make.vmo(2 * PAGE)
    zx.zx_vmo_write(other, b"\x77", 0)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    vcpu = make.vcpu(guest.guest)
    assert next_event(vcpu) == 0x10
    make.map(guest.vmar, other, PLACE + PAGE, 2 * PAGE, ZX_VM_PERM_READ | ZX_VM_SPECIFIC_OVERWRITE)
    assert [next_event(vcpu) for _ in range(3)] == [0x77, 0, 0x13]


def test_what_the_guest_writes_is_in_the_vmo(make: Maker) -> None:
    guest, vmo = guest_with_room(make, WRITE_FOUR), four_pages(make)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    assert isinstance(next_event(make.vcpu(guest.guest)), int)
    assert first_bytes(vmo) == b"abcd"


def test_the_guest_finds_one_vmo_in_many_places_in_the_order_that_they_are_mapped_in(make: Maker) -> None:
    guest, vmo = guest_with_room(make, READ_FOUR), four_pages(make)
    options = ZX_VM_PERM_READ | ZX_VM_SPECIFIC
    for page, source in enumerate([3, 1, 1, 0]):
        addr = PLACE + page * PAGE
        assert zx.zx_vmar_map(guest.vmar, options, addr, vmo, source * PAGE, PAGE) == (Status.OK, addr)
    assert what_it_reads(make.vcpu(guest.guest)) == [0x13, 0x11, 0x11, 0x10]


#: What is unmapped, as the first page and how many, and what the guest finds then.
UNMAPPED = [
    (0, 1, [None, 0x11, 0x12, 0x13]),
    (1, 1, [0x10, None, 0x12, 0x13]),
    (1, 2, [0x10, None, None, 0x13]),
    (3, 1, [0x10, 0x11, 0x12, None]),
    (0, 4, [None, None, None, None]),
]


@pytest.mark.parametrize(("first", "pages", "found"), UNMAPPED)
def test_the_guest_finds_the_rest_of_a_split_mapping_where_it_was(
    make: Maker, first: int, pages: int, found: list[int | None]
) -> None:
    guest, vmo = guest_with_room(make, READ_FOUR), four_pages(make)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    assert zx.zx_vmar_unmap(guest.vmar, PLACE + first * PAGE, pages * PAGE) is Status.OK
    assert what_it_reads(make.vcpu(guest.guest)) == found


def test_a_guest_that_has_run_finds_the_change_at_its_next_access(make: Maker) -> None:
    guest, vmo = guest_with_room(make, READ_FOUR), four_pages(make)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    vcpu = make.vcpu(guest.guest)
    assert [next_event(vcpu), next_event(vcpu)] == [0x10, 0x11]
    assert zx.zx_vmar_unmap(guest.vmar, PLACE + 2 * PAGE, PAGE) is Status.OK
    assert next_event(vcpu) == kvmbind.Access("memory", PLACE + 2 * PAGE, 1, is_write=False)
    assert [next_event(vcpu), next_event(vcpu)] == [0xFF, 0x13]


def test_another_vmo_may_be_mapped_into_the_hole_and_both_are_found(make: Maker) -> None:
    guest, vmo, other = guest_with_room(make, READ_FOUR), four_pages(make), make.vmo(PAGE)
    zx.zx_vmo_write(other, b"\x77", 0)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    assert zx.zx_vmar_unmap(guest.vmar, PLACE + PAGE, PAGE) is Status.OK
    make.map(guest.vmar, other, PLACE + PAGE, PAGE)
    assert what_it_reads(make.vcpu(guest.guest)) == [0x10, 0x77, 0x12, 0x13]


def test_both_parts_of_a_split_read_only_mapping_stay_read_only(make: Maker) -> None:
    guest, vmo = guest_with_room(make, WRITE_FOUR), four_pages(make)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE, ZX_VM_PERM_READ)
    assert zx.zx_vmar_unmap(guest.vmar, PLACE + PAGE, PAGE) is Status.OK
    vcpu = make.vcpu(guest.guest)
    written = [next_event(vcpu) for _ in range(4)]
    places = [(PLACE + page * PAGE, bytes([0x61 + page])) for page in range(4)]
    assert written == [kvmbind.Access("memory", addr, 1, is_write=True, data=data) for addr, data in places]
    assert first_bytes(vmo) == bytes([0x10, 0x11, 0x12, 0x13])


def test_one_vmo_may_be_read_only_in_one_place_and_writable_in_another(make: Maker) -> None:
    guest, vmo = guest_with_room(make, WRITE_FOUR), make.vmo(PAGE)
    make.map(guest.vmar, vmo, PLACE, PAGE, ZX_VM_PERM_READ)
    make.map(guest.vmar, vmo, PLACE + PAGE, PAGE, ZX_VM_PERM_READ | ZX_VM_PERM_WRITE)
    vcpu = make.vcpu(guest.guest)
    assert next_event(vcpu) == kvmbind.Access("memory", PLACE, 1, is_write=True, data=b"a")
    assert next_event(vcpu) == kvmbind.Access("memory", PLACE + 2 * PAGE, 1, is_write=True, data=b"c")
    assert zx.zx_vmo_read(vmo, 0, 1) == (Status.OK, b"b")


def test_a_guest_that_only_a_vcpu_keeps_can_still_be_mapped_into(make: Maker) -> None:
    guest, vmo = guest_with_room(make, READ_FOUR), four_pages(make)
    vcpu = make.vcpu(guest.guest)
    assert zx.zx_handle_close(guest.guest) is Status.OK
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE)
    assert what_it_reads(vcpu) == [0x10, 0x11, 0x12, 0x13]
    assert zx.zx_handle_close(vcpu) is Status.OK
    assert zx.zx_vmar_unmap(guest.vmar, PLACE, PAGE) is Status.BAD_STATE


def test_a_write_to_a_read_only_mapping_gives_no_packet(make: Maker) -> None:
    guest, vmo = guest_with_room(make, WRITE_FOUR), four_pages(make)
    make.map(guest.vmar, vmo, PLACE, 4 * PAGE, ZX_VM_PERM_READ)
    assert zx.zx_vcpu_enter(make.vcpu(guest.guest)) == (Status.NOT_FOUND, PortPacket())
