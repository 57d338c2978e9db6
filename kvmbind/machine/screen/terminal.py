"""A terminal taken over for a while: keys arrive at once and unechoed, the screen is another one, all is put back."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType, TracebackType

# The alternate screen, no wrapping at the right edge, a blank screen. On the Linux console, which has no alternate
# screen, the blank one is what stays.
ENTER = b"\x1b[?1049h\x1b[?7l\x1b[0m\x1b[2J\x1b[H"
LEAVE = b"\x1b[0m\x1b[2J\x1b[H\x1b[?7h\x1b[?25h\x1b[?1049l"

_DEADLY = (signal.SIGTERM, signal.SIGHUP)
_UNUSABLE = ("", "dumb", "unknown")
_FALLBACK = os.terminal_size((80, 24))

EIGHT, SIXTEEN, XTERM, TRUECOLOUR = 8, 16, 256, 1 << 24
_OLD = ("ansi", "vt100", "vt102", "vt220")


class Look(NamedTuple):
    """What a terminal can show."""

    colours: int = SIXTEEN
    is_unicode: bool = True


def is_usable(fd: int, environ: Mapping[str, str]) -> bool:
    """Returns whether `fd` is a terminal that obeys escape sequences."""
    return os.isatty(fd) and environ.get("TERM", "") not in _UNUSABLE


def look(environ: Mapping[str, str]) -> Look:
    """Returns what the terminal can show, as TERM, COLORTERM and the locale's variables say."""
    term = environ.get("TERM", "")
    colours = EIGHT if term in _OLD else SIXTEEN
    if "256color" in term:
        colours = XTERM
    if environ.get("COLORTERM", "") in ("truecolor", "24bit"):
        colours = TRUECOLOUR
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    return Look(colours, locale.upper().replace("-", "").endswith("UTF8"))


class Terminal:
    """A context manager: inside, the terminal is raw but for Ctrl-C, and shows its alternate screen.

    Whatever ends the block puts all back, an exception and Ctrl-C too; so do SIGTERM and SIGHUP before they end the
    process, unless the program handles them itself. Ctrl-Z and Ctrl-backslash arrive as keys.

    Threads: it is entered and left by one thread; any may call `write`, one at a time. Signals are looked after only
    if that thread is the main one.
    """

    __slots__ = ("_handled", "_saved", "in_fd", "out_fd")

    def __init__(self, in_fd: int = 0, out_fd: int = 1) -> None:
        """Takes the fds of the terminal, usually the same one; they stay the caller's."""
        self.in_fd = in_fd
        self.out_fd = out_fd
        self._saved: list[int | list[bytes | int]] | None = None
        self._handled: list[signal.Signals] = []

    def __enter__(self) -> Terminal:
        """Takes the terminal over.

        Raises:
            OSError: `in_fd` is no terminal.
        """
        try:
            self._saved = termios.tcgetattr(self.in_fd)
        except termios.error as error:
            raise OSError(*error.args) from None
        try:
            self._handle_signals()
            termios.tcsetattr(self.in_fd, termios.TCSADRAIN, _raw(self._saved))
            self.write(ENTER)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Puts all back. A terminal that has gone away is no error."""
        self._restore()

    def size(self) -> os.terminal_size:
        """Returns columns and lines now; 80 x 24 if the terminal does not know."""
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self.out_fd)
            if size.columns > 0 and size.lines > 0:
                return size
        return _FALLBACK

    def write(self, data: bytes) -> None:
        """Writes all of `data`, waiting where the terminal is slow."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self.out_fd, left) :]
            except BlockingIOError:  # somebody else has made it non-blocking
                select.select((), (self.out_fd,), ())

    def _handle_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _DEADLY:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._die)
                self._handled.append(number)

    def _die(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        os.kill(os.getpid(), number)

    def _restore(self) -> None:
        saved, self._saved = self._saved, None
        if saved is not None:
            with contextlib.suppress(OSError):
                self.write(LEAVE)
            with contextlib.suppress(termios.error):
                # what is typed ahead, and what the terminal answers, is nobody's any more
                termios.tcsetattr(self.in_fd, termios.TCSAFLUSH, saved)
        while self._handled:
            signal.signal(self._handled.pop(), signal.SIG_DFL)


def _raw(settings: list[int | list[bytes | int]]) -> list[int | list[bytes | int]]:
    """Bytes as they come, one at a time, unechoed; Ctrl-C alone stays a signal."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = settings
    assert isinstance(iflag, int)
    assert isinstance(lflag, int)
    assert isinstance(characters, list)
    iflag &= ~(termios.IXON | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP)
    lflag &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    for signal_key in (termios.VSUSP, termios.VQUIT):
        characters[signal_key] = b"\0"
    return [iflag, oflag, cflag, lflag | termios.ISIG, ispeed, ospeed, characters]
