"""Vmar.track_dirty and dirty_pages: which pages a guest has written, told once, whatever becomes of the mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest, Vcpu, Vmo
from kvmbind.zx import ZX_RIGHT_INSPECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import WaitUntil

pytestmark = pytest.mark.kvm

PAGE, MIB = 4096, 1 << 20
ENTRY = 0x1000
PLACE = 0x80000
WRITTEN = [PLACE + 0x2000, PLACE + 0x5000, PLACE + 0xF000]
#: mov ax, 8000h; mov ds, ax; again: inc byte [2000h], [5000h], [F001h]; out 80h, al; jmp again
WRITER = bytes.fromhex("b80080 8ed8 fe060020 fe060050 fe0601f0 e680 ebf0")


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A guest that writes to three pages in each round; 64 KiB at 80000h are a mapping of their own."""
    with Guest.create(memory=PLACE) as guest, Vmo.create(16 * PAGE, resizable=True) as vmo:
        guest.write(WRITER, ENTRY)
        guest.set_trap_io(0x80, 1, key=0)
        guest.vmar.map(vmo, PLACE)
        yield guest


@pytest.fixture
def run(guest: Guest) -> Iterator[Callable[[], None]]:
    """Lets the guest make a round."""
    with Vcpu.create(guest, ENTRY) as vcpu:

        def run() -> None:
            while True:
                try:
                    vcpu.enter(timeout_s=60)
                except kvmbind.NotFoundError as error:
                    assert error.access is not None  # noqa: PT017  # what is no memory is passed over
                else:
                    return

        yield run


def test_what_the_guest_has_written_is_told_once(guest: Guest, run: Callable[[], None]) -> None:
    run()
    guest.vmar.track_dirty(PLACE, 16 * PAGE)
    assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == []
    for _ in range(3):
        run()
        assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == WRITTEN
        assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == []


def test_what_lies_outside_the_range_is_left_for_a_later_call(guest: Guest, run: Callable[[], None]) -> None:
    guest.vmar.track_dirty(PLACE, 16 * PAGE)
    run()
    assert guest.vmar.dirty_pages(PLACE + 0x3000, 3 * PAGE) == WRITTEN[1:2]
    assert guest.vmar.dirty_pages(PLACE + 0x3000, 3 * PAGE) == []
    assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == [WRITTEN[0], WRITTEN[2]]


def test_a_range_that_begins_and_ends_inside_a_mapping_is_tracked_alone(guest: Guest, run: Callable[[], None]) -> None:
    guest.vmar.track_dirty(PLACE + 0x4000, 2 * PAGE)
    run()
    assert guest.vmar.dirty_pages(PLACE + 0x4000, 2 * PAGE) == WRITTEN[1:2]
    for addr, length in [(PLACE, 16 * PAGE), (PLACE + 0x5000, 2 * PAGE)]:
        with pytest.raises(kvmbind.BadStateError, match=r"^Vmar.dirty_pages: .* is not tracked: call track_dirty"):
            guest.vmar.dirty_pages(addr, length)


def test_mappings_side_by_side_and_holes_between_them_are_one_range(guest: Guest, run: Callable[[], None]) -> None:
    guest.vmar.unmap(PLACE + 0x7000, PAGE)
    guest.vmar.track_dirty(0, MIB)
    run()
    told = guest.vmar.dirty_pages(0, MIB)
    assert [page for page in told if page != ENTRY] == WRITTEN  # that of its code was read, and may be told too


#: What becomes of the mapping between the writing and the asking, and what is told.
CHANGES: list[tuple[str, Callable[[Guest], object], list[int]]] = [
    ("a hole", lambda guest: guest.vmar.unmap(PLACE + 0x3000, PAGE), WRITTEN),
    ("a hole where it wrote", lambda guest: guest.vmar.unmap(PLACE + 0x5000, PAGE), [WRITTEN[0], WRITTEN[2]]),
    ("read-only", lambda guest: guest.vmar.protect(PLACE, 16 * PAGE, read=True, write=False, execute=True), WRITTEN),
    ("read-only in part", lambda guest: guest.vmar.protect(PLACE + 0x2000, PAGE, read=True, write=False, execute=False),
     WRITTEN),
    ("tracked again", lambda guest: guest.vmar.track_dirty(PLACE, 16 * PAGE), WRITTEN),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_no_change_of_a_mapping_loses_what_was_written(
    guest: Guest, run: Callable[[], None], change: Callable[[Guest], object], told: list[int]
) -> None:
    guest.vmar.track_dirty(PLACE, 16 * PAGE)
    run()
    change(guest)
    assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == told
    assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == []


def test_parts_of_a_split_and_resized_mapping_are_still_tracked() -> None:
    with Guest.create(memory=PLACE) as guest, Vmo.create(16 * PAGE, resizable=True) as vmo:
        guest.write(WRITER, ENTRY)
        guest.set_trap_io(0x80, 1, key=0)
        guest.vmar.map(vmo, PLACE)
        guest.vmar.track_dirty(PLACE, 16 * PAGE)
        guest.vmar.protect(PLACE + 0x3000, PAGE, read=True, write=False, execute=False)
        with Vcpu.create(guest, ENTRY) as vcpu:
            vcpu.enter(timeout_s=60)
            vmo.resize(6 * PAGE)
            vmo.resize(16 * PAGE)
            assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == WRITTEN
            vcpu.enter(timeout_s=60)
            assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == WRITTEN


def test_what_is_mapped_anew_is_not_tracked_and_what_was_there_is_forgotten(
    guest: Guest, run: Callable[[], None]
) -> None:
    guest.vmar.track_dirty(PLACE, 16 * PAGE)
    run()
    with Vmo.create(PAGE) as other:
        guest.vmar.map(other, PLACE + 0x2000, overwrite=True)
        with pytest.raises(kvmbind.BadStateError):
            guest.vmar.dirty_pages(PLACE, 16 * PAGE)
        guest.vmar.track_dirty(PLACE, 16 * PAGE)
        assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == WRITTEN[1:]


def test_tracking_that_is_switched_off_forgets(guest: Guest, run: Callable[[], None]) -> None:
    guest.vmar.track_dirty(PLACE, 16 * PAGE)
    run()
    guest.vmar.track_dirty(PLACE, 16 * PAGE, enabled=False)
    with pytest.raises(kvmbind.BadStateError):
        guest.vmar.dirty_pages(PLACE, 16 * PAGE)
    guest.vmar.track_dirty(PLACE, 16 * PAGE)
    assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == []


def test_what_the_host_writes_is_not_told(guest: Guest) -> None:
    guest.vmar.track_dirty(PLACE, 16 * PAGE)
    guest.write(b"1", PLACE)
    assert guest.vmar.dirty_pages(PLACE, 16 * PAGE) == []


def test_pages_are_told_while_the_guest_runs_and_none_is_lost(guest: Guest, wait_until: WaitUntil) -> None:
    guest.vmar.track_dirty(PLACE, 16 * PAGE)
    with guest.start_vcpu(ENTRY, on_packet=lambda vcpu, packet: None):
        for _ in range(3):
            told: list[int] = []

            def all_told(told: list[int] = told) -> bool:
                told += guest.vmar.dirty_pages(PLACE, 16 * PAGE)
                return set(told) == set(WRITTEN)

            wait_until(all_told)


@pytest.mark.parametrize(
    ("addr", "length", "error"),
    [
        (1, PAGE, kvmbind.InvalidArgsError),
        (-PAGE, PAGE, kvmbind.InvalidArgsError),
        (0, 0, kvmbind.InvalidArgsError),
        (0, -1, kvmbind.InvalidArgsError),
        (1 << 60, PAGE, kvmbind.InvalidArgsError),
        (8 * MIB, PAGE, kvmbind.NotFoundError),
    ],
)
def test_a_range_that_is_none_is_refused(guest: Guest, addr: int, length: int, error: type[kvmbind.ZxError]) -> None:
    with pytest.raises(error, match=r"^Vmar.track_dirty: "):
        guest.vmar.track_dirty(addr, length)
    with pytest.raises(error, match=r"^Vmar.dirty_pages: "):
        guest.vmar.dirty_pages(addr, length)


def test_asking_needs_the_right_to_inspect_and_a_living_guest(guest: Guest) -> None:
    with guest.vmar.duplicate(guest.vmar.rights & ~ZX_RIGHT_INSPECT) as less:
        for use in (less.track_dirty, less.dirty_pages):
            with pytest.raises(kvmbind.AccessDeniedError):
                use(PLACE, PAGE)
    with guest.vmar.duplicate() as vmar:
        guest.close()
        for use in (vmar.track_dirty, vmar.dirty_pages):
            with pytest.raises(kvmbind.BadStateError, match="is gone"):
                use(PLACE, PAGE)
