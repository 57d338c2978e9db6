"""A machine on a terminal: its screen is shown as it changes, and what is typed reaches it."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from kvmbind.machine.key_input import ESCAPE_TIMEOUT_S, KeyInput
from kvmbind.machine.screen.live import LiveView
from kvmbind.machine.screen.terminal import Terminal, is_usable, look

if TYPE_CHECKING:
    from kvmbind.machine.machine import Machine

STDIN, STDOUT = 0, 1
_FRAME_S = 1 / 30
_READ_SIZE = 1024


def is_possible() -> bool:
    """Tells whether stdin and stdout are a terminal that can be taken over."""
    return os.isatty(STDIN) and is_usable(STDOUT, os.environ)


def show(machine: Machine) -> None:
    """Shows a machine that has been started until it has ended; the terminal is put back whatever happens."""
    with Terminal(STDIN, STDOUT) as terminal:
        view = LiveView(terminal, look(os.environ))
        keys = KeyInput()
        while machine.is_running:
            view.show(machine.frame())
            timeout_s = min(_FRAME_S, ESCAPE_TIMEOUT_S) if keys.is_waiting else _FRAME_S
            readable, _, _ = select.select((STDIN,), (), (), timeout_s)
            data = os.read(STDIN, _READ_SIZE) if readable else b""
            strokes = keys.feed(data) if data else keys.flush()
            if strokes:
                machine.press(strokes)
            if readable and not data:  # the terminal has gone away
                machine.stop()
