"""Traps of a guest: which of its accesses come to the host, and which of its stores fire interrupts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kvmbind.abi.constants import ZX_GUEST_TRAP_BELL, ZX_GUEST_TRAP_IO, ZX_GUEST_TRAP_MEM
from kvmbind.abi.errors import AlreadyExistsError, InvalidArgsError, OutOfRangeError, from_os_error
from kvmbind.kvm.memory import PAGE_SIZE
from kvmbind.kvm.vm import SPACE_IO, SPACE_MEMORY
from kvmbind.zircon.bell import BellTrap
from kvmbind.zircon.doorbell import Doorbell

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.kvm.vm import Vm
    from kvmbind.zircon.address_space import AddressSpace
    from kvmbind.zircon.interrupt import InterruptDispatcher
    from kvmbind.zircon.port import PortDispatcher

_IO_PORTS = 0xFFFF  # Zircon lets no trap cover the last one
_U64_END = 1 << 64


class Traps:
    """The traps of one guest. Memory, bells and doorbells share the guest-physical addresses; I/O ports have their own.

    The ranges themselves are the shim's, whose run loop looks each exit up in them.

    Threads: any thread may call `set` and `connect`. `_lock` orders changes and is held over kernel calls.
    """

    __slots__ = ("_bells", "_doorbells", "_lock", "_space", "_vm")

    def __init__(self, vm: Vm, space: AddressSpace) -> None:
        """Starts with none."""
        self._vm = vm
        self._space = space
        self._lock = threading.Lock()
        self._bells: list[BellTrap] = []
        self._doorbells: set[Doorbell] = set()

    def set(self, call: str, kind: int, addr: int, size: int, port: PortDispatcher | None, key: int) -> None:
        """Traps accesses; see zx_guest_set_trap for arguments and errors. The caller holds the guest."""
        _check_arguments(call, kind, addr, size, port)
        if kind == ZX_GUEST_TRAP_IO:
            self._set_io(call, addr, size, key)
            return
        if addr % PAGE_SIZE or size % PAGE_SIZE:
            raise InvalidArgsError(call, f"{addr:#x} + {size:#x} are no whole pages")
        if addr + size > self._space.size:
            raise InvalidArgsError(call, f"the guest's address space ends at {self._space.size:#x}")
        with self._lock:
            if self._vm.has_range(SPACE_MEMORY, addr, size):
                raise AlreadyExistsError(call, f"{addr:#x}..{addr + size:#x} overlaps another trap or bell")
            if port is None:
                self._take_out(call, addr, size, lambda: self._vm.add_range(SPACE_MEMORY, addr, size, key))
            else:
                self._set_bell(call, addr, size, port, key)

    def _set_io(self, call: str, addr: int, size: int, key: int) -> None:
        if addr + size > _IO_PORTS:
            raise OutOfRangeError(call, f"ports {addr:#x}..{addr + size:#x} end above {_IO_PORTS:#x}")
        with self._lock:
            if self._vm.has_range(SPACE_IO, addr, size):
                raise AlreadyExistsError(call, "another trap covers one of these ports")
            try:
                self._vm.add_range(SPACE_IO, addr, size, key)
            except OSError as error:
                raise from_os_error(call, error) from error

    def _set_bell(self, call: str, addr: int, size: int, port: PortDispatcher, key: int) -> None:
        bell = BellTrap(call, self._vm, addr, port, key)
        self._bells.append(bell)
        try:
            self._take_out(call, addr, size, lambda: self._vm.add_bell_range(addr, size, bell.kvm.struct))
        except BaseException:
            if not self._vm.has_range(SPACE_MEMORY, addr, size):  # else a Ctrl-C came behind the claim: it is set
                self._bells.remove(bell)
                bell.close()
            raise

    def connect(self, call: str, addr: int, interrupt: InterruptDispatcher) -> None:
        """Lets stores to an address fire an interrupt; the caller holds guest and interrupt.

        Raises:
            InvalidArgsError: The address is outside the guest's address space.
            AlreadyExistsError: A trap or a doorbell is there.
            CanceledError: The interrupt was destroyed.
            ZxError: No memory slot is left, or what the kernel answered.
        """
        if addr >= self._space.size:
            raise InvalidArgsError(call, f"the guest's address space ends at {self._space.size:#x}")
        doorbell = Doorbell(self._vm, addr, interrupt, self._forget)
        try:
            interrupt.add_doorbell(call, doorbell)
            with self._lock:
                if self._vm.has_range(SPACE_MEMORY, addr, 1):
                    raise AlreadyExistsError(call, f"a trap or another bell is at {addr:#x}")
                self._doorbells.add(doorbell)
                page = addr & -PAGE_SIZE
                doorbell.connect(call, lambda claim: self._take_out(call, page, PAGE_SIZE, claim))
        except BaseException:
            doorbell.end()
            raise

    def _forget(self, doorbell: Doorbell) -> None:
        with self._lock:
            self._doorbells.discard(doorbell)

    def _take_out(self, call: str, addr: int, size: int, claim: Callable[[], None]) -> None:
        """Takes pages out of guest memory and claims their accesses, between two instructions of every VCPU."""

        def unmap_and_claim() -> None:
            self._space.unmap(call, addr, size)
            try:
                claim()  # the last step: no VCPU ever finds a range that is then taken back
            except OSError as error:
                raise from_os_error(call, error) from error

        self._vm.while_paused(unmap_and_claim)

    def end(self) -> None:
        """Ends doorbells and bells, whose packets are gone from their ports. No VCPU is left; the VM is still open."""
        with self._lock:
            doorbells = list(self._doorbells)
        for doorbell in doorbells:
            doorbell.end()
        for bell in self._bells:
            bell.close()


def _check_arguments(call: str, kind: int, addr: int, size: int, port: PortDispatcher | None) -> None:
    if not size:
        raise InvalidArgsError(call, "size is 0")
    if addr + size >= _U64_END:
        raise OutOfRangeError(call, f"{addr:#x} + {size:#x} does not fit into 64 bits")
    if kind not in (ZX_GUEST_TRAP_BELL, ZX_GUEST_TRAP_MEM, ZX_GUEST_TRAP_IO):
        raise InvalidArgsError(call, f"kind {kind} is unknown")
    if (port is not None) != (kind == ZX_GUEST_TRAP_BELL):
        raise InvalidArgsError(call, "a bell trap needs a port; memory and I/O traps take none")
