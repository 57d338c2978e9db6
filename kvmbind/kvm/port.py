"""What a port sleeps on: epoll fds, and the bells among those that they look at."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from kvmbind._shim import ffi, lib
from kvmbind.kvm import signals
from kvmbind.kvm.calls import NEVER, check
from kvmbind.kvm.epoll import Epoll

if TYPE_CHECKING:
    from kvmbind._shim import Packet
    from kvmbind.kvm.bell import Bell

#: `Port.wait` has put a bell's packet into place. No fd has this number.
PACKET = lib.KB_PORT_PACKET


class Port:
    """An outer epoll fd, and perhaps an inner one that it looks at, whose fds go before all others.

    Threads: any thread may call any method, and several may wait. The shim's lock guards the bells and orders those who
    take from them. `close` waits for those who sleep: wake them first, by an fd that stays readable.
    """

    __slots__ = ("inner", "outer", "struct")

    def __init__(self, *, inner: bool) -> None:
        """Looks at nothing yet.

        Raises:
            OSError: No fd is left.
        """
        with contextlib.ExitStack() as undo:
            self.outer = Epoll()
            undo.callback(self.outer.close)
            self.inner = None
            if inner:
                self.inner = Epoll()
                undo.callback(self.inner.close)
                self.outer.watch(self.inner.fd)
            undo.pop_all()
        self.struct = ffi.gc(ffi.new("struct kb_port *"), lib.kb_port_free)
        lib.kb_port_init(self.struct, self.outer.fd, -1 if self.inner is None else self.inner.fd)

    def add_bell(self, bell: Bell, key: int) -> None:
        """Looks at a bell, and takes its packets with this key. The caller keeps it until it is removed.

        Raises:
            OSError: ENOMEM, ENOSPC: no room.
        """
        check(lib.kb_port_add(self.struct, bell.struct, key), "watching a bell")
        try:
            self.outer.watch(bell.fd)
        except OSError:
            lib.kb_port_remove(self.struct, bell.struct)
            raise

    def remove_bell(self, bell: Bell) -> None:
        """Looks at it no more, if it does; nobody is taking from it when this returns."""
        lib.kb_port_remove(self.struct, bell.struct)
        self.outer.forget(bell.fd)

    def wait(self, packet: Packet, deadline_ns: int = NEVER) -> int | None:
        """Sleeps until a bell's packet is taken, or another fd is readable; in turn where several are.

        Args:
            packet: Where a bell's is put.
            deadline_ns: CLOCK_MONOTONIC; what is there already is returned even if it has passed.

        Returns:
            PACKET; the fd that is readable; None at the deadline.

        Raises:
            OSError: EBADF: it is closed.
        """
        signals.install_for_wait()
        while True:
            result = lib.kb_port_wait(self.struct, packet, deadline_ns)
            if result >= 0:
                return result
            if result == -errno.ETIMEDOUT:
                return None
            if result != -errno.EINTR:  # else Python runs its signal handlers here
                check(result, "epoll_pwait2")

    @property
    def sleepers(self) -> int:
        """How many threads are inside `wait`."""
        return self.struct.sleepers

    def close(self) -> None:
        """Closes the epoll fds, when nobody sleeps on them any more. Then nobody does."""
        lib.kb_port_close(self.struct)
        if self.inner is not None:
            self.inner.close()
        self.outer.close()
