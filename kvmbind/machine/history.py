"""The last exits of a machine, and how an exit is written down."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.machine.bios import services

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.machine.bios.call import Call

KEPT = 16


class PortExit(NamedTuple):
    """An IN or OUT."""

    port: int
    size: int
    is_write: bool
    value: int
    is_open: bool

    def __str__(self) -> str:
        """Returns one line: "out 3f8 <- 41"."""
        digits = 2 * self.size
        value = f"{self.value & (1 << 8 * self.size) - 1:0{digits}x}"
        nobody = " (nobody there)" if self.is_open else ""
        return f"{'out' if self.is_write else 'in '} {self.port:03x} {'<-' if self.is_write else '->'} {value}{nobody}"


class MemoryExit(NamedTuple):
    """An access to an address where no memory is."""

    addr: int
    size: int
    is_write: bool
    value: int

    def __str__(self) -> str:
        """Returns one line: "write d0000 <- 41"."""
        arrow = "<-" if self.is_write else "->"
        digits = 2 * self.size
        return f"{'write' if self.is_write else 'read '} {self.addr:x} {arrow} {self.value:0{digits}x}"


class BiosExit(NamedTuple):
    """A call of a BIOS service, by its registers at the beginning."""

    vector: int
    function: int
    registers: tuple[int, ...]  # eax ebx ecx edx esi edi ds es ebp esp
    cs: int
    ip: int

    @classmethod
    def of(cls, call: Call) -> BiosExit:
        """Returns what a call is."""
        registers = (call.eax, call.ebx, call.ecx, call.edx, call.esi, call.edi, call.ds, call.es, call.ebp, call.sp)
        return cls(call.vector, call.ah, registers, call.cs, call.ip)

    def __str__(self) -> str:
        """Returns one line: "INT 10/0E teletype ax=0e41 ... from 0000:7c05"."""
        names = ("ax", "bx", "cx", "dx", "si", "di", "ds", "es")
        values = " ".join(f"{name}={value & 0xFFFF:04x}" for name, value in zip(names, self.registers, strict=False))
        return f"INT {services.name(self.vector, self.function)} {values} from {self.cs:04x}:{self.ip:04x}"


Event = PortExit | MemoryExit | BiosExit


class History:
    """The last exits, and how many there were of each kind.

    Threads: it belongs to whoever has the PC's lock; another may read when that has ended.

    Attributes:
        on_event: Called with each exit, or None.
        counts: How many of each kind there were.
    """

    __slots__ = ("_last", "counts", "on_event")

    def __init__(self) -> None:
        """Starts empty."""
        self._last: deque[Event] = deque(maxlen=KEPT)
        self.counts = {PortExit: 0, MemoryExit: 0, BiosExit: 0}
        self.on_event: Callable[[Event], object] | None = None

    def add(self, event: Event) -> None:
        """Adds an exit."""
        self._last.append(event)
        self.counts[type(event)] += 1
        if self.on_event is not None:
            self.on_event(event)

    def lines(self) -> list[str]:
        """Returns the last exits, the oldest first, one line each."""
        return [str(event) for event in self._last]
