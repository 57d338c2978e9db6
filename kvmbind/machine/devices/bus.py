"""The I/O bus: which device a port belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Device(Protocol):
    """A device behind ports."""

    def read(self, port: int, size: int, /) -> int:
        """Returns what IN of `size` bytes (1, 2 or 4) gives; higher bits are cut off."""

    def write(self, port: int, size: int, value: int, /) -> None:
        """Takes what OUT of `size` bytes writes."""


class Bus:
    """The ports of a machine. Where nobody is, a read gives all ones and a write is lost; both are counted.

    Threads: it belongs to whoever has the PC's lock.

    Attributes:
        reads: How often each port was read.
        writes: How often each port was written.
    """

    __slots__ = ("_devices", "reads", "writes")

    def __init__(self) -> None:
        """Starts with no device."""
        self._devices: dict[int, Device] = {}
        self.reads: dict[int, int] = {}
        self.writes: dict[int, int] = {}

    def attach(self, device: Device, ports: Iterable[int]) -> None:
        """Gives a device its ports."""
        for port in ports:
            assert port not in self._devices, f"port {port:#x} has two devices"
            self._devices[port] = device

    def read(self, port: int, size: int) -> int:
        """Answers an IN."""
        self.reads[port] = self.reads.get(port, 0) + 1
        device = self._devices.get(port)
        return (device.read(port, size) if device else -1) & (1 << 8 * size) - 1

    def write(self, port: int, size: int, value: int) -> None:
        """Takes an OUT."""
        self.writes[port] = self.writes.get(port, 0) + 1
        device = self._devices.get(port)
        if device:
            device.write(port, size, value)

    def is_open(self, port: int) -> bool:
        """Tells whether nobody is behind a port."""
        return port not in self._devices
