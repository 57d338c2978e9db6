"""Interrupts: an eventfd, and what its triggers do."""

from __future__ import annotations

import contextlib
import threading
import time
from operator import index
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kvmbind._shim import ffi, lib
from kvmbind.abi.constants import (
    ZX_DEFAULT_INTERRUPT_RIGHTS,
    ZX_OBJ_TYPE_INTERRUPT,
    ZX_VIRTUAL_INTERRUPT_UNTRIGGERED,
)
from kvmbind.abi.errors import (
    AlreadyBoundError,
    BadStateError,
    CanceledError,
    InvalidArgsError,
    NotFoundError,
    TimedOutError,
    from_os_error,
)
from kvmbind.kvm import msi
from kvmbind.kvm.calls import NEVER
from kvmbind.kvm.eventfd import TIMED_OUT, EventFd, wait_readable
from kvmbind.zircon import delivery as deliveries
from kvmbind.zircon.dispatcher import Dispatcher
from kvmbind.zircon.interrupt_state import InterruptState
from kvmbind.zircon.source import Source

if TYPE_CHECKING:
    from kvmbind.zircon.delivery import Delivery
    from kvmbind.zircon.doorbell import Doorbell
    from kvmbind.zircon.guest import GuestDispatcher
    from kvmbind.zircon.port import PortDispatcher
    from kvmbind.zircon.vcpu import VcpuDispatcher

_fire = lib.kb_trigger_fire
_TIME_MIN, _TIME_MAX = -(1 << 63), (1 << 63) - 1


class Taken(NamedTuple):
    """What a port makes an interrupt packet from."""

    key: int
    timestamp_ns: int


class InterruptDispatcher(Dispatcher):
    """An interrupt.

    A count in its eventfd is a trigger that has not been consumed, whoever wrote it. Bound to VCPUs, the kernel
    consumes it.

    Threads: any thread may use it. `change` orders wait's beginning, ack, binds and destroy, and may be held over
    kernel calls that sleep. `state_lock` guards the fields and is held for moments only; an unbound trigger takes it. A
    trigger of an interrupt that is bound to VCPUs takes no lock: the shim counts it in, and destroy waits for the
    count. A waiter sleeps on the eventfd and on `_cancel`, and holds the interrupt; destroy writes `_cancel`.
    """

    __slots__ = (
        "_armed",
        "_cancel",
        "_doorbells",
        "_key",
        "_port",
        "_state",
        "_waiter",
        "change",
        "delivery",
        "eventfd",
        "guard",
        "lowest_priority",
        "source",
        "state_lock",
        "vector",
        "virtual",
    )

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_INTERRUPT
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_INTERRUPT_RIGHTS
    WAITABLE: ClassVar[bool] = True

    def __init__(
        self,
        vector: int,
        *,
        virtual: bool,
        lowest_priority: bool = False,
        level: bool = False,
        source_fd: int | None = None,
    ) -> None:
        """Makes an interrupt.

        Args:
            vector: What guests see, 0 to 255; at least 16 to be bound to a VCPU.
            virtual: Whether `trigger` may fire it; a physical one is fired by writes to its eventfd only.
            lowest_priority: Whether each fire goes to one of the bound VCPUs instead of to all.
            level: Whether its end of interrupt is told: the guest's, that of `ack`, and of a wait that sleeps.
            source_fd: An eventfd to be fired by, duplicated; None makes one.

        Raises:
            InvalidArgsError: No such vector.
            WrongTypeError: source_fd is no eventfd.
            NotSupportedError: source_fd is an EFD_SEMAPHORE.
            ZxError: No fd is left.
        """
        call = "zx_interrupt_create"
        if not 0 <= index(vector) <= msi.VECTOR_MAX:
            raise InvalidArgsError(call, f"vector {vector} is not in 0..255")
        self.source = Source(call, source_fd, level=level)
        self.eventfd = self.source.eventfd
        super().__init__(signals=ZX_VIRTUAL_INTERRUPT_UNTRIGGERED if virtual else 0)
        self.vector = vector
        self.virtual = virtual
        self.lowest_priority = lowest_priority
        self.change = threading.Lock()
        self.state_lock = threading.Lock()
        self.delivery: Delivery | None = None
        self._armed = 0
        self._cancel: EventFd | None = None
        self._doorbells: set[Doorbell] = set()
        self._key = 0
        self._port: PortDispatcher | None = None
        self._state = InterruptState(self.signals if virtual else None)
        self._waiter = False
        self.guard = self.trigger_guard = ffi.new("struct kb_trigger *")

    # Triggers

    def trigger(self, timestamp_ns: int) -> None:
        """Fires it.

        Raises:
            InvalidArgsError: The time does not fit into 64 bits.
            BadStateError: It is physical.
            CanceledError: It was destroyed.
        """
        result = _fire(self.guard)
        while result:
            result = self._trigger_unbound(timestamp_ns)

    def _trigger_unbound(self, timestamp_ns: int) -> int:
        call = "zx_interrupt_trigger"
        if not _TIME_MIN <= index(timestamp_ns) <= _TIME_MAX:
            raise InvalidArgsError(call, f"timestamp {timestamp_ns} does not fit into 64 bits")
        if not self.virtual:
            raise BadStateError(call, "a physical interrupt is fired by its eventfd only")
        with self, self.state_lock:
            if self._state.is_destroyed:
                raise CanceledError(call, "the interrupt was destroyed")
            if not self._armed:
                self._state.trigger(timestamp_ns)
                self.source.write()
                return 0
        return _fire(self.guard)  # bound in this moment

    def _see_outside_writes(self) -> None:
        """Notes what somebody else has written as a trigger of this moment; the eventfd has no count then."""
        if self.source.drain():
            self._state.trigger(time.monotonic_ns())

    # Waiting

    def wait(self, deadline_ns: int = NEVER) -> int:
        """Sleeps until it is triggered.

        Returns:
            When, in ns of CLOCK_MONOTONIC or as the trigger said; the moment it is seen for an outside write.

        Raises:
            BadStateError: It is bound, or another thread waits for it.
            CanceledError: It is destroyed, or its last handle closed, before or meanwhile.
            TimedOutError: The deadline came.
        """
        call = "zx_interrupt_wait"
        mine = False
        with self:
            try:  # a Ctrl-C may be raised at the end of the inner block too
                with self.change, self.state_lock:
                    cancel = self._begin_wait(call)
                    self._waiter = mine = True
                return self._sleep(call, cancel, deadline_ns)
            finally:
                if mine:
                    with self.state_lock:
                        self._waiter = False

    def _begin_wait(self, call: str) -> EventFd:
        if self._port is not None or self.delivery is not None:
            raise BadStateError(call, "it is bound: its packets or its guest have the triggers")
        if self._state.is_destroyed:
            raise CanceledError(call, "the interrupt was destroyed")
        if self._waiter:
            raise BadStateError(call, "another thread waits for it")
        if self._cancel is None:
            try:
                self._cancel = EventFd.create()
            except OSError as error:
                raise from_os_error(call, error) from error
        return self._cancel

    def _sleep(self, call: str, cancel: EventFd, deadline_ns: int) -> int:
        while True:
            with self.state_lock:
                if self._state.is_destroyed:
                    raise CanceledError(call, "the interrupt was destroyed")
                self._see_outside_writes()
                acknowledges = self._state.needs_ack
                timestamp_ns = self._state.take_by_wait()
                if acknowledges and timestamp_ns is None:
                    self.source.end_of_interrupt()
            if timestamp_ns is not None:
                return timestamp_ns
            if wait_readable(self.eventfd.fd, cancel.fd, deadline_ns) == TIMED_OUT:
                raise TimedOutError(call, "it was not triggered before the deadline")

    # A port

    def bind(self, port: PortDispatcher, key: int) -> None:
        """Sends a packet to the port for each trigger from now on, and for one that waits already.

        Raises:
            WrongTypeError: The port takes no interrupts.
            CanceledError: It was destroyed.
            BadStateError: A thread waits for it.
            AlreadyBoundError: It is bound to a port or to a VCPU.
        """
        call = "zx_interrupt_bind"
        with self, port, self.change:
            port.require_interrupts(call)
            with port.lock, self.state_lock:
                self._require_unbound(call)
                try:
                    # Between a wait and an ack no trigger makes a packet: the port is not to look readable for it.
                    port.attach(self, armed=not self._state.needs_ack)
                except OSError as error:
                    raise from_os_error(call, error) from error
                self._port, self._key = port, key
                self._state.bind_port()
            port.hold()

    def unbind(self, port: PortDispatcher) -> None:
        """Sends no more packets, and takes one that waits back; the state stays.

        Raises:
            NotFoundError: It is not bound to this port.
            CanceledError: It was destroyed.
        """
        call = "zx_interrupt_bind"
        with self, self.change:
            with port.lock, self.state_lock:
                if self._port is not port:
                    raise NotFoundError(call, "it is not bound to this port")
                if self._state.is_destroyed:
                    raise CanceledError(call, "the interrupt was destroyed")
                port.detach(self)
                self._port = None
                self._state.unbind_port()
                if self.source.drain():
                    self.source.give_back()
                if self._state.pending_ns is not None:
                    self.source.write()  # of a trigger that no wait, packet or bind has consumed yet
            port.drop()

    def take_packet(self) -> Taken | None:
        """Called by its port, under the port's lock, when its eventfd is readable; that look was the last one."""
        with self.state_lock:
            if not self._state.is_destroyed:
                self._see_outside_writes()
            timestamp_ns = self._state.take_packet()
            if self._state.is_idle and self._port is not None:
                self._port.rearm(self)
            return None if timestamp_ns is None else Taken(self._key, timestamp_ns)

    def drop_packet(self) -> None:
        """Called by its port, under the port's lock, when nobody can read it any more."""
        with self.state_lock:
            self._state.take_packet()

    def ack(self) -> None:
        """Lets the next trigger make a packet; one that came meanwhile makes it now.

        Raises:
            BadStateError: No port is bound; or a second trigger came before the first packet was read.
            CanceledError: It was destroyed.
        """
        call = "zx_interrupt_ack"
        with self, self.change:
            port = self._port
            if port is None:
                raise BadStateError(call, "it is not bound to a port")
            with port.lock, self.state_lock:
                if self._state.is_destroyed:
                    raise CanceledError(call, "the interrupt was destroyed")
                if not self._state.needs_ack:
                    return
                self.source.end_of_interrupt()
                self._see_outside_writes()
                is_sent = self._state.ack()
                if self._state.packet_ns is not None:
                    self.source.write()
                port.rearm(self)
                if not is_sent:
                    raise BadStateError(call, "a second trigger came before the first packet was read; it is dropped")

    # VCPUs

    def bind_vcpu(self, vcpu: VcpuDispatcher) -> None:
        """Delivers each trigger to the VCPU from now on; see `delivery.bind` for errors."""
        with self, vcpu:
            deliveries.bind(vcpu.guest, [(self, vcpu)])

    def require_bindable(self, guest: GuestDispatcher) -> None:
        """Raises what forbids a bind to a VCPU of `guest`. The caller has `change`."""
        with self.state_lock:
            if self.delivery is None or self._state.is_destroyed:
                self._require_unbound(deliveries.CALL)
            elif self.delivery.guest is not guest:
                raise InvalidArgsError(deliveries.CALL, "it is bound to a VCPU of another guest")

    def deliver_to(self, delivery: Delivery) -> None:
        """Sends triggers to `delivery`, which is connected, from now on. The caller has `change`."""
        with self.state_lock:
            first, self.delivery = self.delivery is None, delivery
            if self.virtual:
                before, self._armed = self._armed, deliveries.arm(self, delivery, self._armed)
                if first and self._state.pending_ns is not None:
                    deliveries.repeat(delivery, max(before, 1))
            self._state.hand_over()
            self.source.hand_over()

    def _require_unbound(self, call: str) -> None:
        if self._state.is_destroyed:
            raise CanceledError(call, "the interrupt was destroyed")
        if self._waiter:
            raise BadStateError(call, "a thread is inside zx_interrupt_wait")
        if self._port is not None:
            raise AlreadyBoundError(call, "it is bound to a port")
        if self.delivery is not None:
            raise AlreadyBoundError(call, "it is bound to a VCPU")

    # Doorbells

    def add_doorbell(self, call: str, doorbell: Doorbell) -> None:
        """Keeps a guest's doorbell, to end it first. CanceledError: it was destroyed."""
        with self.state_lock:
            if self._state.is_destroyed:
                raise CanceledError(call, "the interrupt was destroyed")
            self._doorbells.add(doorbell)

    def forget_doorbell(self, doorbell: Doorbell) -> None:
        """Keeps it no more: it has ended."""
        with self.state_lock:
            self._doorbells.discard(doorbell)

    def _end_doorbells(self) -> None:
        with self.state_lock:
            doorbells = list(self._doorbells)
        for doorbell in doorbells:
            doorbell.end()

    # The end

    def destroy(self) -> None:
        """Ends it: it fires no more, and whoever waits for it is CANCELED. Again: nothing.

        Raises:
            NotFoundError: Its packet was read but not acknowledged; it is destroyed all the same.
        """
        with self:
            if not self._end():
                raise NotFoundError("zx_interrupt_destroy", "its packet was read but not acknowledged")

    def _end(self) -> bool:
        with self.change:
            with self._port.lock if self._port is not None else contextlib.nullcontext(), self.state_lock:
                if self._state.is_destroyed:
                    return True
                owed = self._state.destroy()
                if self._port is not None:
                    self._port.detach(self)
                if self._waiter and self._cancel is not None:
                    self._cancel.add()
            self._end_doorbells()
            lib.kb_trigger_retire(self.guard)
            if self.delivery is not None:
                self.delivery.close()
        if self._port is not None:
            self._port.drop()
        if self.delivery is not None:
            for vcpu in self.delivery.vcpus:
                vcpu.drop()
        return not owed

    def on_zero_handles(self) -> None:
        """Destroys it."""
        self._end()

    def _destroy(self) -> None:
        self._end_doorbells()  # there are some if a Ctrl-C cut the end short
        self.source.close()
        if self._cancel is not None:
            self._cancel.close()
