"""The clock and its 128 bytes of memory: ports 70h and 71h."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmbind.machine.host import Host

PORTS = (0x70, 0x71)
_INDEX = 0x70
_SECOND, _MINUTE, _HOUR, _WEEKDAY, _DAY, _MONTH, _YEAR, _CENTURY = 0, 2, 4, 6, 7, 8, 9, 0x32
_STATUS_A, _STATUS_B, _STATUS_C, _STATUS_D = 0x0A, 0x0B, 0x0C, 0x0D
_UPDATING, _RATES, _24_HOURS, _BATTERY_OK = 0x80, 0x26, 0x02, 0x80
_BINARY = 0x04
_FLOPPY_TYPES, _EQUIPMENT = 0x10, 0x14
_NS_PER_S, _UPDATE_NS = 1_000_000_000, 244_000


def bcd(number: int) -> int:
    """Returns two decimal digits as two halves of a byte."""
    return number // 10 % 10 << 4 | number % 10


class Cmos:
    """The clock shows the host's local time; the memory keeps what is written.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_host", "_memory", "_selected")

    def __init__(self, host: Host, memory_bytes: int) -> None:
        """Fills the memory in as a BIOS does.

        Args:
            host: For the time.
            memory_bytes: Of the machine.
        """
        self._host = host
        self._selected = 0
        self._memory = bytearray(128)
        self._memory[_STATUS_A], self._memory[_STATUS_B], self._memory[_STATUS_D] = _RATES, _24_HOURS, _BATTERY_OK
        self._memory[_FLOPPY_TYPES], self._memory[_EQUIPMENT] = 0x40, 0x23
        extended_kib = min(max(memory_bytes - (1 << 20), 0) >> 10, 0xFFFF)
        high_blocks = min(max(memory_bytes - (16 << 20), 0) >> 16, 0xFFFF)
        for at, value in ((0x15, 640), (0x17, extended_kib), (0x30, extended_kib), (0x34, high_blocks)):
            self._memory[at : at + 2] = value.to_bytes(2, "little")

    def read(self, port: int, size: int) -> int:
        """71h: the byte that 70h has selected."""
        if port == _INDEX:
            return 0xFF
        return self._time().get(self._selected, self._memory[self._selected])

    def _time(self) -> dict[int, int]:
        year, month, day, hour, minute, second, weekday = self._host.local_time()
        numbers = {_SECOND: second, _MINUTE: minute, _HOUR: hour, _WEEKDAY: weekday + 1}
        numbers |= {_DAY: day, _MONTH: month, _YEAR: year % 100, _CENTURY: year // 100}
        if not self._memory[_STATUS_B] & _BINARY:
            numbers = {register: bcd(number) for register, number in numbers.items()}
        updating = self._host.now_ns() % _NS_PER_S < _UPDATE_NS
        return numbers | {_STATUS_A: self._memory[_STATUS_A] & 0x7F | (_UPDATING if updating else 0)}

    def write(self, port: int, size: int, value: int) -> None:
        """70h selects a byte, 71h writes it; a word to 70h does both."""
        if port == _INDEX:
            self._selected = value & 0x7F
            if size > 1:
                self.write(port + 1, size - 1, value >> 8)
        elif self._selected not in (_STATUS_C, _STATUS_D):
            self._memory[self._selected] = value & 0xFF
