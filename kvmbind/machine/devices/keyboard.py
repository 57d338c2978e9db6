"""The keyboard controller: ports 60h and 64h."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.machine.ending import Reason

if TYPE_CHECKING:
    from kvmbind.machine.host import Host
    from kvmbind.machine.keys import Key

DATA, COMMAND = 0x60, 0x64
LINE = 1
_FULL, _SYSTEM, _NOT_LOCKED = 0x01, 0x04, 0x10
_ACKNOWLEDGE, _SELF_TEST_OK, _CONTROLLER_OK = 0xFA, 0xAA, 0x55
_A20_ON = 0xDF
_TRANSLATE_AND_INTERRUPT = 0x65
_QUEUE_MAX = 64
_PAUSE_NS = 2_000_000


class Code(NamedTuple):
    """A byte that the keyboard sends, and what the BIOS makes of it, if it makes anything."""

    scancode: int
    key: Key | None = None


class KeyboardController:
    """The controller, and the keyboard behind it. A code waits until the one before has been read.

    Threads: it belongs to whoever has the PC's lock.

    Attributes:
        last: The code that port 60h has.
    """

    __slots__ = ("_host", "_is_full", "_is_pausing", "_pending", "_queue", "_ram", "last")

    def __init__(self, host: Host) -> None:
        """Starts with nothing to read."""
        self._host = host
        self._queue: deque[Code] = deque()
        self._is_full = False
        self._is_pausing = False  # between a read and the next code
        self._pending = 0  # the command whose data comes next
        self._ram = _TRANSLATE_AND_INTERRUPT
        self.last = Code(0)

    @property
    def is_idle(self) -> bool:
        """Whether every code has been read."""
        return not self._is_full and not self._queue

    def send(self, scancode: int, key: Key | None = None) -> None:
        """Sends a code from the keyboard; a full queue loses it, as a keyboard's does."""
        if len(self._queue) < _QUEUE_MAX:
            self._queue.append(Code(scancode, key))
        if not self._is_pausing:
            self._load()

    def take(self) -> Code:
        """Reads the code that port 60h has, as the BIOS's interrupt handler does."""
        if self._is_full:
            self._is_full = False
            self._is_pausing = True
            # Not at once: a program's handler that reads the port may go on to the BIOS's, which reads it again.
            self._host.call_at(self._host.now_ns() + _PAUSE_NS, self._load)
        return self.last

    def _load(self) -> None:
        self._is_pausing = False
        if not self._is_full and self._queue:
            self.last = self._queue.popleft()
            self._is_full = True
            if self._ram & 1:
                self._host.raise_line(LINE)

    def read(self, port: int, size: int) -> int:
        """60h: the code; 64h: the status."""
        if port == DATA:
            return self.take().scancode
        return _SYSTEM | _NOT_LOCKED | (_FULL if self._is_full else 0)

    def write(self, port: int, size: int, value: int) -> None:
        """64h: a command; 60h: its data, or a command for the keyboard."""
        if port == COMMAND:
            self._pending = 0
            if value in (0x60, 0xD1, 0xD2, 0xD3, 0xD4):
                self._pending = value
            elif value == 0x20:
                self._answer(self._ram)
            elif value == 0xAA:
                self._answer(_CONTROLLER_OK)
            elif value == 0xAB:
                self._answer(0)
            elif value == 0xD0:
                self._answer(_A20_ON)
            elif value & 0xF1 == 0xF0:  # pulses the reset line: FEh and its like
                self._host.end(Reason.REBOOT, detail="by the keyboard controller")
            return
        command, self._pending = self._pending, 0
        if command == 0x60:
            self._ram = value
        elif command == 0xD1 and not value & 1:
            self._host.end(Reason.REBOOT, detail="by the keyboard controller")
        elif command == 0xD2:
            self._answer(value)
        elif not command:
            self._answer(_ACKNOWLEDGE)
            if value == 0xFF:
                self._answer(_SELF_TEST_OK)

    def _answer(self, value: int) -> None:
        if len(self._queue) < _QUEUE_MAX:
            self._queue.append(Code(value))
        if not self._is_pausing:
            self._load()
