"""Which points the debug registers get."""

from __future__ import annotations

from kvmbind.kvm.registers import Breakpoint
from kvmbind.machine.gdb.points import DebugSupport, Kind, Point, Points


def breakpoint(addr: int, kind: Kind = Kind.SOFTWARE) -> Point:
    return Point(kind, addr, 0)


def test_four_breakpoints_have_registers_and_the_fifth_is_stepped_for() -> None:
    points = Points(DebugSupport())
    for addr in range(4):
        assert points.insert(breakpoint(addr))
    assert not points.needs_stepping
    assert points.insert(breakpoint(4))
    assert points.needs_stepping
    assert points.registers == [Breakpoint(addr) for addr in range(4)]
    assert [points.breakpoint_at(addr) for addr in (4, 5)] == [breakpoint(4), None]
    points.remove(breakpoint(0))
    assert not points.needs_stepping


def test_two_breakpoints_at_one_address_share_a_register() -> None:
    points = Points(DebugSupport())
    points.insert(breakpoint(1))
    points.insert(breakpoint(1, Kind.HARDWARE))
    assert points.registers == [Breakpoint(1)]
    assert not points.needs_stepping


def test_a_watched_read_takes_a_register_from_a_breakpoint_and_without_one_cannot_be_had() -> None:
    points = Points(DebugSupport())
    for addr in range(4):
        points.insert(breakpoint(addr))
    for addr in range(0x100, 0x110, 4):
        assert points.insert(Point(Kind.ACCESS, addr, 4))
    assert points.watching == points.registers == [Breakpoint(addr, "access", 4) for addr in range(0x100, 0x110, 4)]
    assert points.needs_stepping
    assert not points.insert(Point(Kind.READ, 0x200, 1))
    assert not points.insert(Point(Kind.ACCESS, 0x201, 2))
    assert points.of_register(Breakpoint(0x100, "access", 4)) == Point(Kind.ACCESS, 0x100, 4)


def test_a_watched_write_that_no_register_can_express_is_compared() -> None:
    points = Points(DebugSupport())
    assert points.insert(Point(Kind.WRITE, 0x101, 6))
    assert points.registers == []
    assert points.compared == [Point(Kind.WRITE, 0x101, 6)]
    points.clear()
    assert not points.needs_stepping


def test_what_the_processor_does_not_watch_is_stepped_for() -> None:
    points = Points(DebugSupport(breakpoints=False, watched=False))
    assert points.insert(breakpoint(1))
    assert points.insert(Point(Kind.WRITE, 4, 4))
    assert not points.insert(Point(Kind.ACCESS, 8, 4))
    assert points.registers == []
    assert points.needs_stepping
