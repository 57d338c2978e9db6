"""Which memory is where in a guest's physical address space: facts and arithmetic, no kernel call but mmap."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.abi.constants import ZX_VM_PERM_READ, ZX_VM_PERM_WRITE
from kvmbind.kvm.slots import LOG_DIRTY_PAGES, READ_ONLY, Slot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvmbind.kvm.memory import Mapping
    from kvmbind.zircon.vmo import VmoDispatcher

NO_SLOT = -1


class Region(NamedTuple):
    """Guest-physical [start, end) is the VMO's bytes from vmo_offset on.

    The guest has the first `backed` bytes of it, by a memory slot over a host mapping. It has nothing past the VMO's
    end, and nothing at all without ZX_VM_PERM_READ, since KVM knows no memory that cannot be read: each access there is
    one to no memory.
    """

    start: int
    end: int
    vmo: VmoDispatcher
    vmo_offset: int
    #: ZX_VM_PERM_* bits that the guest has now, and those that it can be given.
    permissions: int
    allowed: int
    host: Mapping | None = None
    host_offset: int = 0
    backed: int = 0
    slot: int = NO_SLOT
    #: The frames (gfns) that VCPUs have written, as far as KVM has told; None if nobody asks. Parts share it.
    dirty: set[int] | None = None

    def part(self, start: int, end: int) -> Region:
        """Returns what of it lies in [start, end), to be given its memory."""
        start, end = max(start, self.start), min(end, self.end)
        moved = start - self.start
        return self._replace(
            start=start,
            end=end,
            vmo_offset=self.vmo_offset + moved,
            host_offset=self.host_offset + moved,
        )

    def outside(self, start: int, end: int) -> list[Region]:
        """Returns what of it lies before and behind [start, end)."""
        before = [self.part(self.start, start)] if self.start < start else []
        return before + ([self.part(end, self.end)] if end < self.end else [])

    def with_memory(self, vmo_size: int) -> Region:
        """Returns it with as much memory behind it as a VMO of this size has for it.

        Raises:
            OSError: The host mapping failed.
        """
        wanted = min(max(0, vmo_size - self.vmo_offset), self.end - self.start)
        if not self.permissions & ZX_VM_PERM_READ:
            wanted = 0
        host, host_offset = self.host, self.host_offset
        if wanted and (host is None or host.size - host_offset < wanted):
            host, host_offset = self.vmo.memory.map(self.vmo_offset, wanted), 0
        return self._replace(host=host, host_offset=host_offset, backed=wanted)

    def joins(self, following: Region) -> bool:
        """Tells whether the two are parts of one mapping, side by side, that nothing tells apart."""
        return (
            self.end == following.start
            and self.vmo is following.vmo
            and self.vmo_offset + self.end - self.start == following.vmo_offset
            and self.host is following.host
            and (self.permissions, self.allowed) == (following.permissions, following.allowed)
            and self.dirty is following.dirty
        )

    def joined(self, following: Region) -> Region:
        """Returns the two as one."""
        return self._replace(end=following.end, backed=self.backed + following.backed, slot=NO_SLOT)

    def as_slot(self) -> Slot:
        """Returns the memory slot by which the guest has it; it has one if `backed` is not 0."""
        assert self.host is not None
        tracked = 0 if self.dirty is None else LOG_DIRTY_PAGES
        flags = tracked if self.permissions & ZX_VM_PERM_WRITE else READ_ONLY
        return Slot(self.slot, flags, self.start, self.backed, self.host.at(self.host_offset))


class Layout:
    """All regions of an address space, by address, and which memory slots they leave. Never changed once made."""

    __slots__ = ("_free_slots", "_next_slot", "regions")

    def __init__(self, regions: list[Region], free_slots: list[int], next_slot: int) -> None:
        """Keeps the facts; an empty address space is `Layout([], [], 0)`."""
        self.regions = regions
        self._free_slots = free_slots
        self._next_slot = next_slot

    def overlapping(self, start: int, end: int) -> list[Region]:
        """Returns the regions that have a byte in [start, end)."""
        first = bisect.bisect_right(self.regions, start, key=_end)
        return self.regions[first : bisect.bisect_left(self.regions, end, key=_start)]

    def gap(self, length: int, size: int, reserved: Iterable[tuple[int, int]]) -> int | None:
        """Returns the first address below `size` with so many bytes that are neither mapped nor reserved, if any."""
        place = 0
        for start, end in sorted([(region.start, region.end) for region in self.regions] + list(reserved)):
            if place + length <= start:
                return place
            place = max(place, end)
        return place if place + length <= size else None

    def replaced(self, old: Iterable[Region], new: Iterable[Region]) -> Replacement:
        """Returns the layout with `new` in the place of `old`, and what that means for the memory slots.

        Neighbours that have become alike are joined, so that a split which is undone leaves no trace. A slot that would
        be made again as it was is kept.
        """
        gone = {id(region): region for region in old}
        beside = {id(n): n for region in gone.values() for n in self._beside(region) if id(n) not in gone}
        gone |= beside
        new = _joined([*new, *beside.values()])
        made_before = {region.as_slot()[1:]: region.slot for region in gone.values() if region.slot != NO_SLOT}
        kept = [made_before.pop(region.as_slot()[1:], NO_SLOT) if region.backed else NO_SLOT for region in new]
        free, next_slot = self._free_slots + list(made_before.values()), self._next_slot
        placed, made = [], []
        for region, kept_slot in zip(new, kept, strict=True):
            slot = kept_slot
            if region.backed and slot == NO_SLOT:
                slot, next_slot = (free.pop(), next_slot) if free else (next_slot, next_slot + 1)
                made.append(region._replace(slot=slot))
            placed.append(region._replace(slot=slot))
        stay = [region for region in self.regions if id(region) not in gone]
        deleted_slots = set(made_before.values())
        return Replacement(
            Layout(sorted(stay + placed, key=_start), free, next_slot),
            [region for region in gone.values() if region.slot in deleted_slots],
            made,
        )

    def _beside(self, region: Region) -> list[Region]:
        around = self.overlapping(region.start - 1, region.end + 1)
        return [other for other in around if region.start == other.end or region.end == other.start]

    @property
    def slots_needed(self) -> int:
        """How many memory slots the kernel must have for it."""
        return self._next_slot


class Replacement(NamedTuple):
    """A layout to come, and the regions whose slots go and come for it."""

    layout: Layout
    deleted: list[Region]
    made: list[Region]


def _joined(regions: list[Region]) -> list[Region]:
    result: list[Region] = []
    for region in sorted(regions, key=_start):
        if result and result[-1].joins(region):
            result[-1] = result[-1].joined(region)
        else:
            result.append(region)
    return result


def _start(region: Region) -> int:
    return region.start


def _end(region: Region) -> int:
    return region.end
