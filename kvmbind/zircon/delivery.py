"""Delivery of one interrupt to the VCPUs it is bound to: a GSI, a route and an irqfd for each APIC cluster."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, NamedTuple

from kvmbind._shim import ffi, lib
from kvmbind.abi.errors import AlreadyBoundError, InvalidArgsError, NotSupportedError, from_os_error
from kvmbind.kvm import msi
from kvmbind.kvm.calls import check
from kvmbind.kvm.eventfd import EventFd
from kvmbind.zircon import level
from kvmbind.zircon.locks import holding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvmbind._shim import Ints
    from kvmbind.kvm.ioapic import Input
    from kvmbind.kvm.msi import Message
    from kvmbind.kvm.routing import Line
    from kvmbind.zircon.guest import GuestDispatcher
    from kvmbind.zircon.interrupt import InterruptDispatcher
    from kvmbind.zircon.vcpu import VcpuDispatcher

CALL = "zx_interrupt_bind_vcpu"
_EXTRA_CLUSTERS = 255


class Cluster:
    """The bound VCPUs of one APIC cluster, which one message reaches."""

    __slots__ = ("eventfd", "input", "line", "mask", "number")

    def __init__(self, number: int, eventfd: EventFd) -> None:
        """Starts with no VCPU."""
        self.number = number
        self.eventfd = eventfd
        self.mask = 0
        self.line: Line | None = None
        self.input: Input | None = None  # of a level interrupt, in place of a line


class Delivery:
    """Where one interrupt goes. It exists from the first bind on and holds the VCPUs until `close`.

    Threads: the interrupt's `change` lock guards everything; triggers never come here.
    """

    __slots__ = ("clusters", "extra", "guest", "vcpus")

    def __init__(self, guest: GuestDispatcher) -> None:
        """Starts with no VCPU of this guest."""
        self.guest = guest
        self.vcpus: list[VcpuDispatcher] = []
        self.clusters: dict[int, Cluster] = {}
        self.extra: Ints | None = None

    def close(self) -> None:
        """Takes the irqfds off, then the routes, frees the GSIs, closes the eventfds of further clusters."""
        clusters = list(self.clusters.values())
        self.guest.routing.disconnect([cluster.line for cluster in clusters if cluster.line is not None])
        for cluster in clusters:
            if cluster.input is not None:
                level.disconnect(self.guest, cluster.input)
        for cluster in clusters[1:]:
            cluster.eventfd.close()
        self.clusters.clear()


class _Change(NamedTuple):
    """What binding does to one cluster of one interrupt."""

    interrupt: InterruptDispatcher
    delivery: Delivery
    cluster: Cluster
    mask: int

    @property
    def message(self) -> Message:
        """The message that reaches the VCPUs of `mask`."""
        vector = self.interrupt.vector
        if self.mask & (self.mask - 1):
            lowest = self.interrupt.lowest_priority
            return msi.logical(self.cluster.number, self.mask, vector, lowest_priority=lowest)
        return msi.physical(self.apic_id, vector)

    @property
    def apic_id(self) -> int:
        """Of the VCPU, where it is but one."""
        return self.cluster.number * msi.CLUSTER_SIZE + self.mask.bit_length() - 1


def bind(guest: GuestDispatcher, pairs: Iterable[tuple[InterruptDispatcher, VcpuDispatcher]]) -> None:
    """Binds interrupts to VCPUs of one guest by one table update; all of them or none.

    Args:
        guest: The guest of the VCPUs; the caller holds it.
        pairs: Which to which; the caller holds all of them.

    Raises:
        CanceledError: An interrupt was destroyed.
        AlreadyBoundError: An interrupt is bound to a port, or its eventfd has an irqfd already.
        InvalidArgsError: An interrupt is bound to VCPUs of another guest, or has a vector below 16.
        BadStateError: A thread waits for an interrupt; or it is a level interrupt and a VCPU has been entered.
        NotSupportedError: A physical interrupt would need a second cluster; or lowest priority across clusters; or a
            level interrupt a second VCPU, or an IOAPIC that the guest does not have.
        NoResourcesError: GSIs or fds are used up.
    """
    wanted: dict[int, tuple[InterruptDispatcher, list[VcpuDispatcher]]] = {}
    for interrupt, vcpu in pairs:
        wanted.setdefault(interrupt.koid, (interrupt, []))[1].append(vcpu)
    locks = [wanted[koid][0].change for koid in sorted(wanted)]
    holding(locks, lambda: _bind_locked(guest, list(wanted.values())))


def _bind_locked(guest: GuestDispatcher, wanted: list[tuple[InterruptDispatcher, list[VcpuDispatcher]]]) -> None:
    changes: list[_Change] = []
    new_vcpus: list[tuple[Delivery, VcpuDispatcher]] = []
    try:
        for interrupt, vcpus in wanted:
            interrupt.require_bindable(guest)
            delivery = interrupt.delivery or Delivery(guest)
            fresh = [vcpu for vcpu in dict.fromkeys(vcpus) if vcpu not in delivery.vcpus]
            if not fresh:
                continue
            if interrupt.vector < msi.VECTOR_MIN:
                raise InvalidArgsError(CALL, f"vector {interrupt.vector} is below 16: no local APIC takes it")
            if interrupt.source.eoi is not None:
                level.require_bindable(CALL, guest, [*delivery.vcpus, *fresh])
            changes += _plan(interrupt, delivery, fresh)
            for vcpu in fresh:
                vcpu.hold()
                new_vcpus.append((delivery, vcpu))
        _connect(guest, changes)
    except BaseException:
        for change in changes:
            if change.cluster.line is None and change.cluster.eventfd is not change.interrupt.eventfd:
                change.cluster.eventfd.close()
        for _, vcpu in new_vcpus:
            vcpu.drop()
        raise
    for change in changes:
        change.cluster.mask = change.mask
        change.delivery.clusters[change.cluster.number] = change.cluster
    for delivery, vcpu in new_vcpus:
        delivery.vcpus.append(vcpu)
    for interrupt, delivery in {
        change.interrupt.koid: (change.interrupt, change.delivery) for change in changes
    }.values():
        interrupt.deliver_to(delivery)


def _plan(interrupt: InterruptDispatcher, delivery: Delivery, vcpus: list[VcpuDispatcher]) -> list[_Change]:
    masks: dict[int, int] = {}
    for vcpu in vcpus:
        number, bit = divmod(vcpu.apic_id, msi.CLUSTER_SIZE)
        masks[number] = masks.get(number, 0) | 1 << bit
    numbers = list(dict.fromkeys([*delivery.clusters, *masks]))
    if len(numbers) > 1 and interrupt.lowest_priority:
        raise NotSupportedError(CALL, "lowest priority reaches the VCPUs of one cluster of 16 only")
    if len(numbers) > 1 and not interrupt.virtual:
        raise NotSupportedError(CALL, "a physical interrupt reaches the VCPUs of one cluster of 16 only")
    changes = []
    try:
        for number in numbers:
            if number not in masks:
                continue
            cluster = delivery.clusters.get(number)
            if cluster is None:
                first = number == numbers[0]
                cluster = Cluster(number, interrupt.eventfd if first else EventFd.create())
            changes.append(_Change(interrupt, delivery, cluster, cluster.mask | masks[number]))
    except OSError as error:
        for change in changes:
            if change.cluster.line is None and change.cluster.eventfd is not interrupt.eventfd:
                change.cluster.eventfd.close()
        raise from_os_error(CALL, error) from error
    return changes


def _connect(guest: GuestDispatcher, changes: list[_Change]) -> None:
    try:
        with contextlib.ExitStack() as undo:
            for change in changes:
                if change.interrupt.source.eoi is not None:
                    connected = level.connect(CALL, guest, change.interrupt, change.apic_id)
                    undo.callback(level.disconnect, guest, connected)
                    change.cluster.input = connected
            _connect_edges(guest, [change for change in changes if change.interrupt.source.eoi is None])
            undo.pop_all()
    except OSError as error:
        if error.errno == errno.EBUSY:
            hint = "its eventfd is bound already, here or in another guest"
            raise AlreadyBoundError(CALL, hint) from error
        raise from_os_error(CALL, error) from error


def _connect_edges(guest: GuestDispatcher, changes: list[_Change]) -> None:
    new = [change for change in changes if change.cluster.line is None]
    old = [(change.cluster.line, change.message) for change in changes if change.cluster.line is not None]
    lines = guest.routing.update([(change.cluster.eventfd.fd, change.message) for change in new], old)
    for change, line in zip(new, lines, strict=True):
        change.cluster.line = line


def arm(interrupt: InterruptDispatcher, delivery: Delivery, armed: int) -> int:
    """Lets triggers write the eventfds of all clusters, of which `armed` are written already."""
    trigger = interrupt.guard
    for place, cluster in enumerate(delivery.clusters.values()):
        if place < armed:
            continue
        if place == 0:
            check(lib.kb_trigger_arm(trigger, cluster.eventfd.fd), "arming")
            continue
        if delivery.extra is None:
            delivery.extra = trigger.extra = ffi.new("int[]", _EXTRA_CLUSTERS)
        check(lib.kb_trigger_add(trigger, cluster.eventfd.fd), "arming")
    return len(delivery.clusters)


def repeat(delivery: Delivery, first: int) -> None:
    """Writes the eventfds of the clusters from the `first` on: the trigger that the bind delivers is for all."""
    for cluster in list(delivery.clusters.values())[first:]:
        cluster.eventfd.add()
