"""The signals of an object, and who watches them."""

from __future__ import annotations

import threading
from operator import index
from typing import TYPE_CHECKING, Protocol

from kvmbind.abi.constants import ZX_USER_SIGNAL_ALL
from kvmbind.abi.errors import BadHandleError, InvalidArgsError

if TYPE_CHECKING:
    from collections.abc import Set

    from kvmbind.zircon.handles import Entry


class Observer(Protocol):
    """Who watches an object's signals by way of one of its handles. Its methods are called under the signals' lock."""

    @property
    def entry(self) -> Entry:
        """The handle."""

    def see(self, value: int, risen: int) -> bool:
        """Is told of the signals, and which of them have just been set; returns whether it has seen enough."""

    def lose(self, value: int) -> None:
        """Is told that its handle was closed, and of the signals at that moment; it is told nothing more."""


class Signals:
    """An object's signals.

    Threads: `lock` guards everything; `value` may be read without it. It is taken behind a port's `lock` and an
    interrupt's `state_lock`, and before the lock of a port's packets, into which observers put theirs.
    """

    __slots__ = ("_observers", "lock", "value")

    def __init__(self, value: int) -> None:
        """Starts with these set, and with no observer."""
        self.lock = threading.Lock()
        self.value = value
        self._observers: list[Observer] = []

    def signal(self, clear: int, set_: int) -> None:
        """Clears signals and then sets others, for a user.

        Raises:
            InvalidArgsError: One of them is not a user's: ZX_USER_SIGNAL_0 to _7.
        """
        if (index(clear) | index(set_)) & ~ZX_USER_SIGNAL_ALL:
            raise InvalidArgsError("zx_object_signal", "only ZX_USER_SIGNAL_* may be cleared and set")
        self.update(clear, set_)

    def update(self, clear: int, set_: int) -> None:
        """Clears signals and then sets others, in one step for those who watch."""
        with self.lock:
            before, self.value = self.value, self.value & ~clear | set_
            if self.value != before:
                self._tell(self.value, self.value & ~before)

    def strobe(self, signals: int) -> None:
        """Sets signals and clears them again: who watches sees them, and who looks later does not."""
        with self.lock:
            self._tell(self.value | signals, signals & ~self.value)

    def _tell(self, value: int, risen: int) -> None:
        self._observers = [observer for observer in self._observers if not observer.see(value, risen)]

    def watch(self, observer: Observer) -> None:
        """Tells an observer of the signals now, and of each change until it has seen enough.

        Raises:
            BadHandleError: Its handle was closed in this moment.
        """
        with self.lock:
            if observer.entry.object is None:
                raise BadHandleError("", "the handle was closed at the same time")
            if not observer.see(self.value, 0):
                self._observers.append(observer)

    def ignore(self, observers: Set[Observer]) -> None:
        """Tells these observers nothing more. The caller has `lock`."""
        self._observers = [observer for observer in self._observers if observer not in observers]

    def handle_closed(self, entry: Entry) -> None:
        """Tells those who watch by way of a handle that is closed."""
        with self.lock:
            if not self._observers:
                return
            lost = {observer for observer in self._observers if observer.entry is entry}
            self.ignore(lost)
            for observer in lost:
                observer.lose(self.value)
