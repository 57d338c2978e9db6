"""The socket that gdb connects to."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from typing import TYPE_CHECKING

from kvmbind.machine.gdb.debugger import Debugger
from kvmbind.machine.gdb.probe import probe

if TYPE_CHECKING:
    from typing import Self

    from kvmbind.machine.pc import Pc

_READ_SIZE = 0x4000
_SEND_LIMIT_S = 5.0  # a client that takes nothing for so long is gone
_LINGER_S = 1.0


class Server:
    """Listens for gdb, one client at a time, and hands what it sends to the VCPU's thread.

    Its thread sleeps in poll: a machine that runs under it costs nothing. The next client waits until this one is gone.

    Threads: making and closing it may be done by any thread. Sockets of clients are read by its thread and written by
    the VCPU's, which closes them too; what is left is closed by `close`, when that thread does not run any more.
    """

    def __init__(self, pc: Pc, host: str, port: int) -> None:
        """Makes the PC wait for gdb before its first instruction, and listens.

        Args:
            pc: A PC that does not run yet.
            host: Name or address to listen at. Whoever can connect there owns the guest.
            port: 0 is one that is free.

        Raises:
            OSError: It cannot listen there; or there is no KVM.
            ZxError: KVM failed.
        """
        self._pc = pc
        self._client: socket.socket | None = None
        self._is_taken = True  # what the client has sent so far
        self._is_closing = False
        self._debugger = Debugger(pc, probe())
        with contextlib.ExitStack() as parts:
            self._listener = parts.enter_context(_listen(host, port))
            self._wake_fd = os.eventfd(0)
            parts.callback(os.close, self._wake_fd)
            self.address: tuple[str, int] = self._listener.getsockname()[:2]
            self._thread = threading.Thread(target=self._serve, name="kvmbind-gdb", daemon=True)
            self._thread.start()
            self._parts = parts.pop_all()
        pc.supervisor = self._debugger

    def _serve(self) -> None:
        while not self._is_closing:
            ready = self._wait()
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
            client = self._client
            if client is not None and client.fileno() in ready:
                self._read(client)
            if self._listener.fileno() in ready:
                self._accept()

    def _wait(self) -> list[int]:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        if self._client is None:
            poll.register(self._listener, select.POLLIN)
        elif self._is_taken:
            poll.register(self._client, select.POLLIN)
        return [fd for fd, _ in poll.poll()]

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it was gone again
            return
        client.settimeout(_SEND_LIMIT_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client
        self._pc.post(lambda: self._debugger.connect(lambda data: _send(client, data)))

    def _read(self, client: socket.socket) -> None:
        try:
            data = client.recv(_READ_SIZE)
        except OSError:
            data = b""
        self._is_taken = False
        self._pc.post(lambda: self._take(client, data))

    def _take(self, client: socket.socket, data: bytes) -> None:
        """On the VCPU's thread."""
        try:
            if data:
                self._debugger.receive(data)
            else:
                self._debugger.disconnect()
                self._client = None
                client.close()
        finally:
            self._is_taken = True
            self._wake()

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Ends its thread and hangs up. The PC does not run any more."""
        self._is_closing = True
        self._wake()
        self._thread.join()
        if self._client is not None:
            _hang_up(self._client)
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family)


def _send(client: socket.socket, data: bytes) -> None:
    try:
        client.sendall(data)
    except OSError:
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # its reader sees the end


def _hang_up(client: socket.socket) -> None:
    """Closes a connection behind what was sent: with bytes unread, close would reset it, and they would be lost."""
    with client, contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        client.settimeout(_LINGER_S)
        while client.recv(_READ_SIZE):
            pass
