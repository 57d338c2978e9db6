"""Waiting for signals: asleep in the kernel, or by a packet to a port."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from kvmbind.abi.constants import (
    ZX_PKT_TYPE_SIGNAL_ONE,
    ZX_SIGNAL_HANDLE_CLOSED,
    ZX_WAIT_ASYNC_EDGE,
    ZX_WAIT_ASYNC_TIMESTAMP,
)
from kvmbind.abi.errors import CanceledError, InvalidArgsError, NotFoundError, TimedOutError, from_os_error
from kvmbind.kvm.calls import NEVER
from kvmbind.kvm.eventfd import EventFd, wait_readable

if TYPE_CHECKING:
    from kvmbind.zircon.dispatcher import Dispatcher
    from kvmbind.zircon.handles import Entry
    from kvmbind.zircon.packets import PacketQueue
    from kvmbind.zircon.port import PortDispatcher
    from kvmbind.zircon.signals import Observer, Signals

_SIGNAL_PACKET = struct.Struct("<QIiIIQQ8x")


class Waiter:
    """A thread that sleeps until a signal that it wants is there. It is an observer."""

    __slots__ = ("_wanted", "entry", "is_canceled", "is_satisfied", "observed", "wake")

    def __init__(self, entry: Entry, wanted: int) -> None:
        """Wants any of these signals, seen by way of this handle."""
        self.entry = entry
        self._wanted = wanted
        self.observed = 0
        self.is_satisfied = False
        self.is_canceled = False
        self.wake: EventFd | None = None

    def see(self, value: int, risen: int) -> bool:
        """Notes all signals, and wakes the thread if one that it wants is there."""
        self.observed |= value
        self.is_satisfied = bool(value & self._wanted)
        if self.is_satisfied:
            self._wake()
        return self.is_satisfied

    def lose(self, value: int) -> None:
        """Wakes the thread."""
        self.observed |= value | ZX_SIGNAL_HANDLE_CLOSED
        self.is_canceled = True
        self._wake()

    def _wake(self) -> None:
        assert self.wake is not None
        self.wake.add()


class Seats:
    """The eventfds on which threads sleep that wait for one object's signals; each serves one waiter after another.

    They stay as long as the object: a wait makes no fd that a Ctrl-C could leave behind.

    Threads: the lock of the object's signals guards everything.
    """

    __slots__ = ("_waiters", "_wakes")

    def __init__(self) -> None:
        """Starts with none."""
        self._wakes: list[EventFd] = []
        self._waiters: list[Waiter | None] = []

    def take(self, waiter: Waiter) -> EventFd:
        """Gives a waiter an eventfd with no count."""
        if None not in self._waiters:
            self._wakes.append(EventFd.create())
            self._waiters.append(None)
        place = self._waiters.index(None)
        wake = waiter.wake = self._wakes[place]
        wake.drain()
        self._waiters[place] = waiter
        return wake

    def leave(self, waiter: Waiter) -> None:
        """Takes it back, if there is one."""
        if waiter in self._waiters:
            self._waiters[self._waiters.index(waiter)] = None

    def close(self) -> None:
        """Closes them; nobody waits any more."""
        while self._wakes:
            self._wakes.pop().close()


def wait_one(obj: Dispatcher, entry: Entry, wanted: int, deadline_ns: int = NEVER) -> int:
    """Sleeps until an object has one of the signals that are wanted.

    Args:
        obj: The object.
        entry: The handle by way of which to wait.
        wanted: ZX_*_SIGNAL_* bits; with none of them the wait lasts until the deadline.
        deadline_ns: CLOCK_MONOTONIC; a signal that is there already counts even if it has passed.

    Returns:
        All signals that were seen meanwhile.

    Raises:
        NotSupportedError: The object is of a type that cannot be waited for.
        TimedOutError: The deadline came; `observed` has what was seen.
        CanceledError: The handle was closed; `observed` has ZX_SIGNAL_HANDLE_CLOSED and what was seen.
        BadHandleError: The handle was closed before the wait.
        ZxError: No fd is left.
    """
    call = "zx_object_wait_one"
    signals = obj.waitable_signals(call)
    waiter = Waiter(entry, wanted)
    with obj:
        value = signals.value
        if value & wanted:
            return value
        try:
            _sleep(call, obj.seats, signals, waiter, deadline_ns)
        finally:
            with signals.lock:
                signals.ignore({waiter})
                obj.seats.leave(waiter)
    if waiter.is_satisfied:
        return waiter.observed
    if waiter.is_canceled:
        raise CanceledError(call, "the handle was closed", observed=waiter.observed)
    raise TimedOutError(call, "none of the signals came before the deadline", observed=waiter.observed)


def _sleep(call: str, seats: Seats, signals: Signals, waiter: Waiter, deadline_ns: int) -> None:
    try:
        with signals.lock:
            wake = seats.take(waiter)
    except OSError as error:
        raise from_os_error(call, error) from error
    signals.watch(waiter)
    wait_readable(wake.fd, deadline_ns=deadline_ns)


class AsyncWait:
    """What zx_object_wait_async leaves behind: one packet to come. It is an observer."""

    __slots__ = ("_is_edge", "_is_timestamped", "_packets", "_wanted", "entry", "key", "signals")

    def __init__(
        self, packets: PacketQueue, signals: Signals, entry: Entry, key: int, wanted: int, options: int
    ) -> None:
        """Keeps the facts."""
        self.entry = entry
        self.key = key
        self.signals = signals
        self._packets = packets
        self._wanted = wanted
        self._is_edge = bool(options & ZX_WAIT_ASYNC_EDGE)
        self._is_timestamped = bool(options & ZX_WAIT_ASYNC_TIMESTAMP)

    def see(self, value: int, risen: int) -> bool:
        """Queues its packet if a signal that it wants is there, or by EDGE has come."""
        if not (risen if self._is_edge else value) & self._wanted:
            return False
        now_ns = time.monotonic_ns() if self._is_timestamped else 0
        packet = _SIGNAL_PACKET.pack(self.key, ZX_PKT_TYPE_SIGNAL_ONE, 0, self._wanted, value, 1, now_ns)
        self._packets.put_promised(packet, self)
        return True

    def lose(self, value: int) -> None:
        """No packet comes."""
        self._packets.forget(self)


def wait_async(port: PortDispatcher, obj: Dispatcher, entry: Entry, key: int, wanted: int, options: int) -> None:
    """Sends one packet to a port when an object has one of the signals that are wanted.

    Args:
        port: Whose packet it is.
        obj: The object.
        entry: The handle by way of which to wait: closing it ends the wait.
        key: 64 bits, given back in the packet.
        wanted: ZX_*_SIGNAL_* bits.
        options: ZX_WAIT_ASYNC_TIMESTAMP: the packet says when; ZX_WAIT_ASYNC_EDGE: signals that are there already do
            not count before they have been cleared.

    Raises:
        NotSupportedError: The object is of a type that cannot be waited for.
        InvalidArgsError: `options` has others.
        NoMemoryError: The port has too many waits whose packets have not been read.
        BadHandleError: The handle or the port was closed in this moment.
    """
    call = "zx_object_wait_async"
    signals = obj.waitable_signals(call)
    if options & ~(ZX_WAIT_ASYNC_TIMESTAMP | ZX_WAIT_ASYNC_EDGE):
        raise InvalidArgsError(call, f"options {options:#x} are unknown")
    wait = AsyncWait(port.packets, signals, entry, key, wanted, options)
    port.packets.promise(call, wait)
    try:
        signals.watch(wait)
    except BaseException:
        port.packets.forget(wait)
        raise
    if not port.packets.expects(wait):  # closed in this moment, or the packet was read already
        with signals.lock:
            signals.ignore({wait})


def cancel(port: PortDispatcher, obj: Dispatcher, entry: Entry, key: int) -> None:
    """Ends the async waits to a port that were made by way of a handle with a key, and takes their packets back.

    Raises:
        NotSupportedError: The object is of a type that cannot be waited for.
        NotFoundError: There is none.
    """
    call = "zx_port_cancel"
    signals = obj.waitable_signals(call)
    with signals.lock:
        canceled = port.packets.cancel(entry, key)
        signals.ignore(canceled)
    if not canceled:
        raise NotFoundError(call, f"no wait by way of this handle has key {key:#x}")


def end(waits: list[AsyncWait]) -> None:
    """Ends the waits of a port that is closed."""
    watched: dict[Signals, set[Observer]] = {}
    for wait in waits:
        watched.setdefault(wait.signals, set()).add(wait)
    for signals, ended in watched.items():
        with signals.lock:
            signals.ignore(ended)
