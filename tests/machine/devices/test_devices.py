"""The devices behind ports, without a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.machine.devices import board, cmos, vga
from kvmbind.machine.devices.bus import Bus
from kvmbind.machine.ending import Reason
from kvmbind.machine.screen.frames import Picture

if TYPE_CHECKING:
    from tests.machine.conftest import Bench


def test_a_port_that_nobody_has_reads_as_ones_and_is_counted() -> None:
    bus = Bus()
    assert [bus.read(0x999, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    bus.write(0x999, 1, 0)
    assert (bus.reads, bus.writes, bus.is_open(0x999)) == ({0x999: 3}, {0x999: 1}, True)


def test_the_clock_is_in_bcd_and_its_memory_keeps_what_is_written(bench: Bench) -> None:
    clock = cmos.Cmos(bench.host, 32 << 20)

    def register(index: int) -> int:
        clock.write(0x70, 1, index)
        return clock.read(0x71, 1)

    assert [register(index) for index in (4, 2, 0, 0x32, 9, 8, 7, 6)] == [
        *(0x13, 0x14, 0x15),
        *(0x20, 0x26, 0x11, 0x28, 0x07),
    ]
    assert register(0x0D) == 0x80
    assert register(0x17) | register(0x18) << 8 == 31 * 1024
    clock.write(0x70, 2, 0x5A40)
    assert register(0x40) == 0x5A


def test_port_61h_toggles_its_refresh_bit() -> None:
    port = board.SpeakerPort()
    port.write(0x61, 1, 0x03)
    reads = [port.read(0x61, 1) for _ in range(4)]
    assert {value & 3 for value in reads} == {3}
    assert [value >> 4 & 1 for value in reads] == [1, 0, 1, 0]


@pytest.mark.parametrize(("port", "value", "status"), [(0xF4, 0, 1), (0x501, 0x10, 0x21), (0xF4, 0xFF, 0xFF)])
def test_debug_exit_ends_with_an_odd_status(bench: Bench, port: int, value: int, status: int) -> None:
    board.DebugExit(bench.host).write(port, 1, value)
    assert bench.host.ends[0][:2] == (Reason.DEBUG_EXIT, status)


def test_the_word_shutdown_ends_it(bench: Bench) -> None:
    port = board.ShutdownPort(bench.host)
    for letter in b"ShutShutdow":
        port.write(0x8900, 1, letter)
    assert bench.host.ends == []
    port.write(0x8900, 1, ord("n"))
    assert bench.host.ends[0][:2] == (Reason.DEBUG_EXIT, 0)


def test_every_way_to_reset_is_a_reboot(bench: Bench) -> None:
    board.SystemControlPort(bench.host).write(0x92, 1, 0x03)
    board.ResetPort(bench.host).write(0xCF9, 1, 0x06)
    bench.keyboard.write(0x64, 1, 0xFE)
    assert [end[0] for end in bench.host.ends] == [Reason.REBOOT] * 3


def test_the_keyboard_controller_is_polled(bench: Bench) -> None:
    keyboard = bench.keyboard
    assert keyboard.read(0x64, 1) & 1 == 0
    keyboard.send(0x1E)
    keyboard.send(0x9E)
    assert keyboard.read(0x64, 1) & 1 == 1
    assert keyboard.read(0x60, 1) == 0x1E
    assert keyboard.read(0x64, 1) & 1 == 0
    assert keyboard.read(0x60, 1) == 0x1E
    bench.host.pass_time(10_000_000)
    assert keyboard.read(0x60, 1) == 0x9E
    assert bench.host.lines == [1, 1]


def test_the_keyboard_controller_answers_commands(bench: Bench) -> None:
    keyboard = bench.keyboard
    for command, answer in ((0xAA, 0x55), (0xAB, 0x00), (0xD0, 0xDF)):
        keyboard.write(0x64, 1, command)
        assert keyboard.read(0x60, 1) == answer
        bench.host.pass_time(10_000_000)
    keyboard.write(0x64, 1, 0xD1)
    keyboard.write(0x60, 1, 0xDF)
    assert bench.host.ends == []
    keyboard.write(0x60, 1, 0xF4)
    assert keyboard.read(0x60, 1) == 0xFA


def test_the_serial_port_sends_receives_and_interrupts(bench: Bench) -> None:
    serial = bench.serial
    serial.write(0x3FB, 1, 0x83)
    serial.write(0x3F8, 1, 0x0C)
    serial.write(0x3FB, 1, 0x03)
    serial.write(0x3F8, 1, ord("A"))
    assert serial.sent == b"A"
    assert serial.read(0x3FD, 1) == 0x60
    serial.write(0x3F9, 1, 0x01)
    serial.receive(b"xy")
    assert bench.host.lines == [4]
    assert serial.read(0x3FD, 1) & 1
    assert serial.read(0x3FA, 1) & 0x0F == 0x04
    assert bytes((serial.read(0x3F8, 1), serial.read(0x3F8, 1))) == b"xy"
    assert serial.read(0x3FD, 1) == 0x60
    assert serial.read(0x3FA, 1) & 1


def test_the_serial_port_in_loopback_hears_itself(bench: Bench) -> None:
    bench.serial.write(0x3FC, 1, 0x1E)
    bench.serial.write(0x3F8, 1, 0x5A)
    assert bench.serial.read(0x3F8, 1) == 0x5A
    assert bench.serial.sent == b""
    assert bench.serial.read(0x3FE, 1) == 0xD0


@pytest.fixture
def ports(bench: Bench) -> vga.Vga:
    """The VGA's ports."""
    return vga.Vga(bench.video, bench.data)


def test_the_dac_is_written_and_read_by_threes(bench: Bench, ports: vga.Vga) -> None:
    ports.write(0x3C8, 1, 7)
    for level in (1, 2, 3, 4):
        ports.write(0x3C9, 1, level)
    assert bytes(bench.video.colours.dac[21:25]) == b"\1\2\3\4"
    ports.write(0x3C7, 1, 7)
    assert [ports.read(0x3C9, 1) for _ in range(4)] == [1, 2, 3, 4]


def test_the_cursor_registers_are_the_bioss_cursor(bench: Bench, ports: vga.Vga) -> None:
    bench.call(0x10, ah=0x02, dh=2, dl=5)
    ports.write(0x3D4, 1, 0x0F)
    assert ports.read(0x3D5, 1) == 165
    ports.write(0x3D4, 2, 0x010E)
    ports.write(0x3D4, 2, 0x000F)
    assert bench.data.cursor(0) == (3, 16)
    ports.write(0x3D4, 2, 0x200A)
    assert bench.data.cursor_shape >> 8 == 0x20


def test_the_crtcs_other_registers_are_those_of_the_mode_and_shape_its_picture(bench: Bench, ports: vga.Vga) -> None:
    """Mode 13h, its planes apart, 240 rows of them: mode X. Setting the mode anew ends it."""
    bench.call(0x10, ah=0x00, al=0x13)
    ports.write(0x3D4, 1, 0x11)
    assert ports.read(0x3D5, 1) == 0x8E
    ports.write(0x3D5, 1, ports.read(0x3D5, 1) & 0x7F)
    for word in (0x3E07, 0xDF12):
        ports.write(0x3D4, 2, word)
    ports.write(0x3C4, 2, 0x0604)
    frame = bench.video.frame()
    assert isinstance(frame, Picture)
    assert (frame.width, frame.height) == (320, 240)
    bench.call(0x10, ah=0x00, al=0x13)
    frame = bench.video.frame()
    assert isinstance(frame, Picture)
    assert (frame.width, frame.height) == (320, 200)


def test_the_retrace_comes_and_goes(ports: vga.Vga) -> None:
    reads = [ports.read(0x3DA, 1) for _ in range(32)]
    assert {bool(value & 8) for value in reads} == {True, False}
    assert {bool(value & 1) for value in reads} == {True, False}


def test_unchaining_mode_13h_takes_the_aperture_over(bench: Bench, ports: vga.Vga) -> None:
    bench.call(0x10, ax=0x0013)
    ports.write(0x3C4, 2, 0x0604)
    ports.write(0x3C4, 2, 0x0E04)
    assert bench.apertures == [True, False]
