"""Ports: packets from users, signals, interrupts and bells, over epoll."""

from __future__ import annotations

import contextlib
import errno
import struct
import threading
from typing import TYPE_CHECKING, ClassVar

from kvmbind._shim import ffi
from kvmbind.abi.constants import (
    ZX_DEFAULT_PORT_RIGHTS,
    ZX_OBJ_TYPE_PORT,
    ZX_PKT_TYPE_INTERRUPT,
    ZX_PKT_TYPE_USER,
)
from kvmbind.abi.errors import BadHandleError, CanceledError, TimedOutError, WrongTypeError, from_os_error
from kvmbind.abi.structs import PortPacket
from kvmbind.kvm.calls import NEVER
from kvmbind.kvm.port import PACKET, Port
from kvmbind.zircon import waits
from kvmbind.zircon.dispatcher import Dispatcher
from kvmbind.zircon.packets import PacketQueue

if TYPE_CHECKING:
    from kvmbind.zircon.bell import BellTrap
    from kvmbind.zircon.interrupt import InterruptDispatcher

_INTERRUPT_PACKET = struct.Struct("<QIiq24x")
_TYPE_OFFSET = 8


def _closed(call: str) -> CanceledError:
    return CanceledError(call, "the port was closed")


class PortDispatcher(Dispatcher):
    """A queue of packets: an outer epoll over the eventfds of `packets` and of bells, and an inner of interrupts.

    epoll only says "look": who has a packet is decided under `lock`, and under the shim's if it is a bell. A bound
    interrupt holds the port.

    Threads: any thread may use it. `lock` guards bells and interrupts and orders those who take. A thread that waits
    sleeps in the shim, which keeps the epoll fds open for it: to hold the port would cost each wake-up a microsecond.
    Closing the last handle wakes them with CANCELED.
    """

    __slots__ = ("_bells", "_closed", "_interrupts", "_kvm", "lock", "packets")

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
        with contextlib.ExitStack() as undo:
            try:
                self._kvm = Port(inner=interrupts)
                undo.callback(self._kvm.close)
                self.packets = PacketQueue()
                undo.callback(self.packets.close)
                self._kvm.outer.watch(self.packets.eventfd.fd)
            except OSError as error:
                raise from_os_error("zx_port_create", error) from error
            undo.pop_all()
        self.lock = threading.Lock()
        self._interrupts: dict[int, InterruptDispatcher] = {}
        self._bells: set[BellTrap] = set()
        self._closed = False
        super().__init__()

    @property
    def fd(self) -> int:
        """Readable when a packet waits."""
        return self._kvm.outer.fd

    @property
    def sleepers(self) -> int:
        """How many threads wait for a packet."""
        return self._kvm.sleepers

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
        packet = PortPacket()
        bell_packet = ffi.from_buffer("struct kb_packet *", packet)
        while True:
            try:
                fd = self._kvm.wait(bell_packet, deadline_ns)
            except OSError as error:
                raise _closed(call) if error.errno == errno.EBADF else from_os_error(call, error) from error
            if fd == PACKET:
                return packet
            if fd is None:
                raise TimedOutError(call, "no packet came before the deadline")
            data = self._take(call, fd)
            if data is not None:
                return PortPacket.from_buffer_copy(data)

    def _take(self, call: str, fd: int) -> bytes | None:
        """Returns what the owner of an fd has, which may be nothing any more, or may be another owner by now."""
        try:
            self.hold()
        except BadHandleError as error:
            raise _closed(call) from error
        try:
            with self.lock:
                if self._closed:
                    raise _closed(call)
                if fd == self.packets.eventfd.fd:
                    return self.packets.take()
                interrupt = self._interrupts.get(fd)
                taken = interrupt.take_packet() if interrupt is not None else None
        finally:
            self.drop()
        if taken is None:
            return None
        return _INTERRUPT_PACKET.pack(taken.key, ZX_PKT_TYPE_INTERRUPT, 0, taken.timestamp_ns)

    def add_bell(self, call: str, bell: BellTrap, key: int) -> None:
        """Looks at a bell from now on; its packets have this key. The caller holds the port for it.

        Raises:
            BadHandleError: The last handle of the port was closed at the same time.
            ZxError: What the kernel answered.
        """
        with self.lock:
            if self._closed:
                raise BadHandleError(call, "the port was closed at the same time")
            self._bells.add(bell)
            try:
                self._kvm.add_bell(bell.kvm, key)
            except OSError as error:
                raise from_os_error(call, error) from error

    def remove_bell(self, bell: BellTrap) -> None:
        """Looks at a bell no more, if it does; the packets that it has are nobody's then."""
        with self.lock:
            if bell in self._bells:
                self._bells.discard(bell)
                self._kvm.remove_bell(bell.kvm)

    def require_interrupts(self, call: str) -> None:
        """Raises WrongTypeError unless interrupts may be bound to it."""
        if self._kvm.inner is None:
            raise WrongTypeError(call, "the port was made without ZX_PORT_BIND_TO_INTERRUPT")

    def attach(self, interrupt: InterruptDispatcher, *, armed: bool) -> None:
        """Looks at an interrupt's eventfd, armed or not. The caller has `lock`, and holds the port for it."""
        assert self._kvm.inner is not None
        fd = interrupt.eventfd.fd
        self._interrupts[fd] = interrupt
        try:
            self._kvm.inner.watch_once(fd, armed=armed)
        except BaseException:
            del self._interrupts[fd]
            raise

    def rearm(self, interrupt: InterruptDispatcher) -> None:
        """Looks at it once more. The caller has `lock`."""
        assert self._kvm.inner is not None
        self._kvm.inner.rearm(interrupt.eventfd.fd)

    def detach(self, interrupt: InterruptDispatcher) -> None:
        """Looks at it no more. The caller has `lock`."""
        assert self._kvm.inner is not None
        fd = interrupt.eventfd.fd
        if self._interrupts.pop(fd, None) is not None:
            self._kvm.inner.forget(fd)

    def on_zero_handles(self) -> None:
        """Drops the packets and wakes the threads that wait."""
        with self.lock:
            self._closed = True
            for interrupt in self._interrupts.values():
                interrupt.drop_packet()
            bells = list(self._bells)
        waits.end(self.packets.end())
        for bell in bells:
            bell.silence()

    def _destroy(self) -> None:
        waits.end(self.packets.end())  # again: a Ctrl-C may have cut on_zero_handles short, and someone sleeps on
        self._kvm.close()
        self.packets.close()
