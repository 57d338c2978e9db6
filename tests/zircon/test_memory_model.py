"""Memory in random order: a guest that reads and writes every page finds what a model of VMOs and VMARs says."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import kvmbind
from kvmbind import Access

pytestmark = pytest.mark.kvm

PAGE = 4096
ENTRY = 0x1000
START = 0x80000
PAGES = 16  # as many as real mode sees at once
VMO_PAGES = 5
STEPS_PER_RUN = 40
END_OF_ROUND = 0x81
PROBE = bytes.fromhex(
    "b80080"  # mov ax, 0x8000
    "8ed8"  # mov ds, ax
    "31db"  # round: xor bx, bx
    "8a07"  # page: mov al, [bx]
    "e680"  # out 0x80, al
    "884701"  # mov [bx + 1], al
    "81c30010"  # add bx, 0x1000
    "73f3"  # jnc page
    "e681"  # out 0x81, al
    "ebed"  # jmp round
)


class Mapped(NamedTuple):
    """What is mapped at one page of the guest."""

    vmo: int
    page: int
    read: bool
    write: bool
    tracked: bool = False


class ModelVmo:
    """A VMO as the number of its pages and the first byte of each."""

    def __init__(self, vmo: kvmbind.Vmo, *, resizable: bool) -> None:
        self.vmo = vmo
        self.resizable = resizable
        self.bytes = [0] * (vmo.size // PAGE)

    @property
    def pages(self) -> int:
        return len(self.bytes)


PERMISSIONS = st.sampled_from([(True, True), (True, True), (True, False), (False, False)])
FIRST = st.integers(0, PAGES - 1)
LENGTH = st.sampled_from([1, 1, 2, 3, 4, 8])
VMO = st.integers(0, 2)


class GuestMemory(RuleBasedStateMachine):
    """Each rule makes a call and changes the model; then the guest looks at all pages."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.places: dict[int, Mapped] = {}
        self.dirty: set[int] = set()

    @initialize()
    def boot(self) -> None:
        self.guest = self.stack.enter_context(kvmbind.Guest.create(memory=START))
        self.guest.write(PROBE, ENTRY)
        self.guest.set_trap_io(0x80, 2, key=0)
        self.vcpu = self.stack.enter_context(kvmbind.Vcpu.create(self.guest, ENTRY))
        made = [kvmbind.Vmo.create(VMO_PAGES * PAGE, resizable=resizable) for resizable in (False, True, True)]
        self.vmos = [ModelVmo(self.stack.enter_context(vmo), resizable=vmo is not made[0]) for vmo in made]
        self.marks = 0
        for vmo in range(3):
            for page in range(VMO_PAGES):
                self.mark(vmo, page)
            self.map(vmo, 0, vmo * VMO_PAGES, VMO_PAGES, (True, True), over=False)

    @rule(vmo=VMO, page=st.integers(0, VMO_PAGES - 1))
    def mark(self, vmo: int, page: int) -> None:
        """Gives a page of a VMO a byte that it has not had."""
        if page < self.vmos[vmo].pages:
            self.marks = self.marks % 250 + 1
            self.vmos[vmo].bytes[page] = self.marks
            self.vmos[vmo].vmo.write(bytes([self.marks]), page * PAGE)

    @rule(vmo=VMO, page=st.integers(0, VMO_PAGES - 1), first=FIRST, length=LENGTH, how=PERMISSIONS, over=st.booleans())
    def map(self, vmo: int, page: int, first: int, length: int, how: tuple[bool, bool], over: bool) -> None:
        taken = any(place in self.places for place in range(first, first + length))
        read, write = how
        addr = START + first * PAGE

        def call() -> int:
            return self.guest.vmar.map(
                self.vmos[vmo].vmo, addr, vmo_offset=page * PAGE, length=length * PAGE, read=read, write=write,
                execute=read, overwrite=over,
            )  # fmt: skip

        if taken and not over:
            with pytest.raises(kvmbind.AlreadyExistsError):
                call()
            return
        assert call() == addr
        for moved in range(length):
            self.places[first + moved] = Mapped(vmo, page + moved, read, write)
            self.dirty.discard(first + moved)

    @rule(first=FIRST, length=LENGTH)
    def unmap(self, first: int, length: int) -> None:
        self.guest.vmar.unmap(START + first * PAGE, length * PAGE)
        for place in range(first, first + length):
            self.places.pop(place, None)
            self.dirty.discard(place)

    @rule(first=FIRST, length=LENGTH, how=PERMISSIONS)
    def protect(self, first: int, length: int, how: tuple[bool, bool]) -> None:
        read, write = how
        places = range(first, first + length)

        def call() -> None:
            self.guest.vmar.protect(START + first * PAGE, length * PAGE, read=read, write=write, execute=read)

        if not all(place in self.places for place in places):
            with pytest.raises(kvmbind.NotFoundError):
                call()
            return
        call()
        for place in places:
            self.places[place] = self.places[place]._replace(read=read, write=write)

    @rule(vmo=VMO, pages=st.integers(0, VMO_PAGES + 2))
    def resize(self, vmo: int, pages: int) -> None:
        model = self.vmos[vmo]
        if not model.resizable:
            with pytest.raises(kvmbind.UnavailableError):
                model.vmo.resize(pages * PAGE)
            return
        model.vmo.resize(pages * PAGE)
        model.bytes = model.bytes[:pages] + [0] * (pages - model.pages)

    @rule(first=FIRST, length=LENGTH, enabled=st.sampled_from([True, True, False]))
    def track(self, first: int, length: int, enabled: bool) -> None:
        places = [place for place in range(first, first + length) if place in self.places]
        if not places:
            with pytest.raises(kvmbind.NotFoundError):
                self.guest.vmar.track_dirty(START + first * PAGE, length * PAGE, enabled=enabled)
            return
        self.guest.vmar.track_dirty(START + first * PAGE, length * PAGE, enabled=enabled)
        for place in places:
            self.places[place] = self.places[place]._replace(tracked=enabled)
            if not enabled:
                self.dirty.discard(place)

    @rule(first=FIRST, length=LENGTH)
    def ask_for_dirty_pages(self, first: int, length: int) -> None:
        places = [place for place in range(first, first + length) if place in self.places]

        def call() -> list[int]:
            return self.guest.vmar.dirty_pages(START + first * PAGE, length * PAGE)

        if not places:
            with pytest.raises(kvmbind.NotFoundError):
                call()
        elif not all(self.places[place].tracked for place in places):
            with pytest.raises(kvmbind.BadStateError, match="track_dirty"):
                call()
        else:
            assert call() == [START + place * PAGE for place in places if place in self.dirty]
            self.dirty -= set(places)

    def backed(self, place: int) -> Mapped | None:
        """What the guest has at a page, if it has anything."""
        mapped = self.places.get(place)
        if mapped is None or not mapped.read or mapped.page >= self.vmos[mapped.vmo].pages:
            return None
        return mapped

    def expected(self, place: int) -> list[Access | int]:
        """What the guest says and does at a page, as far as the host hears of it."""
        addr, mapped = START + place * PAGE, self.backed(place)
        if mapped is None:
            write = Access("memory", addr + 1, 1, is_write=True, data=b"\xff")
            return [Access("memory", addr, 1, is_write=False), 0xFF, write]
        value = self.vmos[mapped.vmo].bytes[mapped.page]
        if not mapped.write:
            return [value, Access("memory", addr + 1, 1, is_write=True, data=bytes([value]))]
        return [value]

    def event(self) -> Access | int:
        try:
            packet = self.vcpu.enter(timeout_s=60)
        except kvmbind.NotFoundError as error:
            if error.access is None:
                raise
            return error.access
        return END_OF_ROUND << 8 if packet.guest_io.port == END_OF_ROUND else packet.guest_io.u8

    @invariant()
    def the_guest_finds_what_the_model_says(self) -> None:
        for place in range(PAGES):
            assert [self.event() for _ in self.expected(place)] == self.expected(place)
        assert self.event() == END_OF_ROUND << 8
        for place in range(PAGES):
            mapped = self.backed(place)
            if mapped is not None and mapped.write:
                first, second = self.vmos[mapped.vmo].vmo.read(mapped.page * PAGE, 2)
                assert first == second
                if mapped.tracked:
                    self.dirty.add(place)

    def teardown(self) -> None:
        self.stack.close()


_steps = os.environ.get("KVMBIND_MODEL_STEPS")
TestGuestMemory = GuestMemory.TestCase
TestGuestMemory.settings = settings(
    max_examples=max(1, int(_steps or 2000) // STEPS_PER_RUN),
    stateful_step_count=STEPS_PER_RUN,
    deadline=None,
    derandomize=_steps is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
