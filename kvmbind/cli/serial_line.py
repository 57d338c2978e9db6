"""What the serial port of `kvmbind run` is connected to: stdio, a pseudo-terminal, a file."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Receive = Callable[[bytes], object]

_READ_SIZE = 4096
_LINGER_S, _LOOK_S = 1.0, 0.01


def read_from(fd: int, receive: Receive) -> None:
    """Gives what comes from `fd` to `receive`, on a daemon thread, until its end."""
    thread = threading.Thread(target=_read_all, args=(fd, receive, None), name="kvmbind-serial", daemon=True)
    thread.start()


def _read_all(fd: int, receive: Receive, wake_fd: int | None) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if wake_fd is not None:
        poll.register(wake_fd, select.POLLIN)
    with contextlib.suppress(OSError):  # the other end is gone
        while wake_fd not in [ready for ready, _ in poll.poll()]:
            data = os.read(fd, _READ_SIZE)
            if not data:
                return
            receive(data)


class LogFile:
    """A file that takes what is sent."""

    def __init__(self, path: str) -> None:
        """Makes it anew.

        Raises:
            OSError: It cannot be written.
        """
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def send(self, byte: int) -> None:
        """Takes a byte."""
        os.write(self._fd, bytes((byte,)))

    def close(self) -> None:
        """Closes it."""
        os.close(self._fd)


class PseudoTerminal:
    """A pseudo-terminal whose other side is for another program, as a line of bytes without echo.

    What nobody reads is lost when the kernel's buffer is full: the guest does not wait for it.

    Threads: one sends, and closes it; its own reads.

    Attributes:
        name: Path of the other side.
    """

    def __init__(self, receive: Receive) -> None:
        """Opens it; what comes goes to `receive`, on another thread.

        Raises:
            OSError: There is none left.
        """
        import tty

        with contextlib.ExitStack() as parts:
            self._ours, self._theirs = os.openpty()
            parts.callback(os.close, self._ours)
            parts.callback(os.close, self._theirs)  # kept open: without it a read fails between two programs
            tty.setraw(self._theirs)
            self.name = os.ttyname(self._theirs)
            os.set_blocking(self._ours, False)
            self._wake_fd = os.eventfd(0)
            parts.callback(os.close, self._wake_fd)
            self._reader = threading.Thread(
                target=_read_all, args=(self._ours, receive, self._wake_fd), name="kvmbind-serial", daemon=True
            )
            self._reader.start()
            self._parts = parts.pop_all()

    def send(self, byte: int) -> None:
        """Sends a byte to the other side."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._ours, bytes((byte,)))

    def close(self) -> None:
        """Ends the reader and hangs up, which loses what is unread: so it waits a second at most until it is read."""
        deadline_s = time.monotonic() + _LINGER_S
        while self._has_unread() and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)  # a read on the other side wakes nobody
        os.eventfd_write(self._wake_fd, 1)
        self._reader.join()
        self._parts.close()

    def _has_unread(self) -> bool:
        import fcntl
        import termios

        count = bytearray(4)
        fcntl.ioctl(self._theirs, termios.FIONREAD, count)
        return any(count)
