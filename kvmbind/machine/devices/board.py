"""The small devices of a mainboard: a port or two each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.ending import Reason

if TYPE_CHECKING:
    from kvmbind.machine.host import Host


class SpeakerPort:
    """61h: the speaker, which is not heard. Bit 4 turns over with each read, as memory refresh makes it."""

    PORTS = (0x61,)
    _WRITABLE = 0x0F
    _REFRESH, _TIMER_OUT = 0x10, 0x20

    __slots__ = ("_value",)

    def __init__(self) -> None:
        """Starts silent."""
        self._value = 0

    def read(self, port: int, size: int) -> int:
        """The bits that were written, refresh, and the second timer's output, which turns over too."""
        self._value ^= self._REFRESH
        if not self._value & self._REFRESH:
            self._value ^= self._TIMER_OUT
        return self._value

    def write(self, port: int, size: int, value: int) -> None:
        """Bits 0 to 3."""
        self._value = self._value & ~self._WRITABLE | value & self._WRITABLE


class SystemControlPort:
    """92h: bit 1 is line A20, on for good; bit 0 resets."""

    PORTS = (0x92,)

    __slots__ = ("_host", "_value")

    def __init__(self, host: Host) -> None:
        """Starts with A20 on."""
        self._host = host
        self._value = 0x02

    def read(self, port: int, size: int) -> int:
        """What was written."""
        return self._value

    def write(self, port: int, size: int, value: int) -> None:
        """Bit 0 resets."""
        self._value = value & 0xFE
        if value & 1:
            self._host.end(Reason.REBOOT, detail="by port 92h")


class _WriteOnly:
    """Ports that take something for the machine and give nothing."""

    __slots__ = ("_host",)

    def __init__(self, host: Host) -> None:
        """Takes the machine."""
        self._host = host

    def read(self, port: int, size: int) -> int:
        """Nothing is there to be read."""
        return 0


class DebugExit(_WriteOnly):
    """501h and F4h, by which test programs end: the status is (value << 1) | 1."""

    PORTS = (0xF4, 0x501)

    __slots__ = ()

    def write(self, port: int, size: int, value: int) -> None:
        """Ends the run."""
        status = (value << 1 | 1) & 0xFF
        self._host.end(Reason.DEBUG_EXIT, status, f"{value:#x} written to port {port:#x}")


class ShutdownPort(_WriteOnly):
    """8900h: the word "Shutdown", letter by letter, ends the run."""

    PORTS = (0x8900,)
    _WORD = b"Shutdown"

    __slots__ = ("_seen",)

    def __init__(self, host: Host) -> None:
        """Takes the machine that it ends."""
        super().__init__(host)
        self._seen = b""

    def write(self, port: int, size: int, value: int) -> None:
        """The next letter."""
        self._seen = (self._seen + bytes((value & 0xFF,)))[-len(self._WORD) :]
        if self._seen == self._WORD:
            self._host.end(Reason.DEBUG_EXIT, 0, "Shutdown written to port 0x8900")


class ResetPort(_WriteOnly):
    """CF9h: bit 2 resets. As a dword CF8h is the PCI bus's address, which nobody answers."""

    PORTS = (0xCF9,)

    __slots__ = ()

    def write(self, port: int, size: int, value: int) -> None:
        """Bit 2 resets."""
        if value & 0x04:
            self._host.end(Reason.REBOOT, detail="by port 0xcf9")


class Latch:
    """Ports whose writes are swallowed: 80h (POST and delays), EDh (delays), 3F2h (the floppy's motor)."""

    PORTS = (0x80, 0xED, 0x3F2)

    __slots__ = ("_value",)

    def __init__(self) -> None:
        """Starts with zero."""
        self._value = 0

    def read(self, port: int, size: int) -> int:
        """What was written last."""
        return self._value

    def write(self, port: int, size: int, value: int) -> None:
        """Keeps it."""
        self._value = value


class DebugConsole(_WriteOnly):
    """E9h: a character for whoever watches. A read gives E9h, by which a program finds it."""

    PORTS = (0xE9,)

    __slots__ = ()

    def read(self, port: int, size: int) -> int:
        """That it is there."""
        return 0xE9

    def write(self, port: int, size: int, value: int) -> None:
        """A character."""
        self._host.print_character(value & 0xFF)
