"""WaitableObject: a kernel object that has signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kvmbind.abi.constants import (
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WAIT,
    ZX_RIGHT_WRITE,
    ZX_WAIT_ASYNC_EDGE,
    ZX_WAIT_ASYNC_TIMESTAMP,
)
from kvmbind.abi.errors import InvalidArgsError
from kvmbind.objects.base import KernelObject, deadline_after
from kvmbind.zircon import waits
from kvmbind.zircon.dispatcher import Dispatcher

if TYPE_CHECKING:
    from kvmbind.objects.port import Port

D = TypeVar("D", bound=Dispatcher)

_U32_END, _U64_END = 1 << 32, 1 << 64


class WaitableObject(KernelObject[D]):
    """A kernel object whose signals can be set and waited for: an interrupt, a VCPU or a VMO.

    Threads: any thread may use it, and any number may wait, asleep in the kernel. A wait belongs to the handle:
    closing this object ends it, closing another one with a handle of its own does not. Ctrl-C ends a wait at once.
    """

    __slots__ = ()

    def signal(self, *, clear: int = 0, set: int = 0) -> None:
        """Clears signals and then sets others, in one step for those who wait. Mirrors zx_object_signal.

        Needs ZX_RIGHT_SIGNAL.

        Args:
            clear: ZX_USER_SIGNAL_* bits.
            set: ZX_USER_SIGNAL_* bits.

        Raises:
            InvalidArgsError: Other bits.
        """
        self._object("zx_object_signal", ZX_RIGHT_SIGNAL).signals.signal(clear, set)

    def wait_one(self, signals: int, timeout_s: float | None = None) -> int:
        """Sleeps until one of the signals is there. Mirrors zx_object_wait_one; needs ZX_RIGHT_WAIT.

        Args:
            signals: ZX_USER_SIGNAL_* bits, or ZX_VIRTUAL_INTERRUPT_UNTRIGGERED of an interrupt, ZX_VMO_ZERO_CHILDREN
                of a VMO, which is always there.
            timeout_s: Seconds; None waits for ever, 0 takes what is there.

        Returns:
            All signals that were seen meanwhile.

        Raises:
            TimedOutError: None of them came in time; `observed` of the error has all that were seen.
            CanceledError: This object was closed meanwhile; `observed` has ZX_SIGNAL_HANDLE_CLOSED too.
            InvalidArgsError: The signals do not fit into 32 bits.
            NoResourcesError: No fd is left.
        """
        call = "zx_object_wait_one"
        obj = self._object(call, ZX_RIGHT_WAIT)
        _require_u32(call, signals)
        return waits.wait_one(obj, self._entry, signals, deadline_after(timeout_s))

    def wait_async(self, port: Port, key: int, signals: int, *, timestamp: bool = False, edge: bool = False) -> None:
        """Sends one packet of type SIGNAL_ONE to a port when one of the signals is there.

        Mirrors zx_object_wait_async; `Port.cancel` takes it back. Needs ZX_RIGHT_WAIT, and ZX_RIGHT_WRITE of the port.

        Args:
            port: Where the packet goes.
            key: 64 bits, given back in the packet.
            signals: As of `wait_one`; the packet has them as `signal.trigger`, and all that were there then as
                `signal.observed`.
            timestamp: Whether the packet says when, in ns of CLOCK_MONOTONIC.
            edge: Whether a signal that is there already does not count before it has been cleared.

        Raises:
            InvalidArgsError: The key does not fit into 64 bits, or the signals into 32.
            NoMemoryError: 16384 packets of such waits are in the port or to come.
        """
        call = "zx_object_wait_async"
        queue, obj = port._object(call, ZX_RIGHT_WRITE), self._object(call, ZX_RIGHT_WAIT)
        _require_u32(call, signals)
        if not 0 <= key < _U64_END:
            raise InvalidArgsError(call, f"key {key:#x} does not fit into 64 bits")
        options = ZX_WAIT_ASYNC_TIMESTAMP * timestamp | ZX_WAIT_ASYNC_EDGE * edge
        waits.wait_async(queue, obj, self._entry, key, signals, options)


def _require_u32(call: str, signals: int) -> None:
    if not 0 <= signals < _U32_END:
        raise InvalidArgsError(call, f"signals {signals:#x} do not fit into 32 bits")
