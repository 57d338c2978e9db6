"""What fires an interrupt: an eventfd, and which part of its count kvmbind itself has written."""

from __future__ import annotations

import contextlib

from kvmbind.abi.errors import NotSupportedError, WrongTypeError, from_os_error
from kvmbind.kvm.eventfd import EventFd, kind_of


class Source:
    """An interrupt's eventfd. It has a count exactly while a trigger has not been consumed.

    A level source has a second one, `eoi`: its count are the ends of interrupt, after each of which a device that still
    asserts its line fires again.

    Threads: the interrupt's `state_lock` guards `write` and `drain`; writers outside need no lock.
    """

    __slots__ = ("_written", "eoi", "eventfd")

    def __init__(self, call: str, fd: int | None, *, level: bool = False) -> None:
        """Makes an eventfd, or duplicates one that somebody else writes.

        Args:
            call: Named in errors.
            fd: The other's eventfd, which stays open; None makes one.
            level: Whether it is level-triggered.

        Raises:
            WrongTypeError: `fd` is no eventfd.
            NotSupportedError: It is an EFD_SEMAPHORE.
            ZxError: No fd is left, or `fd` is not open.
        """
        try:
            self.eventfd = EventFd.create() if fd is None else _duplicate(call, fd)
            self.eoi = EventFd.create() if level else None
        except OSError as error:
            raise from_os_error(call, error) from error
        self._written = 0

    def write(self) -> None:
        """Adds one; a full counter is readable all the same."""
        with contextlib.suppress(BlockingIOError):
            self.eventfd.add()
            self._written += 1

    def drain(self) -> bool:
        """Takes the count; returns whether anybody else had written."""
        written, self._written = self._written, 0
        return self.eventfd.drain() > written

    def give_back(self) -> None:
        """Puts an outside write back that `drain` took and nobody has seen."""
        self.eventfd.add()

    def hand_over(self) -> None:
        """From now on the kernel consumes what is written."""
        self._written = 0

    def end_of_interrupt(self) -> None:
        """Tells a level source's device that it may fire again; what Zircon does by unmasking the line."""
        if self.eoi is not None:
            with contextlib.suppress(BlockingIOError):  # a full counter is readable all the same
                self.eoi.add()

    def close(self) -> None:
        """Closes its fds."""
        self.eventfd.close()
        if self.eoi is not None:
            self.eoi.close()


def _duplicate(call: str, fd: int) -> EventFd:
    kind = kind_of(fd)
    if not kind:
        raise WrongTypeError(call, f"fd {fd} is not an eventfd")
    if kind == "semaphore":
        raise NotSupportedError(call, f"fd {fd} is an EFD_SEMAPHORE eventfd: KVM would deliver one write many times")
    return EventFd.duplicate(fd)
