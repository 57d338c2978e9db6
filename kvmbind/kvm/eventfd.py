"""An eventfd."""

from __future__ import annotations

import errno
import os

from kvmbind._shim import ffi, lib
from kvmbind.kvm import signals
from kvmbind.kvm.calls import NEVER, check
from kvmbind.kvm.descriptors import Descriptor

READABLE = 1
CANCELED = 2
TIMED_OUT = 0


class EventFd(Descriptor):
    """An eventfd that kvmbind made, or its own duplicate of one that it was given.

    Threads: any thread may call any method. The owner closes it when nobody is inside a call on it.
    """

    __slots__ = ()

    @classmethod
    def create(cls, *, semaphore: bool = False) -> EventFd:
        """Makes one with a count of 0. Writes to it never block."""
        return cls("eventfd", lambda slot: lib.kb_eventfd_open(slot, int(semaphore)))

    @classmethod
    def duplicate(cls, fd: int) -> EventFd:
        """Duplicates `fd`, close-on-exec; the caller's stays open."""
        return cls("fcntl (F_DUPFD_CLOEXEC)", lambda slot: lib.kb_duplicate(slot, fd))

    def add(self, count: int = 1) -> None:
        """Adds to the count. EAGAIN: it is full."""
        check(lib.kb_eventfd_add(self.fd, count), "write (eventfd)")

    def drain(self) -> int:
        """Takes the count without waiting, 0 if there is none. The caller's lock keeps other drains out."""
        count = ffi.new("uint64_t[]", 1)
        check(lib.kb_eventfd_drain(self.fd, count), "preadv2 (eventfd)")
        return count[0]


def wait_readable(fd: int, cancel_fd: int = -1, deadline_ns: int = NEVER) -> int:
    """Sleeps until `fd` is READABLE, `cancel_fd` is (CANCELED), or it is TIMED_OUT; signals are handled meanwhile."""
    signals.install_for_wait()
    while True:
        result = lib.kb_wait_readable(fd, cancel_fd, deadline_ns)
        if result >= 0:
            return result
        if result != -errno.EINTR:  # else Python runs its signal handlers here
            check(result, "ppoll")


def kind_of(fd: int) -> str:
    """Tells from /proc whether `fd` is a "counter" eventfd, a "semaphore" one (since Linux 6.5), or "" if neither.

    Raises:
        OSError: EBADF: it is not open.
    """
    os.fstat(fd)
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii", errors="replace") as info:
        facts = dict(line.rstrip("\n").split(":", 1) for line in info if ":" in line)
    if "eventfd-count" not in facts:
        return ""
    return "semaphore" if facts.get("eventfd-semaphore", "0").strip() == "1" else "counter"
