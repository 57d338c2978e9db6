"""A screen on a terminal, kept up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.screen.painter import Painter

if TYPE_CHECKING:
    from kvmbind.machine.screen.frames import Frame
    from kvmbind.machine.screen.terminal import Look, Terminal


class LiveView:
    """Shows frames on a terminal that has been taken over, also after its size has changed.

    Threads: one at a time.
    """

    __slots__ = ("_painter", "_terminal")

    def __init__(self, terminal: Terminal, look: Look) -> None:
        """Takes the terminal, entered, and what it can show."""
        self._terminal = terminal
        self._painter = Painter(terminal.size(), look)

    def show(self, frame: Frame) -> None:
        """Writes what differs from what the terminal shows; all of it if its size has changed.

        Raises:
            OSError: The terminal has gone away.
        """
        size = self._terminal.size()
        if size != self._painter.size:
            self._painter.resize(size)
        if sequences := self._painter.paint(frame):
            self._terminal.write(sequences)
