"""Port: a queue of packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.abi.constants import ZX_RIGHT_READ, ZX_RIGHT_WAIT, ZX_RIGHT_WRITE
from kvmbind.abi.errors import InvalidArgsError
from kvmbind.objects.base import KernelObject, deadline_after
from kvmbind.zircon import waits
from kvmbind.zircon.port import PortDispatcher

if TYPE_CHECKING:
    from typing import Self

    from kvmbind.abi.structs import PortPacket
    from kvmbind.objects.interrupt import Interrupt
    from kvmbind.objects.vcpu import Vcpu
    from kvmbind.objects.vmo import Vmo


class Port(KernelObject[PortDispatcher]):
    """A queue of packets, from users, signals, interrupts and bells. Mirrors zx_port_*.

    Threads: any thread may use it, and several may wait: each packet goes to one of them.
    """

    __slots__ = ()
    _DISPATCHER = PortDispatcher

    @classmethod
    def create(cls, *, interrupts: bool = False) -> Self:
        """Makes a port.

        Args:
            interrupts: Whether interrupts may be bound to it (ZX_PORT_BIND_TO_INTERRUPT).

        Raises:
            NoResourcesError: No fd is left.
        """
        return cls._wrap(PortDispatcher(interrupts=interrupts))

    def wait(self, timeout_s: float | None = None) -> PortPacket:
        """Takes a packet, those of interrupts first, and sleeps until there is one. Needs ZX_RIGHT_READ.

        Args:
            timeout_s: Seconds; None waits for ever, 0 takes what is there.

        Raises:
            TimedOutError: None came in time.
            CanceledError: The port was closed meanwhile.
        """
        return self._object("zx_port_wait", ZX_RIGHT_READ).wait(deadline_after(timeout_s))

    def queue(self, packet: PortPacket) -> None:
        """Queues a packet, as type USER. Needs ZX_RIGHT_WRITE; ShouldWaitError when more than 2048 wait."""
        self._object("zx_port_queue", ZX_RIGHT_WRITE).queue(packet)

    def cancel(self, source: Interrupt | Vcpu | Vmo, key: int) -> None:
        """Ends the waits with `key` that `source.wait_async` has begun, and takes back their packets.

        `source` is the very object: another with a handle of its own has waits of its own. Mirrors zx_port_cancel;
        needs ZX_RIGHT_WRITE, and ZX_RIGHT_WAIT of the source.

        Raises:
            NotFoundError: There is neither wait nor packet.
            InvalidArgsError: The key does not fit into 64 bits.
        """
        call = "zx_port_cancel"
        queue, obj = self._object(call, ZX_RIGHT_WRITE), source._object(call, ZX_RIGHT_WAIT)
        if not 0 <= key < 1 << 64:
            raise InvalidArgsError(call, f"key {key:#x} does not fit into 64 bits")
        waits.cancel(queue, obj, source._entry, key)

    def fileno(self) -> int:
        """An epoll fd that is readable when any packet waits."""
        return self._object("fileno").fd
