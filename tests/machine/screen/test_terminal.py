"""The terminal is put back as it was, whatever ends the block."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING

import pyte
import pytest

from kvmbind.machine.screen.terminal import (
    EIGHT,
    ENTER,
    LEAVE,
    SIXTEEN,
    TRUECOLOUR,
    XTERM,
    Terminal,
    is_usable,
    look,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 60


class Pty:
    """A pseudo-terminal: what a program has as its terminal, and the side where people look and type."""

    def __init__(self) -> None:
        self.person, self.program = pty.openpty()

    def close(self) -> None:
        os.close(self.person)
        os.close(self.program)

    def output(self, end: bytes) -> bytes:
        """What the program has written, up to `end`."""
        data = b""
        while not data.endswith(end):
            assert select.select([self.person], [], [], DEADLINE_S)[0], data
            data += os.read(self.person, 4096)
        return data


@pytest.fixture
def terminal() -> Iterator[Pty]:
    made = Pty()
    yield made
    made.close()


def local_flags(fd: int) -> int:
    flags = termios.tcgetattr(fd)[3]
    assert isinstance(flags, int)
    return flags


def test_inside_keys_arrive_at_once_and_unechoed(terminal: Pty) -> None:
    with Terminal(terminal.program, terminal.program):
        assert terminal.output(ENTER) == ENTER
        os.write(terminal.person, b"a\r\x1a\x1c\x13")
        assert os.read(terminal.program, 5) == b"a\r\x1a\x1c\x13"
        assert local_flags(terminal.program) & termios.ISIG
    assert terminal.output(LEAVE) == LEAVE


def raise_in_raw_mode(terminal: Pty, error: type[BaseException], before: list[object]) -> None:
    assert termios.tcgetattr(terminal.program) != before
    raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_block_all_is_as_before(terminal: Pty, error: type[BaseException]) -> None:
    before: list[object] = [*termios.tcgetattr(terminal.program)]
    with pytest.raises(error), Terminal(terminal.program, terminal.program):
        raise_in_raw_mode(terminal, error, before)
    assert termios.tcgetattr(terminal.program) == before
    assert terminal.output(LEAVE).endswith(LEAVE)


def test_a_vt_interpreter_sees_a_clean_screen_that_wraps_and_a_cursor(terminal: Pty) -> None:
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)
    with Terminal(terminal.program, terminal.program) as taken:
        taken.write(b"\x1b[31mguest\x1b[?25l")
    stream.feed(terminal.output(LEAVE))
    assert not screen.cursor.hidden
    assert screen.cursor.attrs.fg == "default"
    assert pyte.modes.DECAWM in screen.mode


def test_what_is_not_a_terminal_is_an_error_and_left_alone() -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="Inappropriate ioctl"), Terminal(reader, writer):
        pass
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_terminal_that_goes_away_inside_is_no_error() -> None:
    gone = Pty()
    with Terminal(gone.program, gone.program):
        os.close(gone.person)
    os.close(gone.program)


def test_the_size_is_the_terminals_as_it_is_now(terminal: Pty) -> None:
    taken = Terminal(terminal.program, terminal.program)
    assert taken.size() == (80, 24)  # a new pseudo-terminal does not know
    termios.tcsetwinsize(terminal.program, (30, 100))
    assert taken.size() == (100, 30)
    reader, writer = os.pipe()
    assert Terminal(reader, writer).size() == (80, 24)
    os.close(reader)
    os.close(writer)


def test_a_slow_terminal_gets_all_of_it(terminal: Pty) -> None:
    os.set_blocking(terminal.program, False)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(terminal.output(b"end")))
    reader.start()
    Terminal(terminal.program, terminal.program).write(b"x" * 200_000 + b"end")
    reader.join(DEADLINE_S)
    assert seen == [b"x" * 200_000 + b"end"]


DRIVER = """
import os, time
from kvmbind.machine.screen.terminal import Terminal
with Terminal(0, 1):
    os.write(2, b"ready")
    while True:  # Python sees a signal that comes in front of a sleep only behind it
        time.sleep(0.05)
"""


def start_driver(terminal: Pty, before: str = "") -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", before + DRIVER],
        stdin=terminal.program,
        stdout=terminal.program,
        stderr=subprocess.PIPE,
        start_new_session=bool(before),
    )
    assert child.stderr is not None
    assert os.read(child.stderr.fileno(), 5) == b"ready"
    child.stderr.close()
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_ends_the_process_leaves_the_terminal_sane(terminal: Pty, number: signal.Signals) -> None:
    before = termios.tcgetattr(terminal.program)
    child = start_driver(terminal)
    child.send_signal(number)
    assert terminal.output(LEAVE).startswith(ENTER)
    assert child.wait(DEADLINE_S) == -number
    assert termios.tcgetattr(terminal.program) == before


def test_ctrl_c_typed_at_the_terminal_interrupts(terminal: Pty) -> None:
    child = start_driver(terminal, "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n")
    os.write(terminal.person, b"\x03")
    terminal.output(LEAVE)
    assert child.wait(DEADLINE_S) == -signal.SIGINT


def test_a_signal_that_the_program_handles_stays_its_own(terminal: Pty) -> None:
    seen = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with Terminal(terminal.program, terminal.program):
            os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, old)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("environ", "colours", "is_unicode"),
    [
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8"}, XTERM, True),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.utf8"}, TRUECOLOUR, True),
        ({"TERM": "screen", "COLORTERM": "24bit"}, TRUECOLOUR, False),
        ({"TERM": "linux", "LANG": "de_DE.UTF-8", "LC_ALL": "C"}, SIXTEEN, False),
        ({"TERM": "vt220", "LC_CTYPE": "C.UTF-8"}, EIGHT, True),
        ({}, SIXTEEN, False),
    ],
)
def test_what_a_terminal_can_show_is_in_the_environment(
    environ: dict[str, str], colours: int, is_unicode: bool
) -> None:
    assert look(environ) == (colours, is_unicode)


def test_a_pipe_and_a_dumb_terminal_are_not_usable(terminal: Pty) -> None:
    reader, writer = os.pipe()
    assert not is_usable(writer, {"TERM": "xterm"})
    os.close(reader)
    os.close(writer)
    assert is_usable(terminal.program, {"TERM": "xterm"})
    for term in ("dumb", "unknown", ""):
        assert not is_usable(terminal.program, {"TERM": term})
    assert not is_usable(terminal.program, {})
