"""Doorbells: stores of a guest that fire an interrupt, with no user-space code in between."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

from kvmbind.abi.errors import AlreadyExistsError, CanceledError, from_os_error
from kvmbind.kvm.vm import SPACE_MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.kvm.vm import Vm
    from kvmbind.zircon.interrupt import InterruptDispatcher


class Doorbell:
    """An ioeventfd of a VM on an interrupt's eventfd. It holds neither: whichever ends first ends it.

    Threads: any thread may call any method. `_change` orders its beginning and its end and is held over kernel calls;
    both the guest and the interrupt call `end` before they close an fd.
    """

    __slots__ = ("_addr", "_change", "_forget", "_interrupt", "_is_claimed", "_is_ended", "_vm")

    def __init__(self, vm: Vm, addr: int, interrupt: InterruptDispatcher, forget: Callable[[Doorbell], None]) -> None:
        """Keeps the facts; `connect` does the work, `end` undoes what of it was done.

        Args:
            vm: Whose stores fire.
            addr: Guest-physical, where they go to.
            interrupt: What they fire.
            forget: Called when it has ended, outside all locks.
        """
        self._vm = vm
        self._addr = addr
        self._interrupt = interrupt
        self._forget = forget
        self._change = threading.Lock()
        self._is_claimed = False
        self._is_ended = False

    def connect(self, call: str, take_out: Callable[[Callable[[], None]], None]) -> None:
        """Lets stores to the address fire the interrupt.

        Args:
            call: Named in errors.
            take_out: Takes the page out of guest memory and calls what it is given.

        Raises:
            AlreadyExistsError: Another ioeventfd is at the address.
            CanceledError: The interrupt was destroyed meanwhile.
            ZxError: What `take_out` raises, or the kernel answered.
        """
        with self._change:
            if self._is_ended:
                raise CanceledError(call, "the interrupt was destroyed")
            try:
                self._vm.assign_ioeventfd(self._interrupt.eventfd.fd, self._addr)
            except OSError as error:
                if error.errno == errno.EEXIST:
                    raise AlreadyExistsError(call, f"another bell is at {self._addr:#x}") from error
                raise from_os_error(call, error) from error
            take_out(self._claim)

    def _claim(self) -> None:
        self._is_claimed = True
        self._vm.reserve(self._addr)

    def end(self) -> None:
        """Takes the ioeventfd off: when it returns no store fires any more. Again it does nothing."""
        with self._change:
            if self._is_ended:
                return
            self._vm.deassign_ioeventfd(self._interrupt.eventfd.fd, self._addr)
            if self._is_claimed:
                self._vm.remove_range(SPACE_MEMORY, self._addr)
            self._is_ended = True
        self._forget(self)
        self._interrupt.forget_doorbell(self)
