"""How a command fails: one line on stderr, and an exit status."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

FAILED = 1
INTERRUPTED = 130
PIPE_CLOSED = 141  # as a shell shows a program that SIGPIPE ended


class CommandError(Exception):
    """What a command cannot do, as one sentence that says what to do about it."""


def require_extra(extra: str, *modules: str) -> None:
    """Raises CommandError if a module that an extra of the package installs is missing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise CommandError(f"{', '.join(missing)} not found: pip install 'kvmbind[{extra}]'")


def run_to_status(name: str, run: Callable[[], int], errors: TextIO) -> int:
    """Returns what `run` returns; or writes one line that begins with `name` to `errors`, and returns a status."""
    try:
        status = run()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read stdout wants no more of it
        _give_stdout_up()
        return PIPE_CLOSED
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        if isinstance(error, OSError):
            _give_stdout_up()
        print(f"{name}: {sentence}", file=errors)
        return FAILED


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP end the command as Ctrl-C does, so that it puts its files away, but where ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in numbers:
            signal.signal(number, _exit)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # as a shell shows it


def _sentence(error: Exception) -> str | None:
    """Returns what an error tells the user, or None for one that is a defect of the program."""
    from kvmbind.abi.errors import ZxError

    notes = getattr(error, "__notes__", [])  # why a VCPU's thread ended
    if isinstance(error, CommandError | ZxError):
        return "; ".join([str(error), *notes])
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    return None


def _give_stdout_up() -> None:
    """Keeps the interpreter's last flush from failing as well, if stdout is what failed."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
