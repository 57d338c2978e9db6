"""Interrupt: what reaches a guest with no host exit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from kvmbind._shim import lib
from kvmbind.abi.constants import ZX_RIGHT_READ, ZX_RIGHT_SIGNAL, ZX_RIGHT_WAIT, ZX_RIGHT_WRITE
from kvmbind.abi.errors import BadStateError, InvalidArgsError
from kvmbind.objects.base import deadline_after
from kvmbind.objects.waitable import WaitableObject
from kvmbind.zircon.interrupt import InterruptDispatcher

if TYPE_CHECKING:
    from typing import Self

    from kvmbind.objects.port import Port
    from kvmbind.objects.vcpu import Vcpu

_fire = lib.kb_trigger_fire


class Interrupt(WaitableObject[InterruptDispatcher]):
    """An interrupt over an eventfd. Mirrors zx_interrupt_*.

    Bound to VCPUs by `bind_vcpu`, each fire raises its vector in their local APICs: the kernel does that, KVM_RUN does
    not return. It is fired by `trigger`, and by whoever writes to `fileno()`: another thread, process or guest, a
    device. Edges merge: fires that come before the guest has taken the last one are one, as on hardware.

    Threads: any thread may use it. One thread at a time may `wait`.
    """

    __slots__ = ()
    _DISPATCHER = InterruptDispatcher

    @classmethod
    def create(
        cls,
        vector: int = 0,
        *,
        physical: bool = False,
        delivery: Literal["all", "lowest-priority"] = "all",
        level: bool = False,
    ) -> Self:
        """Makes an interrupt with an eventfd of its own.

        Args:
            vector: What guests see, 0 to 255; at least 16 to be bound to a VCPU.
            physical: Whether only writes to its eventfd fire it, and `trigger` does not.
            delivery: "all": each fire reaches every bound VCPU; "lowest-priority": one of them.
            level: Whether it is level-triggered: see `eoi_fileno`. Bound to a VCPU, it has that one only, needs a guest
                with `irqchip="pc"`, and is bound before any VCPU of the guest has been entered.

        Raises:
            InvalidArgsError: No such vector or delivery; or a level interrupt with delivery "lowest-priority".
            NoResourcesError: No fd is left.
        """
        if delivery not in ("all", "lowest-priority"):
            raise InvalidArgsError("zx_interrupt_create", f'delivery {delivery!r} is not "all" or "lowest-priority"')
        lowest_priority = delivery == "lowest-priority"
        if lowest_priority and level:
            raise InvalidArgsError("zx_interrupt_create", "a level interrupt has one VCPU: there is no choice")
        made = InterruptDispatcher(vector, virtual=not physical, lowest_priority=lowest_priority, level=level)
        return cls._wrap(made)

    @classmethod
    def from_eventfd(cls, fd: int, *, vector: int, level: bool = False) -> Self:
        """Makes a physical interrupt over an eventfd that somebody else writes: VFIO, vhost-user, another process.

        Args:
            fd: Duplicated; the caller's stays open.
            vector: What guests see, 0 to 255; at least 16 to be bound to a VCPU.
            level: As of `create`.

        Raises:
            WrongTypeError: `fd` is no eventfd.
            NotSupportedError: It is an EFD_SEMAPHORE one.
            BadHandleError: It is not open.
            InvalidArgsError: No such vector.
            NoResourcesError: No fd is left.
        """
        return cls._wrap(InterruptDispatcher(vector, virtual=False, level=level, source_fd=fd))

    def bind_vcpu(self, vcpu: Vcpu) -> None:
        """Raises its vector in this VCPU at each fire from now on, beside the VCPUs that it is bound to already.

        A fire that came before is delivered. Binding the same VCPU again does nothing. Mirrors zx_interrupt_bind_vcpu;
        needs ZX_RIGHT_READ, and ZX_RIGHT_WRITE of the VCPU.

        Raises:
            CanceledError: It was destroyed.
            BadStateError: A thread waits for it; or it is a level interrupt and a VCPU of the guest has been entered.
            AlreadyBoundError: It is bound to a port, or its eventfd to another interrupt's VCPU.
            InvalidArgsError: The VCPU is of another guest, or the vector below 16.
            NotSupportedError: A physical interrupt would need a second cluster of 16 VCPUs; a level interrupt a second
                VCPU, or an IOAPIC that the guest does not have.
            NoResourcesError: The guest's GSIs, its eight inputs for level interrupts or the fds are used up.
        """
        call = "zx_interrupt_bind_vcpu"
        source = self._object(call, ZX_RIGHT_READ)
        source.bind_vcpu(vcpu._object(call, ZX_RIGHT_WRITE))

    def bind(self, port: Port, key: int) -> None:
        """Sends each fire to a port as a packet with `key`, after an `ack` of the last. Mirrors zx_interrupt_bind.

        Needs ZX_RIGHT_READ, and ZX_RIGHT_WRITE of the port.

        Raises:
            WrongTypeError: The port was not made for interrupts.
            CanceledError: It was destroyed.
            BadStateError: A thread waits for it.
            AlreadyBoundError: It is bound to a port or a VCPU.
            InvalidArgsError: The key does not fit into 64 bits.
        """
        call = "zx_interrupt_bind"
        source, queue = self._object(call, ZX_RIGHT_READ), port._object(call, ZX_RIGHT_WRITE)
        if not 0 <= key < 1 << 64:
            raise InvalidArgsError(call, f"key {key:#x} does not fit into 64 bits")
        source.bind(queue, key)

    def unbind(self, port: Port) -> None:
        """Sends no more packets to the port, and takes one that waits back.

        Needs ZX_RIGHT_READ, and ZX_RIGHT_WRITE of the port.

        Raises:
            NotFoundError: It is not bound to this port.
            CanceledError: It was destroyed.
        """
        call = "zx_interrupt_bind"
        source = self._object(call, ZX_RIGHT_READ)
        source.unbind(port._object(call, ZX_RIGHT_WRITE))

    def trigger(self, timestamp_ns: int | None = None) -> None:
        """Fires it. Mirrors zx_interrupt_trigger; needs ZX_RIGHT_SIGNAL.

        Args:
            timestamp_ns: What `wait` or the packet says; None is now. Of no meaning when bound to VCPUs.

        Raises:
            InvalidArgsError: The time does not fit into 64 bits.
            BadStateError: It is physical.
            CanceledError: It was destroyed.
        """
        if not _fire(self._entry.trigger):
            return
        now_ns = time.monotonic_ns() if timestamp_ns is None else timestamp_ns
        self._object("zx_interrupt_trigger", ZX_RIGHT_SIGNAL).trigger(now_ns)

    def wait(self, timeout_s: float | None = None) -> int:
        """Sleeps until it is fired, and returns when that was, in ns of CLOCK_MONOTONIC. Mirrors zx_interrupt_wait.

        A write to `fileno()` by somebody else has the time at which it is seen. Needs ZX_RIGHT_WAIT.

        Args:
            timeout_s: Seconds; None waits for ever.

        Raises:
            BadStateError: It is bound, or another thread waits.
            CanceledError: It was destroyed or closed, before or meanwhile.
            TimedOutError: It was not fired in time.
        """
        return self._object("zx_interrupt_wait", ZX_RIGHT_WAIT).wait(deadline_after(timeout_s))

    def ack(self) -> None:
        """Lets the next fire make a packet; one that came meanwhile makes it now. Needs ZX_RIGHT_WRITE.

        Raises:
            BadStateError: No port is bound; or a second fire came before the first packet was read.
            CanceledError: It was destroyed.
        """
        self._object("zx_interrupt_ack", ZX_RIGHT_WRITE).ack()

    def destroy(self) -> None:
        """Ends it: it fires no more and keeps no VCPU. Again it does nothing. Mirrors zx_interrupt_destroy.

        Raises:
            NotFoundError: Its packet was read and not acknowledged; it is destroyed all the same.
        """
        self._object("zx_interrupt_destroy").destroy()

    def fileno(self) -> int:
        """The eventfd: a write fires the interrupt. Pass a duplicate of it to whoever shall."""
        return self._object("fileno").eventfd.fd

    def eoi_fileno(self) -> int:
        """The eventfd of a level interrupt that counts its ends: the device's cue to fire again if it still asserts.

        An end is the guest's end of interrupt, or, with a port, an `ack`, or a `wait` that sleeps.

        Raises:
            BadStateError: It is edge-triggered.
        """
        eoi = self._object("eoi_fileno").source.eoi
        if eoi is None:
            raise BadStateError("eoi_fileno", "the interrupt is edge-triggered: its end is no cue")
        return eoi.fd

    @property
    def vector(self) -> int:
        """The vector that guests see."""
        return self._object("vector").vector

    def _facts(self) -> str:
        return f"vector={self.vector:#04x} "
