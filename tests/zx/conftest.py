"""Objects for the tests of the zx_* calls: made by those calls, closed when the test is over; and threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_INFO_HANDLE_BASIC,
    ZX_INTERRUPT_VIRTUAL,
    ZX_PORT_BIND_TO_INTERRUPT,
    ZX_VM_PERM_EXECUTE,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_SPECIFIC,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 60
ENTRY = 0x1000
READ_WRITE_EXECUTE = ZX_VM_PERM_READ | ZX_VM_PERM_WRITE | ZX_VM_PERM_EXECUTE


class GuestHandles(NamedTuple):
    """What a guest with memory at 0 consists of."""

    guest: int
    vmar: int
    memory: int


T = TypeVar("T")


class Running:
    """A thread that creates a VCPU and enters it until that fails; `statuses` has what each enter returned."""

    def __init__(self, guest: int, entry: int) -> None:
        self.vcpu = 0
        self.statuses: list[Status] = []
        self._made = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(guest, entry))
        self._thread.start()
        assert self._made.wait(DEADLINE_S)
        assert self.vcpu

    def _run(self, guest: int, entry: int) -> None:
        _, self.vcpu = zx.zx_vcpu_create(guest, 0, entry)
        self._made.set()
        while True:
            self.statuses.append(zx.zx_vcpu_enter(self.vcpu)[0])
            if self.statuses[-1] is not Status.OK:
                return

    def join(self) -> None:
        """Waits for the thread's end."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


class Maker:
    """Makes objects, each with the rights that it has by default, and keeps their handles to close them."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._running: list[Running] = []

    def keep(self, result: tuple[Status, int]) -> int:
        """Returns the handle of a call that made one, which it must have done."""
        status, handle = result
        assert status is Status.OK
        self._kept.append(handle)
        return handle

    def resource(self) -> int:
        """Returns the root resource."""
        return self.keep((Status.OK, zx.get_root_resource()))

    def guest(self, image: bytes = b"", *, memory: int = 1 << 20) -> GuestHandles:
        """Returns a guest with memory at 0, and an image at 1000h of it."""
        status, guest, vmar = zx.zx_guest_create(self.resource(), 0)
        self.keep((status, guest))
        self.keep((status, vmar))
        vmo = self.vmo(memory)
        assert zx.zx_vmo_write(vmo, image, ENTRY) is Status.OK
        self.map(vmar, vmo, 0, memory)
        return GuestHandles(guest, vmar, vmo)

    def vcpu(self, guest: int, entry: int = ENTRY) -> int:
        """Returns the guest's next VCPU, owned by this thread."""
        return self.keep(zx.zx_vcpu_create(guest, 0, entry))

    def running(self, guest: int, entry: int = ENTRY) -> Running:
        """Returns a VCPU that runs on a thread of its own; it is kicked after the test."""
        running = Running(guest, entry)
        self._running.append(running)
        self.keep((Status.OK, running.vcpu))
        return running

    def interrupt(self, vector: int = 0) -> int:
        """Returns a virtual interrupt."""
        return self.keep(zx.zx_interrupt_create(0, vector, ZX_INTERRUPT_VIRTUAL))

    def port(self, options: int = ZX_PORT_BIND_TO_INTERRUPT) -> int:
        """Returns a port that interrupts may be bound to, unless told otherwise."""
        return self.keep(zx.zx_port_create(options))

    def vmo(self, size: int, options: int = 0) -> int:
        """Returns a VMO."""
        return self.keep(zx.zx_vmo_create(size, options))

    def map(self, vmar: int, vmo: int, addr: int, length: int, options: int = READ_WRITE_EXECUTE) -> None:
        """Maps the beginning of a VMO at an address."""
        assert zx.zx_vmar_map(vmar, options | ZX_VM_SPECIFIC, addr, vmo, 0, length) == (Status.OK, addr)

    def with_rights(self, handle: int, rights: int) -> int:
        """Returns a duplicate with only these rights."""
        return self.keep(zx.zx_handle_duplicate(handle, rights))

    def without(self, handle: int, right: int) -> int:
        """Returns a duplicate that lacks a right."""
        status, info = zx.zx_object_get_info(handle, ZX_INFO_HANDLE_BASIC)
        assert status is Status.OK
        assert info.rights & right == right, "it would lack the right anyway"
        return self.with_rights(handle, info.rights & ~right)

    def closed(self) -> int:
        """Returns a handle that was closed."""
        handle = self.port()
        assert zx.zx_handle_close(handle) is Status.OK
        return handle

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        """Waits for a condition that must come true, however slow the machine is."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.001)

    @staticmethod
    def elsewhere(call: Callable[[], T]) -> T:
        """Makes a call on another thread and returns its result."""
        results: list[T] = []
        thread = threading.Thread(target=lambda: results.append(call()))
        thread.start()
        thread.join(DEADLINE_S)
        return results[0]

    def close(self) -> None:
        """Closes what is still open, the last one first."""
        for running in self._running:
            zx.zx_vcpu_kick(running.vcpu)
            running.join()
        zx.zx_handle_close_many(reversed(self._kept))


@pytest.fixture
def make() -> Iterator[Maker]:
    """Makes objects that are closed after the test."""
    maker = Maker()
    yield maker
    maker.close()
