"""Ports: packets from users, signals, interrupts and bells, over epoll."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, ClassVar, Protocol

from kvmbind.abi.constants import (
    ZX_DEFAULT_PORT_RIGHTS,
    ZX_OBJ_TYPE_PORT,
    ZX_PKT_TYPE_INTERRUPT,
    ZX_PKT_TYPE_USER,
)
from kvmbind.abi.errors import BadHandleError, CanceledError, TimedOutError, WrongTypeError, from_os_error
from kvmbind.abi.structs import PortPacket
from kvmbind.kvm.calls import NEVER
from kvmbind.kvm.epoll import Epoll
from kvmbind.zircon import waits
from kvmbind.zircon.dispatcher import Dispatcher
from kvmbind.zircon.packets import PacketQueue

if TYPE_CHECKING:
    from kvmbind.zircon.interrupt import InterruptDispatcher

_INTERRUPT_PACKET = struct.Struct("<QIiq24x")
_TYPE_OFFSET = 8


class PacketSource(Protocol):
    """Who has packets of its own for a port: a bell trap. It holds the port until it has removed itself."""

    @property
    def fd(self) -> int:
        """Readable while a packet waits."""

    def take(self) -> bytes | None:
        """Takes the oldest packet, if there is one. Called under the port's lock."""

    def silence(self) -> None:
        """Removes itself from the port. Called outside all locks, when the port's last handle is closed."""


class PortDispatcher(Dispatcher):
    """A queue of packets: an outer epoll over the eventfds of `packets` and of sources, and an inner of interrupts.

    epoll only says "look": who has a packet is decided under `lock`. A bound interrupt holds the port.

    Threads: any thread may use it. `lock` guards sources and interrupts and orders those who take; a thread that waits
    sleeps outside it, on the outer epoll, and holds the port. Closing the last handle wakes them with CANCELED.
    """

    __slots__ = ("_closed", "_inner", "_interrupts", "_outer", "_sources", "lock", "packets")

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_PORT
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_PORT_RIGHTS
    WAITABLE: ClassVar[bool] = False

    def __init__(self, *, interrupts: bool) -> None:
        """Makes an empty port.

        Args:
            interrupts: Whether interrupts may be bound to it.

        Raises:
            ZxError: No fd is left.
        """
        owned: list[Epoll | PacketQueue] = []
        try:
            self._outer = Epoll()
            owned.append(self._outer)
            self.packets = PacketQueue()
            owned.append(self.packets)
            self._outer.watch(self.packets.eventfd.fd)
            self._inner = None
            if interrupts:
                self._inner = Epoll()
                owned.append(self._inner)
                self._outer.watch(self._inner.fd)
        except OSError as error:
            for file in reversed(owned):
                file.close()
            raise from_os_error("zx_port_create", error) from error
        self.lock = threading.Lock()
        self._interrupts: dict[int, InterruptDispatcher] = {}
        self._sources: dict[int, PacketSource] = {}
        self._closed = False
        super().__init__()

    @property
    def fd(self) -> int:
        """Readable when a packet waits."""
        return self._outer.fd

    def queue(self, packet: PortPacket) -> None:
        """Queues a packet of type USER.

        Raises:
            ShouldWaitError: More than 2048 packets wait.
        """
        data = bytearray(bytes(packet))
        struct.pack_into("<I", data, _TYPE_OFFSET, ZX_PKT_TYPE_USER)
        with self:
            self.packets.put("zx_port_queue", bytes(data))

    def wait(self, deadline_ns: int = NEVER) -> PortPacket:
        """Takes a packet, interrupts first, sleeping until there is one.

        Args:
            deadline_ns: CLOCK_MONOTONIC; a packet that is there already is returned even if it has passed.

        Raises:
            TimedOutError: The deadline came.
            CanceledError: The last handle was closed meanwhile.
        """
        call = "zx_port_wait"
        with self:
            while True:
                fd = self._outer.wait(self._inner, deadline_ns)
                if fd is None:
                    raise TimedOutError(call, "no packet came before the deadline")
                with self.lock:
                    if self._closed:
                        raise CanceledError(call, "the port was closed")
                    data = self._take(fd)
                if data is not None:
                    return PortPacket.from_buffer_copy(data)

    def _take(self, fd: int) -> bytes | None:
        """Returns what the owner of an fd has, which may be nothing any more, or may be another owner by now."""
        source = self._sources.get(fd)
        if source is not None:
            return source.take()
        if fd == self.packets.eventfd.fd:
            return self.packets.take()
        interrupt = self._interrupts.get(fd)
        taken = interrupt.take_packet() if interrupt is not None else None
        if taken is None:
            return None
        return _INTERRUPT_PACKET.pack(taken.key, ZX_PKT_TYPE_INTERRUPT, 0, taken.timestamp_ns)

    def add_source(self, call: str, source: PacketSource) -> None:
        """Looks at a source from now on. The caller holds the port for it.

        Raises:
            BadHandleError: The last handle of the port was closed at the same time.
            ZxError: What epoll answered.
        """
        with self.lock:
            if self._closed:
                raise BadHandleError(call, "the port was closed at the same time")
            try:
                self._outer.watch(source.fd)
            except OSError as error:
                raise from_os_error(call, error) from error
            self._sources[source.fd] = source

    def remove_source(self, source: PacketSource) -> None:
        """Looks at a source no more, if it does; the packets that it has are nobody's then."""
        with self.lock:
            if self._sources.pop(source.fd, None) is not None:
                self._outer.forget(source.fd)

    def require_interrupts(self, call: str) -> None:
        """Raises WrongTypeError unless interrupts may be bound to it."""
        if self._inner is None:
            raise WrongTypeError(call, "the port was made without ZX_PORT_BIND_TO_INTERRUPT")

    def attach(self, interrupt: InterruptDispatcher, *, armed: bool) -> None:
        """Looks at an interrupt's eventfd, armed or not. The caller has `lock`, and holds the port for it."""
        assert self._inner is not None
        fd = interrupt.eventfd.fd
        self._interrupts[fd] = interrupt
        try:
            self._inner.watch_once(fd, armed=armed)
        except BaseException:
            del self._interrupts[fd]
            raise

    def rearm(self, interrupt: InterruptDispatcher) -> None:
        """Looks at it once more. The caller has `lock`."""
        assert self._inner is not None
        self._inner.rearm(interrupt.eventfd.fd)

    def detach(self, interrupt: InterruptDispatcher) -> None:
        """Looks at it no more. The caller has `lock`."""
        assert self._inner is not None
        fd = interrupt.eventfd.fd
        if self._interrupts.pop(fd, None) is not None:
            self._inner.forget(fd)

    def on_zero_handles(self) -> None:
        """Drops the packets and wakes the threads that wait."""
        with self.lock:
            self._closed = True
            for interrupt in self._interrupts.values():
                interrupt.drop_packet()
            sources = list(self._sources.values())
        waits.end(self.packets.end())
        for source in sources:
            source.silence()

    def _destroy(self) -> None:
        self._outer.close()
        self.packets.close()
        if self._inner is not None:
            self._inner.close()
