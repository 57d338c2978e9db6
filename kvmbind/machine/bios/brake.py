"""Keeping a program that asks for a key again and again from using the host's time up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.machine.host import Host

_CLOSE_NS = 2_000_000
_FREE = 100
_FORGIVEN = 10  # for one that came later: the host may have been busy
_SLEEP_NS = 10_000_000
_STILL = 200  # questions, two seconds of them
_LONG_SLEEP_NS = 200_000_000


class Brake:
    """Lets the guest sleep between two questions, once a hundred have come with two milliseconds between them or less.

    A program that draws, counts ticks or does anything else between two questions is not slowed down. One that asks on
    while its screen stays as it is, as DOS at its prompt, sleeps longer; its clock ticks on. A key ends each sleep at
    once.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_frame", "_host", "_last_ns", "_look", "_questions", "_still", "_wake_ns")

    def __init__(self, host: Host, look: Callable[[], object]) -> None:
        """Takes the machine, for time, and what tells the screen: the same object as long as that has not changed."""
        self._host = host
        self._look = look
        self._frame: object = None
        self._last_ns = 0
        self._wake_ns = 0  # when the guest is woken next
        self._questions = 0
        self._still = 0  # questions that found the screen as the last one did

    def applies(self) -> bool:
        """Counts a question that had no answer; tells whether the guest shall sleep. It is woken soon."""
        now_ns = self._host.now_ns()
        is_close = now_ns - self._last_ns <= _CLOSE_NS
        self._questions = min(self._questions + 1, 2 * _FREE) if is_close else max(self._questions - _FORGIVEN, 0)
        self._last_ns = now_ns
        if self._questions < _FREE:
            self._still = 0
            return False
        frame = self._look()
        self._still = self._still + 1 if frame is self._frame else 0
        self._frame = frame
        if now_ns >= self._wake_ns:  # what ended a sleep before its time has left its alarm set
            self._wake_ns = now_ns + (_SLEEP_NS if self._still < _STILL else _LONG_SLEEP_NS)
            self._host.wake_at(self._wake_ns)
        return True

    def goes_on(self) -> bool:
        """Tells whether the guest, which has slept and been woken, shall sleep on. The time of that does not count."""
        self._last_ns = self._host.now_ns()
        return self._still >= _STILL and self._last_ns < self._wake_ns
