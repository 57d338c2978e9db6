"""The thread of a VCPU that Guest.start_vcpu made."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from kvmbind.abi.errors import BadHandleError, BadStateError, CanceledError, TimedOutError
from kvmbind.kvm import signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.abi.structs import PortPacket
    from kvmbind.objects.vcpu import Vcpu
    from kvmbind.zircon.vcpu import VcpuDispatcher

    OnPacket = Callable[[Vcpu, PortPacket], object]


class Runner:
    """The thread of a started VCPU: it creates the VCPU, enters it until it is kicked, and keeps what it raised.

    Threads: `join` may be called by any; the rest is the thread's own until `started` is set.
    """

    __slots__ = ("_create", "_error", "_object", "_on_packet", "_started", "_thread", "vcpu")

    def __init__(self, create: Callable[[], Vcpu], on_packet: OnPacket | None) -> None:
        """Starts the thread and waits until it has made its VCPU; raises what that raised."""
        self._create = create
        self._on_packet = on_packet
        self._error: BaseException | None = None
        self._object: VcpuDispatcher | None = None
        self._started = threading.Event()
        self.vcpu: Vcpu | None = None
        self._thread = threading.Thread(target=self._run, name="kvmbind-vcpu", daemon=True)
        self._thread.start()
        self._started.wait()
        if self.vcpu is None:
            self.join(None)

    def _run(self) -> None:
        signals.block_all_but_kick()
        try:
            vcpu = self._create()
            self._object = vcpu._object("Guest.start_vcpu")
            self.vcpu = vcpu
            self._started.set()
            while True:
                self._take(vcpu, vcpu.enter())
        except CanceledError:
            return
        except BadHandleError as error:
            if self.vcpu is None or not self.vcpu.closed:
                self._error = error
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    def _take(self, vcpu: Vcpu, packet: PortPacket) -> None:
        if self._on_packet is None:
            raise BadStateError("Guest.start_vcpu", f"the guest made {packet!r}, and no on_packet was given to take it")
        self._on_packet(vcpu, packet)

    def kick(self) -> None:
        """Kicks the VCPU, whatever has become of the handle that it was started with."""
        if self._object is not None:
            with contextlib.suppress(BadHandleError):  # the last handle is closed, which kicks it too
                self._object.kick()

    def join(self, timeout_s: float | None) -> None:
        """Waits for the thread's end; raises what it raised, once."""
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimedOutError("Vcpu.join", f"the VCPU's thread still runs after {timeout_s} s")
        error, self._error = self._error, None
        if error is not None:
            raise error
