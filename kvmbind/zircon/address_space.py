"""A guest's physical address space: which memory is where, as memory slots of the VM."""

from __future__ import annotations

import bisect
import errno
import threading
from typing import TYPE_CHECKING

from kvmbind._shim import ffi
from kvmbind.abi.errors import (
    AlreadyExistsError,
    BadStateError,
    InvalidArgsError,
    NoMemoryError,
    OutOfRangeError,
    from_os_error,
)
from kvmbind.kvm.vm import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmbind._shim import Host
    from kvmbind.kvm.memory import Mapping
    from kvmbind.kvm.vm import Vm
    from kvmbind.zircon.vmo import VmoDispatcher

READ_ONLY = 2  # KVM_MEM_READONLY


class Region:
    """One memory slot: guest-physical [start, end) is the VMO's bytes from vmo_offset on."""

    __slots__ = ("end", "flags", "host", "host_offset", "slot", "start", "vmo", "vmo_offset")

    def __init__(
        self,
        start: int,
        end: int,
        vmo: VmoDispatcher,
        vmo_offset: int,
        host: Mapping,
        host_offset: int,
        flags: int,
    ) -> None:
        """Keeps the facts; AddressSpace does the work."""
        self.start = start
        self.end = end
        self.vmo = vmo
        self.vmo_offset = vmo_offset
        self.host = host
        self.host_offset = host_offset
        self.flags = flags
        self.slot = -1

    def part(self, start: int, end: int) -> Region:
        """Returns what of it lies in [start, end)."""
        start, end = max(start, self.start), min(end, self.end)
        moved = start - self.start
        return Region(start, end, self.vmo, self.vmo_offset + moved, self.host, self.host_offset + moved, self.flags)


class AddressSpace:
    """The memory slots of one VM. Each region holds its VMO.

    Threads: any thread may call any method. One lock guards the list and is held over the kernel calls; a change to
    slots that exist pauses the VM, since KVM can only delete and remake one.
    """

    __slots__ = ("_free_slots", "_lock", "_next_slot", "_regions", "_slots_max", "_vm", "size")

    def __init__(self, vm: Vm, size: int, slots_max: int) -> None:
        """Starts empty.

        Args:
            vm: The VM.
            size: Bytes of guest-physical address space.
            slots_max: How many memory slots the kernel has (KVM_CAP_NR_MEMSLOTS).
        """
        self._vm: Vm | None = vm
        self.size = size
        self._slots_max = slots_max
        self._lock = threading.Lock()
        self._regions: list[Region] = []
        self._free_slots: list[int] = []
        self._next_slot = 0

    def map(
        self,
        call: str,
        start: int | None,
        length: int,
        vmo: VmoDispatcher,
        vmo_offset: int,
        *,
        writable: bool,
    ) -> int:
        """Makes [start, start + length) the VMO's bytes from vmo_offset on; all are whole pages.

        Args:
            call: Named in errors.
            start: Guest-physical address, or None for the first gap that is large enough.
            length: Bytes, more than 0.
            vmo: Held from now on.
            vmo_offset: Bytes; the range may reach past the VMO's end.
            writable: Whether the guest may write; what it writes otherwise is an untrapped access.

        Returns:
            The address.

        Raises:
            BadStateError: The guest is gone.
            InvalidArgsError: The range is outside the address space or on a page that KVM needs.
            AlreadyExistsError: Something is mapped there.
            NoMemoryError: No gap is large enough.
            NoResourcesError: The kernel has no memory slot left.
        """
        with self._lock:
            vm = self._living(call)
            start = self._gap(call, length) if start is None else start
            self._check_range(call, start, length)
            if any(True for _ in self._overlapping(start, start + length)):
                raise AlreadyExistsError(call, f"{start:#x}..{start + length:#x} is mapped already")
            vmo.hold()
            try:
                region = Region(
                    start,
                    start + length,
                    vmo,
                    vmo_offset,
                    vmo.map(vmo_offset, length),
                    0,
                    0 if writable else READ_ONLY,
                )
                self._install(vm, region)
            except OSError as error:
                vmo.drop()
                raise from_os_error(call, error) from error
            bisect.insort(self._regions, region, key=_start)
            return start

    def unmap(self, call: str, start: int, length: int) -> None:
        """Takes whatever is mapped in the range out; regions that reach out of it are split.

        Raises:
            BadStateError: The guest is gone.
            InvalidArgsError: The range is outside the address space.
            NoResourcesError: Splitting needs a memory slot and none is left; nothing has changed.
        """
        with self._lock:
            vm = self._living(call)
            if start + length > self.size:
                raise InvalidArgsError(call, f"the guest's address space ends at {self.size:#x}")
            old = list(self._overlapping(start, start + length))
            new = [part for region in old for part in _outside(region, start, start + length)]
            if not old:
                return
            with vm.paused():
                self._exchange(vm, call, old, new)
            for region in new:
                region.vmo.hold()
        for region in old:
            region.vmo.drop()

    def _exchange(self, vm: Vm, call: str, old: list[Region], new: list[Region]) -> None:
        if len(new) - len(old) > self._slots_max - self._next_slot + len(self._free_slots):
            raise from_os_error(call, OSError(errno.ENOSPC, f"all {self._slots_max} memory slots are in use"))
        for region in old:
            self._remove(vm, region)
        try:
            for region in new:
                self._install(vm, region)
        except OSError as error:
            for region in new:
                if region.slot >= 0:
                    self._remove(vm, region)
            for region in old:
                self._install(vm, region)
            raise from_os_error(call, error) from error
        gone = set(map(id, old))
        self._regions = sorted([r for r in self._regions if id(r) not in gone] + new, key=_start)

    def at(self, call: str, addr: int, length: int) -> tuple[Mapping, Host]:
        """Returns the host address of guest memory that lies in one region, and what keeps it mapped.

        Raises:
            BadStateError: The guest is gone.
            OutOfRangeError: Not all of it is memory, or it crosses from one region into the next.
        """
        with self._lock:
            self._living(call)
            for region in self._overlapping(addr, addr + 1):
                offset = addr - region.start
                if addr + length <= region.end and region.vmo_offset + offset + length <= region.vmo.size:
                    return region.host, region.host.at(region.host_offset + offset)
        raise OutOfRangeError(call, f"{addr:#x}..{addr + length:#x} is not in one piece of guest memory")

    def pieces(self, call: str, addr: int, length: int) -> list[tuple[VmoDispatcher, int, int]]:
        """Returns the VMOs behind a range, as (vmo, offset, length); each is held and the caller drops it.

        Raises:
            BadStateError: The guest is gone.
            OutOfRangeError: Not all of it is memory.
        """
        with self._lock:
            self._living(call)
            found, place = [], addr
            for region in self._overlapping(addr, addr + length):
                offset = region.vmo_offset + place - region.start
                size = min(region.end, addr + length) - place
                if place < region.start or offset + size > region.vmo.size:
                    break
                found.append((region.vmo, offset, size))
                place += size
            if place != addr + length:
                raise OutOfRangeError(call, f"no memory at {place:#x}")
            for vmo, _, _ in found:
                vmo.hold()
            return found

    def leave(self) -> None:
        """Makes every later call BadStateError, and returns when nobody uses the VM's fd by way of this object."""
        with self._lock:
            self._vm = None

    def release(self) -> None:
        """Drops all memory, after `leave`. The VM fd is closed: nothing can fault any more."""
        regions, self._regions = self._regions, []
        for region in regions:
            region.vmo.drop()

    def require_living(self, call: str) -> None:
        """Raises BadStateError when the guest is gone."""
        self._living(call)

    def _living(self, call: str) -> Vm:
        if self._vm is None:
            raise BadStateError(call, "the guest of this VMAR is gone")
        return self._vm

    def _check_range(self, call: str, start: int, length: int) -> None:
        if start + length > self.size:
            raise InvalidArgsError(call, f"the guest's address space ends at {self.size:#x}")
        for first, end in RESERVED:
            if start < end and first < start + length:
                raise InvalidArgsError(call, f"{first:#x}..{end:#x} belongs to KVM and the local APIC")

    def _overlapping(self, start: int, end: int) -> Iterator[Region]:
        place = bisect.bisect_right(self._regions, start, key=_end)
        while place < len(self._regions) and self._regions[place].start < end:
            yield self._regions[place]
            place += 1

    def _gap(self, call: str, length: int) -> int:
        taken = sorted([(region.start, region.end) for region in self._regions] + list(RESERVED))
        place = 0
        for start, end in taken:
            if place + length <= start:
                return place
            place = max(place, end)
        if place + length > self.size:
            raise NoMemoryError(call, f"no gap of {length:#x} bytes is left below {self.size:#x}")
        return place

    def _install(self, vm: Vm, region: Region) -> None:
        if self._free_slots:
            slot = self._free_slots.pop()
        elif self._next_slot < self._slots_max:
            slot = self._next_slot
            self._next_slot += 1
        else:
            raise OSError(errno.ENOSPC, f"all {self._slots_max} memory slots are in use")
        try:
            host = region.host.at(region.host_offset)
            vm.set_memory(slot, region.start, region.end - region.start, host, flags=region.flags)
        except BaseException:
            self._free_slots.append(slot)
            raise
        region.slot = slot

    def _remove(self, vm: Vm, region: Region) -> None:
        vm.set_memory(region.slot, region.start, 0, ffi.NULL)
        self._free_slots.append(region.slot)
        region.slot = -1


def _start(region: Region) -> int:
    return region.start


def _end(region: Region) -> int:
    return region.end


def _outside(region: Region, start: int, end: int) -> list[Region]:
    parts = []
    if region.start < start:
        parts.append(region.part(region.start, start))
    if end < region.end:
        parts.append(region.part(end, region.end))
    return parts
