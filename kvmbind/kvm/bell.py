"""A bell: the eventfd that stores of a guest ring, and the queue of what they rang."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind._shim import ffi, lib
from kvmbind.kvm.eventfd import EventFd

if TYPE_CHECKING:
    from kvmbind.kvm.vm import Vm


class Bell:
    """An ioeventfd at one address of a VM, and the rings of other addresses that the run loop has put to its count.

    Threads: any thread may call any method. The owner closes it when no vCPU of the VM can ring it any more.
    """

    __slots__ = ("_addr", "_eventfd", "_room", "_vm", "struct")

    def __init__(self, vm: Vm, addr: int) -> None:
        """Makes it; `connect` gives it stores to `addr`."""
        self._vm = vm
        self._addr = addr
        self._eventfd, self._room = EventFd.create(), EventFd.create()
        self.struct = ffi.new("struct kb_bell *")
        lib.kb_bell_init(self.struct, addr, self._eventfd.fd, self._room.fd)

    @property
    def fd(self) -> int:
        """An eventfd that is readable while a ring waits. Nobody but a `Port` that looks at it reads it."""
        return self._eventfd.fd

    def connect(self) -> None:
        """Lets stores to the address ring it without an exit. EEXIST: an ioeventfd is there."""
        self._vm.assign_ioeventfd(self._eventfd.fd, self._addr)

    def disconnect(self) -> None:
        """Ends that: such stores are exits again. It does nothing if it is not so."""
        self._vm.deassign_ioeventfd(self._eventfd.fd, self._addr)

    def silence(self) -> None:
        """Drops the rings that wait. From now on one by exit makes its vCPU's enter fail with EPIPE."""
        lib.kb_bell_close(self.struct)

    def close(self) -> None:
        """Closes the fds, after `disconnect`."""
        self._room.close()
        self._eventfd.close()
