"""An epoll fd."""

from __future__ import annotations

import contextlib
import os
import select
import weakref

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

    def close(self) -> None:
        """Closes the epoll fd."""
        self._epoll.close()


def _after_fork() -> None:
    # Not by way of the descriptors: Python's object would close the same number once more when it is collected.
    for epoll in list(_open):
        epoll.close()


os.register_at_fork(after_in_child=_after_fork)
