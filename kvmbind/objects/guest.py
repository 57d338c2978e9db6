"""Guest: a virtual machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from kvmbind._shim import lib
from kvmbind.abi.constants import (
    ZX_GUEST_TRAP_BELL,
    ZX_GUEST_TRAP_IO,
    ZX_GUEST_TRAP_MEM,
    ZX_RIGHT_INSPECT,
    ZX_RIGHT_READ,
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WRITE,
)
from kvmbind.abi.errors import BadStateError, InvalidArgsError, OutOfRangeError, TimedOutError
from kvmbind.objects.base import KernelObject, deadline_after
from kvmbind.objects.resource import Resource
from kvmbind.objects.runner import Runner
from kvmbind.objects.vcpu import Vcpu
from kvmbind.objects.vmar import Vmar
from kvmbind.objects.vmo import Vmo
from kvmbind.zircon import delivery
from kvmbind.zircon.guest import GuestDispatcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from kvmbind.objects.interrupt import Interrupt
    from kvmbind.objects.port import Port
    from kvmbind.objects.runner import OnPacket
    from kvmbind.zircon.guest import StartMode
    from kvmbind.zircon.handles import Entry


class Guest(KernelObject[GuestDispatcher]):
    """A virtual machine. Mirrors zx_guest_*.

    Threads: any thread may use it. Closing it closes the VCPUs that it started first.
    """

    __slots__ = ("_memory", "_started", "_vmar")
    _DISPATCHER = GuestDispatcher

    @classmethod
    def create(
        cls,
        *,
        memory: int = 0,
        irqchip: Literal["split", "pc"] = "split",
        pit: bool = False,
        resource: Resource | None = None,
    ) -> Self:
        """Makes a guest.

        Args:
            memory: Bytes of RAM at guest-physical 0, rounded up to pages; 0 for none.
            irqchip: "split": local APICs only, 0.5 ms; "pc": PIC and IOAPIC too, and 15 ms and more to close.
            pit: Whether a "pc" has a PIT.
            resource: The right to make guests; None opens /dev/kvm.

        Raises:
            OSError: /dev/kvm cannot be opened or lacks something; the message says what to do.
            ZxError: What KVM answered.
        """
        call = "zx_guest_create"
        if irqchip not in ("split", "pc") or (pit and irqchip != "pc"):
            raise InvalidArgsError(call, 'irqchip must be "split" or "pc", and only a "pc" has a PIT')
        if resource is None:
            with Resource.root() as root:
                return cls.create(memory=memory, irqchip=irqchip, pit=pit, resource=root)
        self = cls._wrap(GuestDispatcher(resource._object(call), irqchip=irqchip, pit=pit))
        try:
            self._vmar = Vmar._wrap(self._object(call).make_vmar())
            if memory:
                self._memory = Vmo.create(memory)
                self._vmar.map(self._memory, 0)
        except BaseException:
            self.close()
            raise
        return self

    def _attach(self, entry: Entry, *, owned: bool) -> None:
        super()._attach(entry, owned=owned)
        self._vmar: Vmar | None = None
        self._memory: Vmo | None = None
        self._started: list[Vcpu] = []

    def replace(self, rights: int) -> Self:
        """As of every object; the new one has the VMAR, the memory and the started VCPUs."""
        parts = self._vmar, self._memory, self._started
        made = super().replace(rights)
        self._vmar, self._memory, self._started = None, None, []
        made._vmar, made._memory, made._started = parts
        return made

    def release(self) -> int:
        """As of every object; the handles of the VMAR and the memory are closed, what is mapped stays."""
        parts = self._memory, self._vmar
        value = super().release()
        for part in parts:
            if part is not None:
                part.close()
        return value

    @property
    def vmar(self) -> Vmar:
        """Its physical address space. BadStateError for a guest made from a raw handle: its maker has the VMAR."""
        if self._vmar is None:
            raise BadStateError("Guest.vmar", "it was made from a raw handle; zx_guest_create returned its VMAR")
        return self._vmar

    @property
    def memory(self) -> Vmo:
        """The RAM that `create(memory=...)` made. BadStateError if it made none."""
        if self._memory is None:
            raise BadStateError("Guest.memory", "it was made without memory")
        return self._memory

    def read(self, addr: int, length: int) -> bytes:
        """Returns bytes of guest-physical memory. OutOfRangeError if not all of it is memory."""
        call = "Guest.read"
        guest = self._object(call, ZX_RIGHT_INSPECT)
        _check_range(call, addr, length)
        parts, pieces = [], guest.space.pieces(call, addr, length)
        try:
            for vmo, offset, size in pieces:
                parts.append(vmo.read(offset, size))
        finally:
            for vmo, _, _ in pieces:
                vmo.drop()
        return b"".join(parts)

    def write(self, data: bytes | bytearray | memoryview, addr: int) -> None:
        """Stores bytes in guest-physical memory. Needs ZX_RIGHT_WRITE; OutOfRangeError if not all of it is memory."""
        call = "Guest.write"
        guest = self._object(call, ZX_RIGHT_WRITE)
        rest = memoryview(data).cast("B")
        _check_range(call, addr, len(rest))
        pieces = guest.space.pieces(call, addr, len(rest))
        try:
            for vmo, offset, size in pieces:
                vmo.write(rest[:size], offset)
                rest = rest[size:]
        finally:
            for vmo, _, _ in pieces:
                vmo.drop()

    def read_u32(self, addr: int) -> int:
        """Returns the little-endian dword at a guest-physical address, read at once. Not across mappings."""
        call = "Guest.read_u32"
        guest = self._object(call, ZX_RIGHT_INSPECT)
        _check_range(call, addr, 4)
        mapping, host = guest.space.at(call, addr, 4)
        value = lib.kb_read_u32(host)
        del mapping  # kept the address valid
        return value

    def wait_u32(self, addr: int, at_least: int, timeout_s: float | None = None) -> None:
        """Waits until the dword at a guest-physical address is `at_least` that, as an unsigned number.

        It watches for 50 us and then looks ever less often, at least every millisecond, since no store by a guest can
        wake a thread. Other Python threads run meanwhile.

        Args:
            addr: Guest-physical address, 4 bytes in one mapping.
            at_least: 0 to 2^32 - 1.
            timeout_s: Seconds; None is for ever.

        Raises:
            TimedOutError: It has not come to that in time; the message says what it is.
            OutOfRangeError: No memory, or `at_least` is no u32.
        """
        call = "Guest.wait_u32"
        guest = self._object(call, ZX_RIGHT_INSPECT)
        _check_range(call, addr, 4)
        if not 0 <= at_least < 1 << 32:
            raise OutOfRangeError(call, f"at_least {at_least} does not fit into 32 bits")
        mapping, host = guest.space.at(call, addr, 4)
        deadline_ns = deadline_after(timeout_s)
        while (result := lib.kb_wait_u32(host, at_least, deadline_ns)) < 0:
            continue  # Python runs its signal handlers here
        if not result:
            value = lib.kb_read_u32(host)
            raise TimedOutError(call, f"the dword at {addr:#x} is {value} after {timeout_s} s, not yet {at_least}")
        del mapping  # kept the address valid

    def start_vcpu(
        self,
        entry: int = 0,
        *,
        mode: StartMode = "real",
        apic: Literal["x2apic", "xapic"] = "x2apic",
        interrupts: Sequence[Interrupt] = (),
        on_packet: OnPacket | None = None,
    ) -> Vcpu:
        """Makes a VCPU and enters it on a daemon thread of its own, until it is kicked or closed.

        Args:
            entry: As of `Vcpu.create`.
            mode: As of `Vcpu.create`.
            apic: As of `Vcpu.create`.
            interrupts: Bound to it before it is entered, as level interrupts must be.
            on_packet: Called on that thread with the Vcpu and each packet; answers reads by `vcpu.write_io`. What it
                raises ends the thread, and `close` or `join` raises it. Without it a packet is such an error.

        Returns:
            The VCPU; its `close` kicks it and joins the thread.

        Raises:
            ZxError: As of `Vcpu.create` and `bind_interrupts`.
        """

        def create() -> Vcpu:
            with contextlib.ExitStack() as failed:
                vcpu = failed.enter_context(Vcpu.create(self, entry, mode=mode, apic=apic))
                self.bind_interrupts([(interrupt, vcpu) for interrupt in interrupts])
                failed.pop_all()
            return vcpu

        vcpu_of = Runner(create, on_packet)
        vcpu = vcpu_of.vcpu
        assert vcpu is not None
        vcpu._runner = vcpu_of
        for started in [started for started in self._started if started.closed]:
            with contextlib.suppress(ValueError):  # another thread did it
                self._started.remove(started)
        self._started.append(vcpu)
        return vcpu

    def set_trap_io(self, port: int, size: int, key: int) -> None:
        """Makes IN and OUT of ports [port, port + size) come out of `Vcpu.enter` as packets with `key`.

        Mirrors zx_guest_set_trap; needs ZX_RIGHT_WRITE.

        Raises:
            InvalidArgsError: size is 0, or a value negative or too large.
            OutOfRangeError: The last port is above FFFEh.
            AlreadyExistsError: Another trap covers one of the ports.
        """
        self._set_trap(ZX_GUEST_TRAP_IO, port, size, None, key)

    def set_trap_mem(self, addr: int, size: int, key: int) -> None:
        """Makes accesses to guest-physical [addr, addr + size) come out of `Vcpu.enter` as packets with `key`.

        Memory that is mapped there is taken out; VCPUs that run pause for it. An access has 1, 2 or 4 bytes; one of 8
        is two, the low half first. What reaches over an edge of the trap belongs to it as far as it lies in it.
        Mirrors zx_guest_set_trap; needs ZX_RIGHT_WRITE.

        Raises:
            InvalidArgsError: addr or size is not a multiple of 4096, size is 0, a value negative or too large.
            OutOfRangeError: addr + size does not fit into 64 bits.
            AlreadyExistsError: Another trap, or a bell of `connect_bell`, is in the range.
            NoResourcesError: Taking mapped memory out needs a memory slot, and none is left.
        """
        self._set_trap(ZX_GUEST_TRAP_MEM, addr, size, None, key)

    def set_trap_bell(self, addr: int, size: int, port: Port, key: int) -> None:
        """Makes stores to guest-physical [addr, addr + size) come to `port` as packets; the VCPU runs on.

        A packet has the exact address. For stores to `addr` itself the kernel sees to it, with no exit, and counts any
        number; those to the rest are exits that `Vcpu.enter` does not return from. Of these 256 wait at most: the VCPU
        is held until one is taken. Memory that is mapped there is taken out. The guest keeps the port; once its last
        handle is closed a store is BadStateError from enter. A load is NotSupportedError from enter. Mirrors
        zx_guest_set_trap; needs ZX_RIGHT_WRITE, of the port too.

        Raises:
            InvalidArgsError: addr or size is not a multiple of 4096, size is 0, a value negative or too large.
            OutOfRangeError: addr + size does not fit into 64 bits.
            AlreadyExistsError: Another trap, or a bell of `connect_bell`, is in the range.
            NoResourcesError: No fd is left; or taking mapped memory out needs a memory slot, and none is.
        """
        self._set_trap(ZX_GUEST_TRAP_BELL, addr, size, port, key)

    def connect_bell(self, addr: int, interrupt: Interrupt) -> None:
        """Lets each store of this guest to guest-physical `addr` fire an interrupt, of another guest for one.

        The kernel does it, by an ioeventfd on the interrupt's eventfd: no exit, and no user-space code in between. What
        the store writes, and with which width, is of no meaning. The page that `addr` is in is taken out of this
        guest's memory, as by a trap: any other access to it is one to what is neither memory nor trapped. It ends with
        the guest or when the interrupt is destroyed or closed, and the page stays out: a guest that goes on storing
        there makes untrapped accesses, so close the guest first. What is bound to VCPUs of several APIC clusters fires
        in the first, as by any write to `fileno()`. Zircon has nothing like it. Needs ZX_RIGHT_WRITE, and
        ZX_RIGHT_SIGNAL of the interrupt.

        Raises:
            InvalidArgsError: `addr` is outside the guest's address space.
            AlreadyExistsError: A trap or another bell is there.
            CanceledError: The interrupt was destroyed.
            NoResourcesError: Taking mapped memory out needs a memory slot, and none is left.
        """
        call = "Guest.connect_bell"
        guest = self._object(call, ZX_RIGHT_WRITE)
        source = interrupt._object(call, ZX_RIGHT_SIGNAL)
        if addr < 0:
            raise InvalidArgsError(call, f"addr {addr} is negative")
        guest.connect_bell(addr, source)

    def _set_trap(self, kind: int, addr: int, size: int, port: Port | None, key: int) -> None:
        call = "zx_guest_set_trap"
        guest = self._object(call, ZX_RIGHT_WRITE)
        queue = None if port is None else port._object(call, ZX_RIGHT_WRITE)
        if min(addr, size, key) < 0 or key >= 1 << 64:
            raise InvalidArgsError(call, "addr, size and key must not be negative, and key must fit into 64 bits")
        guest.set_trap(kind, addr, size, queue, key)

    def set_irq_line(self, line: int, level: bool) -> None:
        """Sets an interrupt line of a "pc": an input of its PIC and IOAPIC. An edge is a high and a low.

        What Zircon lacks; KVM_IRQ_LINE. Needs ZX_RIGHT_WRITE.

        Args:
            line: 0 to 23; 0 to 15 are the PIC's.
            level: Whether it is high.

        Raises:
            InvalidArgsError: No such line.
            BadStateError: The guest is no "pc", or has no VCPU yet: the PIC is made with the first.
        """
        call = "Guest.set_irq_line"
        guest = self._object(call, ZX_RIGHT_WRITE)
        if not 0 <= line <= 23:
            raise InvalidArgsError(call, f"line {line} is not 0 to 23")
        guest.set_irq_line(call, line, level)

    def bind_interrupts(self, pairs: Sequence[tuple[Interrupt, Vcpu]]) -> None:
        """Binds interrupts to VCPUs of this guest by one update of the kernel's table: all of them or none.

        Args:
            pairs: Which to which; an interrupt may come several times. Each needs ZX_RIGHT_READ, each VCPU
                ZX_RIGHT_WRITE.

        Raises:
            InvalidArgsError: A VCPU is of another guest.
            ZxError: As of `Interrupt.bind_vcpu`.
        """
        call = delivery.CALL
        guest = self._object(call)
        wanted = [(i._object(call, ZX_RIGHT_READ), v._object(call, ZX_RIGHT_WRITE)) for i, v in pairs]
        if any(vcpu.guest is not guest for _, vcpu in wanted):
            raise InvalidArgsError(call, "a VCPU is of another guest")
        with contextlib.ExitStack() as held:
            for obj in {id(obj): obj for pair in wanted for obj in pair}.values():
                held.enter_context(obj)
            delivery.bind(guest, wanted)

    def close(self) -> None:
        """Closes the VCPUs that `start_vcpu` made, then the guest. Raises what a VCPU's thread raised."""
        with contextlib.ExitStack() as ends:
            ends.callback(super().close)
            for part in (self._memory, self._vmar, *self._started):
                if part is not None:
                    ends.callback(part.close)
            self._started = []


def _check_range(call: str, addr: int, length: int) -> None:
    if addr < 0 or length < 0 or addr + length > 1 << 64:
        raise OutOfRangeError(call, f"{addr:#x} + {length:#x} is no range of guest-physical addresses")
