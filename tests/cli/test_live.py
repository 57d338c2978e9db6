"""`kvmbind run` on a terminal: it shows the screen as it changes, takes keys, and leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest

pytestmark = pytest.mark.kvm

IMAGES = Path(__file__).resolve().parents[2] / "examples" / "images"
DEADLINE_S = 100


class Session:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        """Starts it."""
        self.fd, theirs = os.openpty()
        self.before = termios.tcgetattr(theirs)
        command = [sys.executable, "-W", "error", "-m", "kvmbind", "run", *map(str, arguments)]
        environ = os.environ | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
        self.theirs = theirs
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def lines(self) -> list[str]:
        """What the terminal shows, without blanks at the ends."""
        return [line.rstrip() for line in self._screen.display]

    def expect(self, line: str) -> None:
        """Waits until the terminal shows a line."""
        self._wait(lambda shown: shown == line, line)

    def expect_start(self, start: str) -> None:
        """Waits until the terminal shows a line that starts so."""
        self._wait(lambda shown: shown.startswith(start), start)

    def _wait(self, fits: Callable[[str], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not any(map(fits, self.lines)):
            if time.monotonic() > deadline:
                pytest.fail(f"{what!r} did not come; there is {self.lines}")
            self._read()

    def _read(self) -> None:
        readable, _, _ = select.select((self.fd,), (), (), 0.05)
        if readable:
            self._stream.feed(os.read(self.fd, 65536))

    def type(self, keys: bytes) -> None:
        """Types."""
        os.write(self.fd, keys)

    def end(self) -> int:
        """Waits for its end, and returns the exit status."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read()
        return self.process.wait(1)

    def close(self) -> None:
        """Ends it, if it still runs."""
        self.process.kill()
        self.process.wait()
        for fd in (self.fd, self.theirs):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
def echo() -> Iterator[Session]:
    """The example that prints what is typed."""
    session = Session(IMAGES / "echo.bin")
    yield session
    session.close()


def test_what_is_typed_reaches_the_program_and_its_screen_is_shown(echo: Session) -> None:
    echo.expect("Type; Escape ends it.")
    echo.type(b"x")
    echo.expect("x")
    echo.type(b"\x1b")
    assert echo.end() == 0
    assert termios.tcgetattr(echo.theirs) == echo.before
    echo.expect("x")  # the last screen stays, as text
    assert "Type; Escape ends it." in echo.lines


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_the_terminal_as_it_was(echo: Session, number: signal.Signals, status: int) -> None:
    echo.expect("Type; Escape ends it.")
    echo.process.send_signal(number)
    assert echo.end() == status
    assert termios.tcgetattr(echo.theirs) == echo.before


def test_the_last_screen_is_saved_as_an_image_and_the_run_as_a_moving_one(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    png, gif = tmp_path / "last.png", tmp_path / "run.gif"
    command = [sys.executable, "-m", "kvmbind", "run", "--headless", "--screenshot", str(png), "--record", str(gif)]
    subprocess.run([*command, str(IMAGES / "picture.bin")], check=True, timeout=DEADLINE_S, capture_output=True)
    with image.open(png) as opened:
        assert opened.convert("RGB").getpixel((0, 0)) == (0, 255, 130)
    with image.open(gif) as opened:
        assert opened.format == "GIF"


def test_a_trace_waits_until_the_screen_is_given_back() -> None:
    session = Session("--trace", IMAGES / "echo.bin")
    try:
        session.expect("Type; Escape ends it.")
        assert not any("INT " in line for line in session.lines)
        session.type(b"\x1b")
        assert session.end() == 0
        session.expect_start("INT 20 terminate")
    finally:
        session.close()
