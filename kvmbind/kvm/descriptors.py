"""The fds that kvmbind owns, so that a forked child can close its copies of them."""

from __future__ import annotations

import contextlib
import os
import threading

#: Held from before an fd is made until it is adopted, and from before it is disowned until it is closed. A fork waits
#: for it: a child would keep a VM alive by a copy that it does not know of.
lock = threading.RLock()

_owned: set[int] = set()


def adopt(fd: int) -> int:
    """Records that `fd` is kvmbind's and returns it."""
    _owned.add(fd)
    return fd


def disown(fd: int) -> None:
    """Forgets `fd`, which is about to be closed."""
    _owned.discard(fd)


def close(fd: int) -> None:
    """Closes an owned fd."""
    with lock:
        disown(fd)
        os.close(fd)


def close_all_in_child() -> None:
    """Closes every owned fd: in a forked child they refuse all work, and keep the parent's guests alive."""
    while _owned:
        with contextlib.suppress(OSError):
            os.close(_owned.pop())


os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
