"""Lines that have to wait while the terminal shows something else."""

from __future__ import annotations

from collections import deque
from typing import TextIO

KEPT = 10_000


class HeldLines:
    """The last lines of many.

    Threads: one adds; another releases what has been added by then.
    """

    def __init__(self, kept: int = KEPT) -> None:
        """Starts with none; keeps so many."""
        self._lines: deque[object] = deque(maxlen=kept)
        self._count = 0

    def add(self, line: object) -> None:
        """Keeps what str() makes a line of, in place of the oldest if there are too many."""
        self._lines.append(line)
        self._count += 1

    def release(self, out: TextIO) -> None:
        """Prints them, and how many are lost."""
        lost = self._count - len(self._lines)
        if lost:
            print(f"({lost:,} lines before these were not kept; a file as stderr gets them all)", file=out)
        while self._lines:
            print(self._lines.popleft(), file=out)
