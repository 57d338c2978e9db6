"""Keeping a program that asks for a key again and again from using the host's time up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmbind.machine.host import Host

_CLOSE_NS = 2_000_000
_FREE = 100
_FORGIVEN = 10  # for one that came later: the host may have been busy
_SLEEP_NS = 10_000_000


class Brake:
    """Lets the guest sleep between two questions, once a hundred have come with two milliseconds between them or less.

    A program that draws, counts ticks or does anything else between two questions is not slowed down.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_host", "_last_ns", "_questions")

    def __init__(self, host: Host) -> None:
        """Takes the machine, for time."""
        self._host = host
        self._last_ns = 0
        self._questions = 0

    def applies(self) -> bool:
        """Counts a question that had no answer; tells whether the guest shall sleep. It is woken soon."""
        now_ns = self._host.now_ns()
        is_close = now_ns - self._last_ns <= _CLOSE_NS
        self._questions = min(self._questions + 1, 2 * _FREE) if is_close else max(self._questions - _FORGIVEN, 0)
        self._last_ns = now_ns
        if self._questions < _FREE:
            return False
        self._host.wake_at(now_ns + _SLEEP_NS)
        return True

    def is_over(self) -> None:
        """The guest has slept: the time of that does not count."""
        self._last_ns = self._host.now_ns()
