"""A guest's physical address space: which memory is where, as memory slots of the VM."""

from __future__ import annotations

import bisect
import contextlib
import threading
from typing import TYPE_CHECKING

from kvmbind.abi.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    BadStateError,
    InvalidArgsError,
    NoMemoryError,
    NoResourcesError,
    NotFoundError,
    OutOfRangeError,
    from_os_error,
)
from kvmbind.kvm import slots
from kvmbind.kvm.memory import PAGE_SIZE
from kvmbind.kvm.vm import RESERVED
from kvmbind.zircon.dispatcher import Dispatcher
from kvmbind.zircon.regions import NO_SLOT, Layout, Region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvmbind._shim import Host
    from kvmbind.kvm.memory import Mapping
    from kvmbind.kvm.vm import Vm
    from kvmbind.zircon.vmo import VmoDispatcher


class AddressSpace:
    """The memory of one VM. It holds each VMO that has a region.

    There are two layouts: the one that the VM has, and while it changes the one to come. The shim's count of exchanges
    says which is which, and it goes up in the very call that exchanges the slots. So a Ctrl-C, which may be raised
    after any step of Python, finds the layout that the VM has, whole. What it keeps from being let go is let go by the
    next change, or with the guest.

    Threads: any thread may call any method. `lock` guards everything, and is held over the kernel calls; who has a
    resizable VMO's lock may take it, not the other way round. A change to slots that exist pauses the VM's vCPUs.
    """

    __slots__ = (
        "__weakref__",
        "_held",
        "_layouts",
        "_leaving",
        "_living",
        "_logs",
        "_slots_max",
        "_vm",
        "lock",
        "size",
    )

    def __init__(self, vm: Vm, size: int, slots_max: int) -> None:
        """Starts empty.

        Args:
            vm: The VM.
            size: Bytes of guest-physical address space.
            slots_max: How many memory slots the kernel has (KVM_CAP_NR_MEMSLOTS).
        """
        self.lock = threading.Lock()
        self.size = size
        self._vm = vm
        self._living = True
        self._slots_max = slots_max
        self._layouts = [Layout([], [], 0)] * 2
        self._held: dict[VmoDispatcher, VmoDispatcher] = {}
        self._leaving: list[VmoDispatcher] = []
        self._logs: list[tuple[Region, slots.DirtyLog]] = []

    @property
    def _layout(self) -> Layout:
        return self._layouts[self._vm.struct.slots_version % 2]

    def map(
        self,
        call: str,
        start: int | None,
        length: int,
        vmo: VmoDispatcher,
        vmo_offset: int,
        *,
        permissions: int,
        allowed: int,
        overwrite: bool = False,
        populate: bool = False,
    ) -> int:
        """Makes [start, start + length) the VMO's bytes from vmo_offset on; all are whole pages.

        Args:
            call: Named in errors.
            start: Guest-physical address, or None for the first gap that is large enough.
            length: Bytes, more than 0.
            vmo: Held while any of its bytes is mapped.
            vmo_offset: Bytes; the range may reach past the VMO's end.
            permissions: ZX_VM_PERM_* bits. An access that they do not allow is one to no memory.
            allowed: Those that `protect` may give later.
            overwrite: Whether what is mapped there makes room, in the same step.
            populate: Whether pages that the VMO has are entered into this process's page table, for the guest to find.

        Returns:
            The address.

        Raises:
            BadStateError: The guest is gone.
            InvalidArgsError: The range is outside the address space or on a page that KVM needs.
            AlreadyExistsError: Something is mapped there.
            NoMemoryError: No gap is large enough; or this process has no address space left.
            NoResourcesError: The kernel has no memory slot left, or none so large.
        """
        try:
            with vmo, vmo.sized:
                with self.lock:
                    self.require_living(call)
                    start = self._gap(call, length) if start is None else start
                    end = start + length
                    self._check_range(call, start, length)
                    self._check_reserved(call, start, end)
                    old = self._layout.overlapping(start, end)
                    if old and not overwrite:
                        raise AlreadyExistsError(call, f"{start:#x}..{end:#x} is mapped already")
                    region = Region(start, end, vmo, vmo_offset, permissions, allowed)
                    vmo.mapped_by(self)
                    if vmo not in self._held:
                        self._held.update(zip([vmo], map(Dispatcher.hold, [vmo]), strict=True))
                    self._change(call, old, [part for r in old for part in r.outside(start, end)] + [region])
                    host = self._layout.overlapping(start, end)[0].host
                if populate and host is not None:
                    with contextlib.suppress(OSError):  # it only comes sooner
                        vmo.memory.populate(host, vmo_offset)
        finally:
            self._let_go()
        return start

    def unmap(self, call: str, start: int, length: int) -> None:
        """Takes whatever is mapped in the range out; regions that reach out of it are split.

        Raises:
            BadStateError: The guest is gone.
            InvalidArgsError: The range is outside the address space.
            NoResourcesError: Splitting needs a memory slot and none is left; nothing has changed.
        """
        end = start + length
        try:
            with self.lock:
                self.require_living(call)
                self._check_range(call, start, length)
                old = self._layout.overlapping(start, end)
                self._change(call, old, [part for r in old for part in r.outside(start, end)])
        finally:
            self._let_go()

    def protect(self, call: str, start: int, length: int, permissions: int) -> None:
        """Gives the guest other permissions in a range; regions that reach out of it are split.

        Raises:
            BadStateError: The guest is gone.
            InvalidArgsError: The range is outside the address space.
            NotFoundError: Not all of it is mapped.
            AccessDeniedError: The handles by which a part of it was mapped did not have these rights.
            NoResourcesError: Splitting needs a memory slot and none is left; nothing has changed.
        """
        end = start + length
        with self.lock:
            self.require_living(call)
            self._check_range(call, start, length)
            regions = self._layout.overlapping(start, end)
            place = start
            for region in regions:
                if region.start > place:
                    break
                place = region.end
            if place < end:
                raise NotFoundError(call, f"nothing is mapped at {place:#x}")
            if any(permissions & ~region.allowed for region in regions):
                raise AccessDeniedError(call, "a mapping there was made by handles without these rights")
            self._alter(call, regions, start, end, lambda part: part._replace(permissions=permissions))

    def track_dirty(self, call: str, start: int, length: int, *, enabled: bool) -> None:
        """Makes KVM note, or not, which pages of what is mapped in a range the VCPUs write.

        Raises:
            BadStateError: The guest is gone.
            InvalidArgsError: The range is outside the address space.
            NotFoundError: Nothing is mapped there.
            NoResourcesError: Splitting needs a memory slot and none is left; nothing has changed.
        """
        end = start + length
        with self.lock:
            regions = self._mapped(call, start, length)
            changed = [region for region in regions if (region.dirty is not None) != enabled]

            def switched(part: Region) -> Region:
                return part._replace(dirty=set() if enabled else None)

            self._alter(call, changed, start, end, switched)

    def dirty_pages(self, call: str, start: int, length: int) -> list[int]:
        """Returns the addresses of the pages in a range that VCPUs have written since it was asked last, ascending.

        Raises:
            BadStateError: The guest is gone; or something mapped there is not tracked.
            InvalidArgsError: The range is outside the address space.
            NotFoundError: Nothing is mapped there.
        """
        end = start + length
        with self.lock:
            regions = self._mapped(call, start, length)
            for region in regions:
                if region.dirty is None:
                    raise BadStateError(call, f"{region.start:#x}..{region.end:#x} is not tracked: call track_dirty")
            try:
                for region in regions:
                    self._read_log(region)
            except OSError as error:
                raise from_os_error(call, error) from error
            self._take_logs_over()
            shared = {id(region.dirty): region.dirty for region in regions if region.dirty}
            ordered = {key: sorted(gfns) for key, gfns in shared.items()}
            found = []
            for region in regions:
                gfns = ordered.get(id(region.dirty), [])
                first, behind = max(start, region.start) // PAGE_SIZE, min(end, region.end) // PAGE_SIZE
                found += gfns[bisect.bisect_left(gfns, first) : bisect.bisect_left(gfns, behind)]
            for dirty in shared.values():
                dirty.difference_update(found)
            return [gfn * PAGE_SIZE for gfn in found]

    def resized(self, call: str, vmo: VmoDispatcher, size: int) -> slots.Exchange | None:
        """Plans the layout for another size of a VMO; None if the guest is gone. The caller has `lock`.

        Raises:
            OSError: A host mapping failed.
            NoResourcesError: The kernel has no memory slot left, or none so large.
        """
        if not self._living:
            return None
        old = [region for region in self._layout.regions if region.vmo is vmo]
        return self._plan(call, old, [region.with_memory(size) for region in old])

    def settle(self) -> None:
        """Takes dirty logs over and lets go of what the VM has no more, after a change that was done or not.

        The caller has `lock`.
        """
        self._take_logs_over()
        self._layouts = [self._layout] * 2
        gone = self._held.keys() - {region.vmo for region in self._layout.regions}
        self._leaving.extend(map(self._held.pop, gone))  # one call in C: each VMO is in one of the two

    def at(self, call: str, addr: int, length: int) -> tuple[Mapping, Host]:
        """Returns the host address of guest memory that lies in one region, and what keeps it mapped.

        While the caller refers to that, a resizable VMO does not shrink below it.

        Raises:
            BadStateError: The guest is gone.
            OutOfRangeError: Not all of it is memory, or it crosses from one region into the next.
        """
        with self.lock:
            self.require_living(call)
            for region in self._layout.overlapping(addr, addr + 1):
                vmo, moved = region.vmo, addr - region.start
                if addr + length > region.end or region.vmo_offset + moved + length > vmo.size:
                    break
                if region.host is not None and not vmo.resizable:
                    return region.host, region.host.at(region.host_offset + moved)
                return vmo.pin(call, region.vmo_offset + moved, length)
        raise OutOfRangeError(call, f"{addr:#x}..{addr + length:#x} is not in one piece of guest memory")

    def pieces(self, call: str, addr: int, length: int) -> list[tuple[VmoDispatcher, int, int]]:
        """Returns the VMOs behind a range, as (vmo, offset, length); each is held and the caller drops it.

        Raises:
            BadStateError: The guest is gone.
            OutOfRangeError: Not all of it is memory.
        """
        with self.lock:
            self.require_living(call)
            found, place = [], addr
            for region in self._layout.overlapping(addr, addr + length):
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

    def mappings_of(self, vmo: VmoDispatcher) -> int:
        """Returns how many mappings of a VMO it has."""
        with self.lock:
            return sum(region.vmo is vmo for region in self._layout.regions)

    def leave(self) -> None:
        """Makes every later call BadStateError, and returns when nobody uses the VM's fd by way of this object."""
        with self.lock:
            self._living = False

    def release(self) -> None:
        """Drops all memory, after `leave`. The VM fd is closed: nothing can fault any more."""
        with self.lock:
            self._layouts = [Layout([], [], 0)] * 2
            self._logs = []
            self._leaving += self._held
            self._held = {}
        self._let_go()

    def require_living(self, call: str) -> None:
        """Raises BadStateError when the guest is gone."""
        if not self._living:
            raise BadStateError(call, "the guest of this VMAR is gone")

    def _check_range(self, call: str, start: int, length: int) -> None:
        if start + length > self.size:
            raise InvalidArgsError(call, f"the guest's address space ends at {self.size:#x}")

    def _check_reserved(self, call: str, start: int, end: int) -> None:
        for first, behind in RESERVED:
            if start < behind and first < end:
                raise InvalidArgsError(call, f"{first:#x}..{behind:#x} belongs to KVM and the local APIC")

    def _gap(self, call: str, length: int) -> int:
        start = self._layout.gap(length, self.size, RESERVED)
        if start is None:
            raise NoMemoryError(call, f"no gap of {length:#x} bytes is left below {self.size:#x}")
        return start

    def _mapped(self, call: str, start: int, length: int) -> list[Region]:
        self.require_living(call)
        self._check_range(call, start, length)
        regions = self._layout.overlapping(start, start + length)
        if not regions:
            raise NotFoundError(call, f"nothing is mapped in {start:#x}..{start + length:#x}")
        return regions

    def _alter(
        self, call: str, regions: list[Region], start: int, end: int, altered: Callable[[Region], Region]
    ) -> None:
        """Alters what of these regions lies in [start, end)."""
        new = [part for region in regions for part in region.outside(start, end)]
        self._change(call, regions, new + [altered(region.part(start, end)) for region in regions])

    def _change(self, call: str, old: Sequence[Region], new: Sequence[Region]) -> None:
        """Exchanges regions, and the memory slots with them; or all is as before."""
        if not old and not new:
            return
        try:
            slots.exchange([self._plan(call, old, [region.with_memory(region.vmo.size) for region in new])])
        except OSError as error:
            raise from_os_error(call, error) from error
        finally:
            self.settle()

    def _plan(self, call: str, old: Sequence[Region], new: Sequence[Region]) -> slots.Exchange:
        """Makes the layout to come, and returns the exchange that makes it the VM's."""
        layout, deleted, made = self._layout.replaced(old, new)
        if layout.slots_needed > self._slots_max:
            raise NoResourcesError(call, f"all {self._slots_max} memory slots (KVM_CAP_NR_MEMSLOTS) are in use")
        for region in made:
            if region.backed > slots.SIZE_MAX:
                raise NoResourcesError(call, f"{region.backed:#x} bytes at once; KVM takes {slots.SIZE_MAX:#x} at most")
        self._layouts[(self._vm.struct.slots_version + 1) % 2] = layout
        exchange = slots.Exchange(self._vm, [r.as_slot() for r in deleted], [r.as_slot() for r in made])
        self._logs += [(r, log) for r, log in zip(deleted, exchange.logs, strict=True) if log is not None]
        return exchange

    def _read_log(self, region: Region) -> None:
        slot = region.as_slot() if region.slot != NO_SLOT else None
        if slot is not None and slot.flags & slots.LOG_DIRTY_PAGES:
            log = slots.DirtyLog(slot)
            self._logs.append((region, log))  # before it is read: KVM forgets what it has told
            log.read(self._vm, slot)

    def _take_logs_over(self) -> None:
        while self._logs:
            region, log = self._logs[-1]
            assert region.dirty is not None
            region.dirty.update(log.gfns())
            self._logs.pop()

    def _let_go(self) -> None:
        """Drops VMOs that have no region any more; outside all locks."""
        if not self._leaving:
            return
        with contextlib.suppress(IndexError):  # another thread took the last
            while self._leaving:
                self._leaving.pop().drop()
