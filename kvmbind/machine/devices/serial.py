"""The serial port at 3F8h: a 16550's registers, with a line that is never busy."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.machine.host import Host

FIRST_PORT, PORTS = 0x3F8, 8
LINE = 4
_DATA, _INTERRUPTS, _IDENTITY, _LINE_CONTROL, _MODEM_CONTROL, _LINE_STATUS, _MODEM_STATUS, _SCRATCH = range(8)
_DIVISOR_LATCH, _LOOPBACK = 0x80, 0x10
_RECEIVED, _IDLE = 0x01, 0x60
_CARRIER_AND_READY = 0xB0
_NO_INTERRUPT, _RECEIVE_INTERRUPT, _SEND_INTERRUPT, _FIFOS = 0x01, 0x04, 0x02, 0xC0
_WANTS_RECEIVE, _WANTS_SEND = 0x01, 0x02
_QUEUE_MAX = 4096


class SerialPort:
    """A 16550. What the guest sends goes to `on_send` at once; what comes in waits until it is read.

    Threads: it belongs to whoever has the PC's lock.

    Attributes:
        sent: All that was sent so far.
        on_send: Called with each byte, or None.
    """

    __slots__ = ("_divisor", "_host", "_received", "_registers", "_sending", "on_send", "sent")

    def __init__(self, host: Host) -> None:
        """Starts idle."""
        self._host = host
        self._registers = bytearray(8)
        self._divisor = bytearray(b"\x01\x00")
        self._received: deque[int] = deque()
        self._sending = False  # the interrupt for an empty transmitter is due
        self.sent = bytearray()
        self.on_send: Callable[[int], object] | None = None

    def send(self, byte: int) -> None:
        """Sends a byte to whoever is at the other end."""
        self.sent.append(byte)
        if self.on_send is not None:
            self.on_send(byte)

    def receive(self, data: bytes) -> None:
        """Takes bytes from the other end; what does not fit is lost, as on a line without handshake."""
        self._received.extend(data[: _QUEUE_MAX - len(self._received)])
        self._interrupt()

    def read(self, port: int, size: int) -> int:
        """A register."""
        register = port - FIRST_PORT
        if self._registers[_LINE_CONTROL] & _DIVISOR_LATCH and register < 2:
            return self._divisor[register]
        match register:
            case 0:
                return self._next()
            case 2:
                return self._identity()
            case 5:
                return _IDLE | (_RECEIVED if self._received else 0)
            case 6:
                return self._modem_status()
        return self._registers[register]

    def write(self, port: int, size: int, value: int) -> None:
        """A register."""
        register, value = port - FIRST_PORT, value & 0xFF
        if self._registers[_LINE_CONTROL] & _DIVISOR_LATCH and register < 2:
            self._divisor[register] = value
            return
        if register == _DATA:
            self._transmit(value)
            return
        if register not in (_LINE_STATUS, _MODEM_STATUS):
            self._registers[register] = value
        if register == _INTERRUPTS:
            self._sending = bool(value & _WANTS_SEND)
            self._interrupt()

    def _transmit(self, value: int) -> None:
        if self._registers[_MODEM_CONTROL] & _LOOPBACK:
            self.receive(bytes((value,)))
        else:
            self.send(value)
        self._sending = bool(self._registers[_INTERRUPTS] & _WANTS_SEND)
        self._interrupt()

    def _next(self) -> int:
        byte = self._received.popleft() if self._received else 0
        self._interrupt()
        return byte

    def _identity(self) -> int:
        fifos = _FIFOS if self._registers[_IDENTITY] & 1 else 0
        if self._received and self._registers[_INTERRUPTS] & _WANTS_RECEIVE:
            return fifos | _RECEIVE_INTERRUPT
        if self._sending:
            self._sending = False  # reading it ends it
            return fifos | _SEND_INTERRUPT
        return fifos | _NO_INTERRUPT

    def _modem_status(self) -> int:
        control = self._registers[_MODEM_CONTROL]
        if not control & _LOOPBACK:
            return _CARRIER_AND_READY
        return (control & 1) << 5 | (control & 2) << 3 | (control & 4) << 4 | (control & 8) << 4

    def _interrupt(self) -> None:
        if (self._received and self._registers[_INTERRUPTS] & _WANTS_RECEIVE) or self._sending:
            self._host.raise_line(LINE)
