"""An epoll fd."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import weakref

from kvmbind._shim import lib
from kvmbind.kvm import signals
from kvmbind.kvm.calls import NEVER, check

_open: weakref.WeakSet[Epoll] = weakref.WeakSet()


class Epoll:
    """An epoll fd.

    Threads: any thread may call any method; the kernel orders them. The owner closes it when nobody sleeps on it.
    """

    __slots__ = ("__weakref__", "_epoll", "fd")

    def __init__(self) -> None:
        """Makes it, close-on-exec."""
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()
        _open.add(self)

    def watch(self, fd: int) -> None:
        """Looks at `fd` for reading as long as it is there."""
        self._epoll.register(fd, select.EPOLLIN)

    def watch_once(self, fd: int, *, armed: bool = True) -> None:
        """Looks at `fd` until it has been reported once; not armed, from the first `rearm` on."""
        self._epoll.register(fd, select.EPOLLONESHOT | (select.EPOLLIN if armed else 0))

    def rearm(self, fd: int) -> None:
        """Looks at a `watch_once` fd once more."""
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def forget(self, fd: int) -> None:
        """Looks at `fd` no more. An fd must be forgotten before it is closed: duplicates keep it registered."""
        with contextlib.suppress(FileNotFoundError):
            self._epoll.unregister(fd)

    def wait(self, first: Epoll | None = None, deadline_ns: int = NEVER) -> int | None:
        """Sleeps until an fd is readable and returns it, in turn where several are; None at the deadline.

        Args:
            first: Another epoll fd that this one looks at; what is readable there goes first, longest first.
            deadline_ns: CLOCK_MONOTONIC; what is readable already is returned even if it has passed.
        """
        signals.install_for_wait()
        first_fd = -1 if first is None else first.fd
        while True:
            result = lib.kb_wait_epoll(first_fd, self.fd, deadline_ns)
            if result >= 0:
                return result
            if result == -errno.ETIMEDOUT:
                return None
            if result != -errno.EINTR:  # else Python runs its signal handlers here
                check(result, "epoll_pwait2")

    def close(self) -> None:
        """Closes the epoll fd."""
        self._epoll.close()


def _after_fork() -> None:
    # Not by way of the descriptors: Python's object would close the same number once more when it is collected.
    for epoll in list(_open):
        epoll.close()


os.register_at_fork(after_in_child=_after_fork)
