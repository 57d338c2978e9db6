"""The socket of `kvmbind run --irq-socket`, where other programs get the eventfds of interrupts."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FDS_MAX = 253  # SCM_MAX_FD of linux/include/net/scm.h
_READ_SIZE = 4096
_RETRY_S = 0.1  # after a connection that could not be taken, for want of fds


class IrqSocket:
    """A Unix stream socket: whoever connects is sent one message, and hangs on until this is closed.

    The message is a line with the names of the interrupts, one blank between them, and with it by SCM_RIGHTS an eventfd
    for each, in the same order. A write to one fires that interrupt; the end of the connection says that the machine
    has ended. What a client sends is ignored.

    Threads: one makes and closes it; its own, which sleeps in poll, has the connections.
    """

    def __init__(self, path: str, interrupts: Iterable[tuple[str, int]]) -> None:
        """Makes the socket's file, which only its owner may use, and listens.

        Args:
            path: Of the socket; nothing may be there. `close` removes it.
            interrupts: Names and eventfds, at most 253. The fds are duplicated.

        Raises:
            OSError: It cannot listen there, or no fd is left.
        """
        with contextlib.ExitStack() as parts:
            names, self._fds = [], []
            for name, fd in interrupts:
                names.append(name)
                self._fds.append(os.dup(fd))
                parts.callback(os.close, self._fds[-1])
            self._message = f"{' '.join(names)}\n".encode()
            self._wake_fd = os.eventfd(0)
            parts.callback(os.close, self._wake_fd)
            self._listener = parts.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            self._listener.bind(path)
            parts.callback(_remove, path, os.stat(path).st_ino)
            os.chmod(path, 0o600)  # before anybody can connect
            self._listener.listen()
            self._thread = threading.Thread(target=self._serve, name="kvmbind-irq-socket", daemon=True)
            self._thread.start()
            self._parts = parts.pop_all()

    def _serve(self) -> None:
        clients: dict[int, socket.socket] = {}
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        while self._wake_fd not in (ready := [fd for fd, _ in poll.poll()]):
            for fd in ready:
                if fd == self._listener.fileno():
                    client = self._accept()
                    if client is not None:
                        clients[client.fileno()] = client
                        poll.register(client, select.POLLIN)
                elif _is_gone(clients[fd]):
                    poll.unregister(fd)
                    clients.pop(fd).close()
        for client in clients.values():
            client.close()

    def _accept(self) -> socket.socket | None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            time.sleep(_RETRY_S)
            return None
        try:
            client.setblocking(False)
            socket.send_fds(client, [self._message], self._fds)
        except OSError:  # it is gone, or too many fds are on their way
            client.close()
            return None
        return client

    def close(self) -> None:
        """Removes the file and hangs up."""
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        self._parts.close()


def _is_gone(client: socket.socket) -> bool:
    try:
        return not client.recv(_READ_SIZE)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _remove(path: str, inode: int) -> None:
    """Removes the socket's file, unless another has taken its place."""
    with contextlib.suppress(OSError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)
