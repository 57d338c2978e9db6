"""A VM's GSIs: each with its route and its irqfd, owned as one thing."""

from __future__ import annotations

import contextlib
import errno
import struct
import threading
from typing import TYPE_CHECKING

from kvmbind._shim import ffi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmbind.kvm.msi import Message
    from kvmbind.kvm.vm import Vm

# struct kvm_irq_routing and struct kvm_irq_routing_entry of <linux/kvm.h>
_HEADER = struct.Struct("<II")
_MSI_ENTRY = struct.Struct("<IIIIIII20x")
_PIN_ENTRY = struct.Struct("<IIIIII24x")
_ROUTE_TO_PIN = 1
_ROUTE_TO_MSI = 2
_PIC_MASTER, _PIC_SLAVE, _IOAPIC = range(3)


def _pc_pins() -> list[bytes]:
    """The routes that a full irqchip starts with; a table without them would cut its lines off."""
    pins = []
    for gsi in range(24):
        if gsi < 16:
            pins.append(_PIN_ENTRY.pack(gsi, _ROUTE_TO_PIN, 0, 0, _PIC_SLAVE if gsi >= 8 else _PIC_MASTER, gsi % 8))
        pins.append(_PIN_ENTRY.pack(gsi, _ROUTE_TO_PIN, 0, 0, _IOAPIC, 2 if gsi == 0 else gsi))
    return pins


class Line:
    """One GSI: its route goes to `message`, its irqfd is on `eventfd`. Made and ended by its Routing."""

    __slots__ = ("entry", "eventfd", "gsi", "message")

    def __init__(self, gsi: int, eventfd: int, message: Message) -> None:
        """Keeps the facts; Routing does the work."""
        self.gsi = gsi
        self.eventfd = eventfd
        self.message = message
        self.entry = 0


class Routing:
    """The GSI allocator, the routing table and the irqfds of one VM.

    A route is in the table before its irqfd is assigned and leaves it after the irqfd is off: the other order has
    panicked hosts (cloud-hypervisor#3827).

    Threads: any thread may call any method. One lock guards everything; it is held over the kernel calls.
    """

    def __init__(self, vm: Vm, limit: int) -> None:
        """Starts with no line.

        Args:
            vm: The VM whose table this is; nobody else may set it.
            limit: How many entries and GSIs the kernel takes (KVM_CAP_IRQ_ROUTING).
        """
        self._vm = vm
        self._lock = threading.Lock()
        self._pins = _pc_pins() if vm.irqchip == "pc" else []
        self._limit = limit
        self._next_gsi = 24 if self._pins else 0
        self._free_gsis: list[int] = []
        self._lines: list[Line] = []
        self._table = bytearray()

    def update(
        self, connect: Sequence[tuple[int, Message]], retarget: Sequence[tuple[Line, Message]] = ()
    ) -> list[Line]:
        """Connects eventfds to new GSIs and sends existing lines elsewhere, by one table update; all or nothing.

        Args:
            connect: Pairs of eventfd and message.
            retarget: Pairs of a line of this table and its new message.

        Returns:
            The new lines, in the order of `connect`.

        Raises:
            OSError: ENOSPC: no GSI is left; EBUSY: an eventfd has an irqfd already; or what the kernel answered.
        """
        with self._lock:
            lines = self._allocate(connect)
            before = [(line, line.message) for line, message in retarget if line.message != message]
            try:
                self._retarget(retarget)
                if lines or before:
                    self._commit()
                self._assign(lines)
            except BaseException:
                self._retarget(before)
                self._free(lines)
                if self._table:
                    self._commit()
                raise
            return lines

    def disconnect(self, lines: Sequence[Line]) -> None:
        """Takes the irqfds off, then the routes, then frees the GSIs."""
        with self._lock:
            for line in lines:
                self._vm.deassign_irqfd(line.eventfd, line.gsi)
            self._free(lines)
            if lines:
                with contextlib.suppress(OSError):  # no memory: an end goes on, the next update takes the routes away
                    self._commit()

    def _allocate(self, connect: Sequence[tuple[int, Message]]) -> list[Line]:
        entries = len(self._pins) + len(self._lines) + len(connect)
        unused = self._limit - self._next_gsi
        if entries > self._limit or len(connect) > unused + len(self._free_gsis):
            raise OSError(
                errno.ENOSPC,
                f"the guest's GSIs are used up: {len(self._lines)} are connected, {len(connect)} more do not fit "
                f"into the kernel's table of {self._limit}",
            )
        if not self._table:
            self._make_table()
        lines = []
        for eventfd, message in connect:
            if self._free_gsis:
                gsi = self._free_gsis.pop()
            else:
                gsi = self._next_gsi
                self._next_gsi += 1
            line = Line(gsi, eventfd, message)
            line.entry = len(self._lines)
            self._write(line)
            # After its entry is written: a signal's exception in between leaves no entry that KVM would refuse.
            self._lines.append(line)
            lines.append(line)
        return lines

    def _make_table(self) -> None:
        self._table = bytearray(_HEADER.size + self._limit * _MSI_ENTRY.size)
        for index, pin in enumerate(self._pins):
            start = _HEADER.size + index * _PIN_ENTRY.size
            self._table[start : start + _PIN_ENTRY.size] = pin

    def _write(self, line: Line) -> None:
        start = _HEADER.size + (len(self._pins) + line.entry) * _MSI_ENTRY.size
        _MSI_ENTRY.pack_into(self._table, start, line.gsi, _ROUTE_TO_MSI, 0, 0, *line.message)

    def _retarget(self, changes: Sequence[tuple[Line, Message]]) -> None:
        for line, message in changes:
            line.message = message
            self._write(line)

    def _commit(self) -> None:
        _HEADER.pack_into(self._table, 0, len(self._pins) + len(self._lines), 0)
        self._vm.set_gsi_routing(ffi.from_buffer(self._table))

    def _assign(self, lines: Sequence[Line]) -> None:
        for done, line in enumerate(lines):
            try:
                self._vm.assign_irqfd(line.eventfd, line.gsi)
            except BaseException:
                for assigned in lines[:done]:
                    self._vm.deassign_irqfd(assigned.eventfd, assigned.gsi)
                raise

    def _free(self, lines: Sequence[Line]) -> None:
        for line in lines:
            last = self._lines.pop()
            if last is not line:
                last.entry = line.entry
                self._lines[line.entry] = last
                self._write(last)
            self._free_gsis.append(line.gsi)
