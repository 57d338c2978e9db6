"""Memory slots: exchanged under paused vCPUs, and which of their pages vCPUs have written."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from kvmbind._shim import ffi, lib
from kvmbind.kvm.calls import check
from kvmbind.kvm.memory import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmbind._shim import Host
    from kvmbind._shim import Slots as SlotArray
    from kvmbind.kvm.memory import Memory
    from kvmbind.kvm.vm import Vm

LOG_DIRTY_PAGES = 1  # KVM_MEM_LOG_DIRTY_PAGES
READ_ONLY = 2  # KVM_MEM_READONLY
#: The most bytes that KVM takes into one slot (KVM_MEM_MAX_NR_PAGES).
SIZE_MAX = ((1 << 31) - 1) * PAGE_SIZE

_PAGES_PER_WORD = 64


class Slot(NamedTuple):
    """One memory slot: guest-physical [guest_addr, guest_addr + size) is the memory at a host address."""

    number: int
    flags: int
    guest_addr: int
    size: int
    host: Host


class DirtyLog:
    """The dirty log of one slot: a bit for each page that a vCPU has written since it was read last.

    KVM may also count a page that was only read, when it maps it writable (mark_page_dirty_in_slot in make_spte).
    """

    __slots__ = ("bitmap", "guest_addr")

    def __init__(self, slot: Slot) -> None:
        """Starts with no page."""
        self.guest_addr = slot.guest_addr
        self.bitmap = ffi.new("uint64_t[]", -(-slot.size // (PAGE_SIZE * _PAGES_PER_WORD)))

    def read(self, vm: Vm, slot: Slot) -> None:
        """KVM_GET_DIRTY_LOG: takes the slot's log over, which is empty afterwards."""
        check(lib.kb_vm_dirty_log(vm.struct, slot.number, self.bitmap), "KVM_GET_DIRTY_LOG")

    def gfns(self) -> list[int]:
        """Returns the guest frame numbers of the pages, in ascending order: their addresses in pages."""
        first = self.guest_addr // PAGE_SIZE
        octets = enumerate(bytes(ffi.buffer(self.bitmap)))
        return [first + place * 8 + bit for place, octet in octets if octet for bit in _bits(octet)]


@functools.cache
def _bits(octet: int) -> tuple[int, ...]:
    return tuple(bit for bit in range(8) if octet >> bit & 1)


class Exchange:
    """Slots of one VM to be deleted, and those to be made in their place.

    `logs` has a dirty log for each of `deleted`, or None where it keeps none; what it says is taken over before.
    """

    __slots__ = ("deleted", "logs", "made", "vm")

    def __init__(self, vm: Vm, deleted: Sequence[Slot], made: Sequence[Slot]) -> None:
        """Plans it; `exchange` does it."""
        self.vm = vm
        self.deleted = deleted
        self.made = made
        self.logs = [DirtyLog(slot) if slot.flags & LOG_DIRTY_PAGES else None for slot in deleted]


def exchange(exchanges: Sequence[Exchange], memory: Memory | None = None, size: int = 0) -> None:
    """KVM_SET_USER_MEMORY_REGION for slots of several VMs, and ftruncate for the memory behind them: all or nothing.

    The vCPUs of each VM that has slots deleted are paused meanwhile: KVM can only delete and remake a slot. It is one
    call into the shim, which counts `slots_version` of each VM when it was done, so that a signal handler that raises
    right after it leaves no doubt.

    Args:
        exchanges: What changes. Nobody else may change slots of these VMs meanwhile.
        memory: Whose size changes, if any does; nobody else may use it meanwhile.
        size: Its new size in bytes, a multiple of 4096.

    Raises:
        OSError: What the kernel answered; everything is as before.
    """
    kept = []
    table = ffi.new("struct kb_exchange[]", len(exchanges))
    for place, wanted in enumerate(exchanges):
        deleted, made = _slots(wanted.deleted), _slots(wanted.made)
        for index, log in enumerate(wanted.logs):
            if log is not None:
                deleted[index].dirty = log.bitmap
        kept += [deleted, made]  # the table only points to them
        entry = table[place]
        entry.vm = wanted.vm.struct
        entry.deleted, entry.deleted_count = deleted, len(wanted.deleted)
        entry.made, entry.made_count = made, len(wanted.made)
    memfd, cell = (-1, ffi.new("uint64_t[]", 1)) if memory is None else (memory.fd, memory.size_cell)
    check(lib.kb_exchange(table, len(exchanges), memfd, cell, size), "KVM_SET_USER_MEMORY_REGION")
    del kept


def _slots(slots: Sequence[Slot]) -> SlotArray:
    array = ffi.new("struct kb_slot[]", len(slots))
    for index, slot in enumerate(slots):
        entry = array[index]
        entry.number, entry.flags, entry.guest_addr, entry.size, entry.host = slot
    return array
