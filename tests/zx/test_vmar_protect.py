"""zx_vmar_protect, and the options of zx_vmar_map that change what is there: what is refused changes nothing.

What the guest finds afterwards is in test_memory.py.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.kvm import slots
from kvmbind.zircon import handles
from kvmbind.zircon.guest import GuestDispatcher
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    ZX_RIGHT_EXECUTE,
    ZX_RIGHT_NONE,
    ZX_RIGHT_WRITE,
    ZX_VM_MAP_RANGE,
    ZX_VM_PERM_EXECUTE,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_REQUIRE_NON_RESIZABLE,
    ZX_VM_SPECIFIC,
    ZX_VM_SPECIFIC_OVERWRITE,
    ZX_VMO_RESIZABLE,
    Status,
)

if TYPE_CHECKING:
    from kvmbind.zircon.address_space import AddressSpace
    from tests.zx.conftest import GuestHandles, Maker

pytestmark = pytest.mark.kvm

OK, INVALID_ARGS, ACCESS_DENIED, NOT_FOUND = (
    Status.OK, Status.INVALID_ARGS, Status.ACCESS_DENIED, Status.NOT_FOUND,
)  # fmt: skip
PAGE, MIB = 4096, 1 << 20
R, W, X = ZX_VM_PERM_READ, ZX_VM_PERM_WRITE, ZX_VM_PERM_EXECUTE
RW, RWX = R | W, R | W | X
#: mov ax, F000h; mov ds, ax; then for each page from F0000h on: mov al, [page]; out 80h, al
READ_THREE = bytes.fromhex("b800f0 8ed8" + "".join(f"a000{page:x}0 e680" for page in range(3)))


def space_of(guest: int) -> AddressSpace:
    return handles.find(guest, GuestDispatcher).space


def bytes_it_reads(make: Maker, guest: GuestHandles) -> list[int]:
    vcpu = kvmbind.Vcpu.borrow(make.vcpu(guest.guest))
    return [vcpu.enter(timeout_s=60).guest_io.u8 for _ in range(3)]


def guest_with_three_pages(make: Maker) -> GuestHandles:
    """Three mappings of a page each at F0000h, which begin with 1, 2 and 3."""
    guest = make.guest(READ_THREE, memory=0xF0000)
    assert zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0) is OK
    for page in range(3):
        vmo = make.vmo(PAGE)
        zx.zx_vmo_write(vmo, bytes([page + 1]), 0)
        make.map(guest.vmar, vmo, 0xF0000 + page * PAGE, PAGE)
    return guest


#: vmar, options, addr, length and the answer. Mapped are 8 pages at 1 MiB with all rights, 2 pages at 3 MiB by a
#: VMO without the right to write, 1 page at 4 MiB by a VMAR without that to execute.
PROTECTED = [
    ("a hole at the beginning", "vmar", RW, 3 * MIB - PAGE, 2 * PAGE, NOT_FOUND),
    ("a hole in the middle", "vmar", RW, MIB, 3 * MIB, NOT_FOUND),
    ("a hole at the end, before rights", "vmar", RW, 3 * MIB, 3 * PAGE, NOT_FOUND),
    ("beyond the rights of the VMO", "vmar", RW, 3 * MIB, PAGE, ACCESS_DENIED),
    ("beyond the rights of the VMAR", "vmar", R | X, 4 * MIB, PAGE, ACCESS_DENIED),
    ("within the rights of the VMO", "vmar", R | X, 3 * MIB, 2 * PAGE, OK),
    ("within the rights of the VMAR", "vmar", RW, 4 * MIB, PAGE, OK),
    ("a part of a page", "vmar", R, MIB + PAGE, 1, OK),
    ("no permission at all needs no right", "no rights", 0, MIB, 8 * PAGE, OK),
]


@pytest.mark.parametrize(
    ("vmar", "options", "addr", "length", "status"), [row[1:] for row in PROTECTED], ids=[row[0] for row in PROTECTED]
)
def test_protect_changes_all_of_a_mapped_range_within_its_rights_or_nothing(
    make: Maker, vmar: str, options: int, addr: int, length: int, status: Status
) -> None:
    guest, memory = make.guest(), make.vmo(8 * PAGE)
    vmars = {"vmar": guest.vmar, "no rights": make.with_rights(guest.vmar, ZX_RIGHT_NONE)}
    make.map(guest.vmar, memory, MIB, 8 * PAGE)
    make.map(guest.vmar, make.without(memory, ZX_RIGHT_WRITE), 3 * MIB, 2 * PAGE, R)
    make.map(make.without(guest.vmar, ZX_RIGHT_EXECUTE), memory, 4 * MIB, PAGE, R)
    before = space_of(guest.guest)._layout
    assert zx.zx_vmar_protect(vmars[vmar], options, addr, length) is status
    assert (space_of(guest.guest)._layout is before) == (status is not OK)


def test_the_parts_of_a_split_mapping_keep_what_they_were_allowed(make: Maker) -> None:
    guest = make.guest()
    make.map(guest.vmar, make.without(make.vmo(4 * PAGE), ZX_RIGHT_WRITE), MIB, 4 * PAGE, R)
    assert zx.zx_vmar_protect(guest.vmar, 0, MIB + PAGE, PAGE) is OK
    assert zx.zx_vmar_protect(guest.vmar, R, MIB, 4 * PAGE) is OK
    assert zx.zx_vmar_protect(guest.vmar, RW, MIB + 3 * PAGE, PAGE) is ACCESS_DENIED


def test_a_protection_that_is_undone_leaves_as_many_memory_slots_as_before(make: Maker) -> None:
    guest = make.guest()
    make.map(guest.vmar, make.vmo(64 * PAGE), MIB, 64 * PAGE)
    for page in range(64):
        assert zx.zx_vmar_protect(guest.vmar, R, MIB + page * PAGE, PAGE) is OK
        assert zx.zx_vmar_protect(guest.vmar, RWX, MIB + page * PAGE, PAGE) is OK
    assert len(space_of(guest.guest)._layout.regions) == 2
    assert space_of(guest.guest)._layout.slots_needed <= 4


def test_execute_alone_is_nothing_to_kvm_and_remakes_no_slot(make: Maker) -> None:
    guest = make.guest()
    before = [region.slot for region in space_of(guest.guest)._layout.regions]
    assert zx.zx_vmar_protect(guest.vmar, RW, 0, MIB) is OK
    assert [region.slot for region in space_of(guest.guest)._layout.regions] == before


def overwrite(guest: GuestHandles, vmo: int, pages: int) -> tuple[Status, int]:
    options = RWX | ZX_VM_SPECIFIC_OVERWRITE
    return zx.zx_vmar_map(guest.vmar, options, 0xF0000, vmo, 0, pages * PAGE)


def test_an_overwrite_covers_several_mappings_and_holes(make: Maker) -> None:
    guest, vmo = guest_with_three_pages(make), make.vmo(3 * PAGE)
    assert zx.zx_vmar_unmap(guest.vmar, 0xF1000, PAGE) is OK
    assert overwrite(guest, vmo, 3) == (OK, 0xF0000)
    assert bytes_it_reads(make, guest) == [0, 0, 0]


def test_an_overwrite_that_has_no_room_in_the_process_leaves_what_was_there(make: Maker) -> None:
    guest, vmo = guest_with_three_pages(make), make.vmo(1 << 31)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        assert overwrite(guest, vmo, 1 << 19) == (Status.NO_MEMORY, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert bytes_it_reads(make, guest) == [1, 2, 3]


def test_a_slot_that_is_larger_than_kvm_takes_is_no_resources_and_says_so(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, vmo = guest_with_three_pages(make), make.vmo(2 * PAGE)
    monkeypatch.setattr(slots, "SIZE_MAX", PAGE)  # 8 TiB are more than most guests can have
    with pytest.raises(kvmbind.NoResourcesError, match="0x2000 bytes at once; KVM takes 0x1000 at most"):
        kvmbind.Vmar.borrow(guest.vmar).map(kvmbind.Vmo.borrow(vmo), 0xF0000, overwrite=True)
    assert bytes_it_reads(make, guest) == [1, 2, 3]


def test_an_overwrite_that_kvm_refuses_in_the_middle_leaves_what_was_there(make: Maker) -> None:
    guest, vmo = guest_with_three_pages(make), make.vmo(2 * PAGE)
    space = space_of(guest.guest)
    space._layout._next_slot = space._slots_max  # so that the next is a number that KVM does not have
    space._slots_max += 9
    assert zx.zx_vmar_map(guest.vmar, RWX | ZX_VM_SPECIFIC, MIB, vmo, 0, PAGE) == (INVALID_ARGS, 0)
    assert zx.zx_vmar_protect(guest.vmar, R, 0x8000, PAGE) is INVALID_ARGS
    assert bytes_it_reads(make, guest) == [1, 2, 3]
    assert overwrite(guest, vmo, 2) == (OK, 0xF0000)  # which needs no more slots than there are
    assert bytes_it_reads(make, guest) == [0, 0, 3]


def test_an_overwrite_without_a_slot_left_leaves_what_was_there(make: Maker) -> None:
    guest, vmo = guest_with_three_pages(make), make.vmo(PAGE)
    space_of(guest.guest)._slots_max = 4
    for options in (ZX_VM_SPECIFIC, ZX_VM_SPECIFIC_OVERWRITE):
        assert zx.zx_vmar_map(guest.vmar, RWX | options, 0x8000 if options & 0x20 else MIB, vmo, 0, PAGE) == (
            Status.NO_RESOURCES,
            0,
        )
    with pytest.raises(
        kvmbind.NoResourcesError, match=r"^zx_vmar_protect: .* all 4 memory slots \(KVM_CAP_NR_MEMSLOTS\)"
    ):
        kvmbind.Vmar.borrow(guest.vmar).protect(0x8000, PAGE, read=True, write=False, execute=False)
    assert bytes_it_reads(make, guest) == [1, 2, 3]
    assert overwrite(guest, vmo, 1) == (OK, 0xF0000)


#: Options besides RWX and SPECIFIC, the options of the VMO, and the answer.
OPTIONS = [
    (ZX_VM_MAP_RANGE, 0, OK),
    (ZX_VM_MAP_RANGE, ZX_VMO_RESIZABLE, OK),
    (ZX_VM_REQUIRE_NON_RESIZABLE, 0, OK),
    (ZX_VM_REQUIRE_NON_RESIZABLE, ZX_VMO_RESIZABLE, Status.NOT_SUPPORTED),
    (ZX_VM_SPECIFIC_OVERWRITE, ZX_VMO_RESIZABLE, OK),
]


@pytest.mark.parametrize(("options", "vmo_options", "status"), OPTIONS)
def test_a_map_takes_the_options_of_the_call(make: Maker, options: int, vmo_options: int, status: Status) -> None:
    guest, vmo = make.guest(), make.vmo(2 * PAGE, vmo_options)
    zx.zx_vmo_write(vmo, b"there", PAGE)
    result = zx.zx_vmar_map(guest.vmar, RWX | ZX_VM_SPECIFIC | options, MIB, vmo, 0, 4 * PAGE)
    assert result == (status, MIB if status is OK else 0)
    if status is OK:
        assert kvmbind.Guest.borrow(guest.guest).read(MIB + PAGE, 5) == b"there"
