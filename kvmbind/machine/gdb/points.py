"""Where a guest is to stop, and which of these places a debug register watches."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from kvmbind.kvm.registers import Breakpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

_REGISTERS = 4
_LENGTHS = (1, 2, 4, 8)


class Kind(IntEnum):
    """What gdb's Z packets ask for."""

    SOFTWARE = 0  # a breakpoint too: nothing is ever written into the guest
    HARDWARE = 1
    WRITE = 2
    READ = 3  # processors stop at writes as well
    ACCESS = 4

    @property
    def is_breakpoint(self) -> bool:
        """Whether it stops before an instruction, not behind an access."""
        return self in (Kind.SOFTWARE, Kind.HARDWARE)


class Point(NamedTuple):
    """A breakpoint, or a watched range. `addr` is linear; `length` in bytes counts for a watched range only."""

    kind: Kind
    addr: int
    length: int

    @property
    def register(self) -> Breakpoint | None:
        """What a debug register has to hold for it; None: no single one can."""
        if self.kind.is_breakpoint:
            return Breakpoint(self.addr)
        if self.length not in _LENGTHS or self.addr % self.length:
            return None
        length = cast("Literal[1, 2, 4, 8]", self.length)
        return Breakpoint(self.addr, "write" if self.kind is Kind.WRITE else "access", length)


class DebugSupport(NamedTuple):
    """What the debug registers of a processor really stop for."""

    breakpoints: bool = True
    watched: bool = True


class Points:
    """A set of points. The debug registers go to those that cannot do without, then to the oldest.

    For the others the guest has to be single-stepped, comparing: where it is, or what is in the watched range. Reads
    cannot be found out that way.
    """

    def __init__(self, support: DebugSupport) -> None:
        """Starts with none."""
        self._support = support
        self._points: dict[Point, None] = {}
        self._placed: dict[Breakpoint, Point] = {}

    def insert(self, point: Point) -> bool:
        """Adds one; it may be there already. Returns whether it can be had; nothing changes otherwise."""
        before = dict(self._points)
        self._points[point] = None
        self._place()
        if all(self._is_comparable(other) for other in self._unplaced()):
            return True
        self._points = before
        self._place()
        return False

    def remove(self, point: Point) -> None:
        """Takes one away, if it is there."""
        self._points.pop(point, None)
        self._place()

    def clear(self) -> None:
        """Takes all away."""
        self._points.clear()
        self._place()

    def _place(self) -> None:
        self._placed = {}
        for point in sorted(self._points, key=self._is_comparable):
            supported = self._support.breakpoints if point.kind.is_breakpoint else self._support.watched
            register = point.register if supported else None
            if register is not None and len(self._placed) < _REGISTERS:
                self._placed.setdefault(register, point)

    def _is_comparable(self, point: Point) -> bool:
        return point.kind not in (Kind.READ, Kind.ACCESS)

    def _unplaced(self) -> Iterator[Point]:
        return (point for point in self._points if point.register not in self._placed)

    @property
    def registers(self) -> list[Breakpoint]:
        """What the debug registers are to hold while the guest runs."""
        return list(self._placed)

    @property
    def watching(self) -> list[Breakpoint]:
        """Those of them that watch data, which stop behind the access and so never in front of an instruction."""
        return [register for register in self._placed if register.condition != "execute"]

    @property
    def needs_stepping(self) -> bool:
        """Whether there are more than debug registers can hold."""
        return next(self._unplaced(), None) is not None

    @property
    def compared(self) -> list[Point]:
        """The watched ranges that no debug register watches."""
        return [point for point in self._unplaced() if not point.kind.is_breakpoint]

    def breakpoint_at(self, addr: int) -> Point | None:
        """Returns the breakpoint there, or None."""
        return next((point for point in self._points if point.kind.is_breakpoint and point.addr == addr), None)

    def of_register(self, register: Breakpoint) -> Point | None:
        """Returns the point that a debug register stands for, or None."""
        return self._placed.get(register)
