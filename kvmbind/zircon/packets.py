"""The packets of a port that come from users and from signals, in their order."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from kvmbind.abi.errors import BadHandleError, NoMemoryError, ShouldWaitError
from kvmbind.kvm.eventfd import EventFd

if TYPE_CHECKING:
    from kvmbind.zircon.handles import Entry
    from kvmbind.zircon.waits import AsyncWait

PENDING_MAX = 2048
WAITS_MAX = 16384


class PacketQueue:
    """Packets, and an EFD_SEMAPHORE eventfd that counts them.

    An async wait has promised its packet from the moment it begins until the packet is taken: there is always room for
    it, and it counts for PENDING_MAX only when it is there.

    Threads: any thread may use it. Its lock is taken behind all others; the port's `lock` orders those who take.
    """

    __slots__ = ("_is_closed", "_lock", "_packets", "_promised", "eventfd")

    def __init__(self) -> None:
        """Starts empty.

        Raises:
            OSError: No fd is left.
        """
        self.eventfd = EventFd.create(semaphore=True)
        self._lock = threading.Lock()
        self._packets: deque[tuple[bytes, AsyncWait | None]] = deque()
        self._promised: set[AsyncWait] = set()
        self._is_closed = False

    def put(self, call: str, packet: bytes) -> None:
        """Adds a user's packet.

        Raises:
            ShouldWaitError: More than PENDING_MAX packets wait.
        """
        with self._lock:
            if len(self._packets) > PENDING_MAX:
                raise ShouldWaitError(call, f"{len(self._packets)} packets wait: take some first")
            self._packets.append((packet, None))
            self.eventfd.add()

    def promise(self, call: str, wait: AsyncWait) -> None:
        """Keeps room for the packet of a wait.

        Raises:
            NoMemoryError: WAITS_MAX packets are promised, there already or to come.
            BadHandleError: The port was closed in this moment.
        """
        with self._lock:
            if self._is_closed:
                raise BadHandleError(call, "the port was closed at the same time")
            if len(self._promised) >= WAITS_MAX:
                raise NoMemoryError(call, f"the port has {WAITS_MAX} waits: take their packets or cancel some")
            self._promised.add(wait)

    def put_promised(self, packet: bytes, wait: AsyncWait) -> None:
        """Adds the packet of a wait, unless the port was closed."""
        with self._lock:
            if wait in self._promised:
                self._packets.append((packet, wait))
                self.eventfd.add()

    def expects(self, wait: AsyncWait) -> bool:
        """Tells whether the packet of a wait is there or to come."""
        with self._lock:
            return wait in self._promised

    def forget(self, wait: AsyncWait) -> None:
        """Expects the packet of a wait no more."""
        with self._lock:
            self._promised.discard(wait)

    def take(self) -> bytes | None:
        """Returns the packet that has been there for longest, if there is one."""
        with self._lock:
            if not self._packets:
                return None
            self.eventfd.drain()
            packet, wait = self._packets.popleft()
            if wait is not None:
                self._promised.discard(wait)
            return packet

    def cancel(self, entry: Entry, key: int) -> set[AsyncWait]:
        """Takes back what the waits by way of a handle with a key have promised; returns those waits."""
        with self._lock:
            canceled = {wait for wait in self._promised if wait.entry is entry and wait.key == key}
            self._promised -= canceled
            left = deque(queued for queued in self._packets if queued[1] is None or queued[1] in self._promised)
            for _ in range(len(self._packets) - len(left)):
                self.eventfd.drain()
            self._packets = left
            return canceled

    def end(self) -> list[AsyncWait]:
        """Drops the packets and takes no more; returns the waits that had promised one.

        The eventfd stays readable from now on: every thread that sleeps on it sees the end.
        """
        with self._lock:
            self._is_closed = True
            waits = list(self._promised)
            self._promised.clear()
            self._packets.clear()
            self.eventfd.add()
            return waits

    def close(self) -> None:
        """Closes the eventfd, after `end`."""
        self.eventfd.close()
