"""The fds that kvmbind owns: closed when nobody refers to them any more, and in a forked child."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from kvmbind._shim import ffi, lib
from kvmbind.kvm.calls import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind._shim import CData, Ints

#: Held from before an fd is made until it is adopted, and from before it is disowned until it is closed. A fork waits
#: for it: a child would keep a VM alive by a copy that it does not know of.
lock = threading.RLock()

#: Where each open fd is stored, and the C object that this is a part of.
_owned: dict[Ints, CData] = {}


def adopt(slot: Ints, owner: CData) -> None:
    """Records that the fd stored at `slot`, a part of `owner`, is kvmbind's."""
    _owned[slot] = owner


def disown(slot: Ints) -> None:
    """Forgets the fd at `slot`, which is about to be closed."""
    _owned.pop(slot, None)


class Descriptor:
    """An open fd of its own. It is closed by `close`, or when nobody refers to the object any more.

    The shim stores the fd in memory that the object owns, and closes it from there: a signal handler may raise between
    any two steps of Python, also between the call that makes an fd and the step that would keep it.

    Threads: any thread may use `fd`. The owner closes it when nobody is inside a call on it.
    """

    __slots__ = ("_slot", "fd")

    def __init__(self, call: str, make: Callable[[Ints], int]) -> None:
        """Makes the fd.

        Args:
            call: Named in the error.
            make: Calls a function of the shim that stores a new fd in what it is given; returns its result.

        Raises:
            OSError: What the kernel answered.
        """
        slot = ffi.new("int[]", (-1,))
        self._slot = ffi.gc(slot, lib.kb_close)
        with lock:
            check(make(slot), call)
            adopt(slot, slot)
            self.fd = slot[0]

    def close(self) -> None:
        """Closes the fd."""
        with lock:
            disown(self._slot)
            lib.kb_close(self._slot)


def close_all_in_child() -> None:
    """Closes every owned fd: in a forked child they refuse all work, and keep the parent's guests alive."""
    while _owned:
        lib.kb_close(_owned.popitem()[0])


os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
