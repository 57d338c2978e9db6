"""Bell traps: stores of a guest that come to a port as packets."""

from __future__ import annotations

import contextlib
import errno
import threading
from typing import TYPE_CHECKING

from kvmbind.abi.errors import AlreadyExistsError, from_os_error
from kvmbind.kvm.bell import Bell

if TYPE_CHECKING:
    from kvmbind.kvm.vm import Vm
    from kvmbind.zircon.port import PortDispatcher


class BellTrap:
    """A bell, whose rings come to a port as packets with a key. It holds the port until it is silent.

    Threads: any thread may call any method. `_end` orders the two ends that it has, the port's and the guest's, and may
    be held over kernel calls that sleep.
    """

    __slots__ = ("_end", "_port", "_silent", "kvm")

    def __init__(self, call: str, vm: Vm, addr: int, port: PortDispatcher, key: int) -> None:
        """Makes packets of stores to `addr`, and of those that the VM's run loop finds in the bell's range.

        Raises:
            AlreadyExistsError: Another ioeventfd is at the address.
            BadHandleError: The port was closed at the same time.
            ZxError: No fd is left.
        """
        self._end = threading.Lock()
        self._port = port
        self._silent = False
        with contextlib.ExitStack() as undo:
            try:
                self.kvm = Bell(vm, addr)
                undo.callback(self.kvm.close)
                undo.callback(self.kvm.disconnect)
                self.kvm.connect()
            except OSError as error:
                if error.errno == errno.EEXIST:
                    raise AlreadyExistsError(call, f"an interrupt is fired by stores to {addr:#x}") from error
                raise from_os_error(call, error) from error
            port.hold()
            undo.callback(port.drop)
            undo.callback(port.remove_bell, self)
            port.add_bell(call, self, key)
            undo.pop_all()

    @property
    def fd(self) -> int:
        """Readable while a packet waits."""
        return self.kvm.fd

    def silence(self) -> None:
        """Drops the packets that wait; each further ring is an exit, and BAD_STATE. Again it does nothing."""
        with self._end:
            if self._silent:
                return
            self._silent = True
            self._port.remove_bell(self)
            self.kvm.silence()
            self.kvm.disconnect()
        self._port.drop()

    def close(self) -> None:
        """Closes the fds, when no VCPU can ring it any more."""
        self.silence()
        self.kvm.close()
