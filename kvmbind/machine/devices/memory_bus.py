"""The memory bus: which device an address belongs to, where no memory is."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class MemoryDevice(Protocol):
    """A device behind addresses."""

    def read(self, offset: int, size: int, /) -> int:
        """Returns what a read of `size` bytes (1, 2 or 4) gives."""

    def write(self, offset: int, size: int, value: int, /) -> None:
        """Takes what a write of `size` bytes writes."""


class Window(NamedTuple):
    """Addresses of a device."""

    start: int
    end: int
    device: MemoryDevice


class MemoryBus:
    """The devices of a machine that lie at addresses. An access is given to the device where it begins.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        """Starts with no device."""
        self._windows: list[Window] = []

    def attach(self, device: MemoryDevice, start: int, length: int) -> None:
        """Gives a device its addresses; it sees them from 0 on."""
        self._windows.append(Window(start, start + length, device))

    def find(self, addr: int) -> Window | None:
        """Returns whose an address is."""
        for window in self._windows:
            if window.start <= addr < window.end:
                return window
        return None
