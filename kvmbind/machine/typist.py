"""Pressing keys one after the other, as the program takes them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kvmbind.machine.key_script import Sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kvmbind.machine.keys import Stroke
    from kvmbind.machine.pc import Pc

_PATIENCE_NS = 500_000_000  # for a program that does not ask the BIOS for keys, or does not take them
_LOOK_NS = 10_000_000
_HOLD_NS = 30_000_000


class Typist:
    """Presses keys. A key waits until the one before has been taken; the first until the program asks for a key.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_events", "_give_up_ns", "_is_waiting", "_pc")

    def __init__(self, pc: Pc) -> None:
        """Starts with nothing to press; `pc` tells it when the program asks for a key."""
        self._pc = pc
        self._events: deque[Stroke | Sleep] = deque()
        self._is_waiting = False  # for the program to ask
        self._give_up_ns = 0
        pc.on_wants_key = self._start

    def press(self, events: Iterable[Stroke | Sleep]) -> None:
        """Presses these behind those that still wait."""
        was_idle = not self._events
        self._events.extend(events)
        if was_idle and self._events:
            self._is_waiting = True
            self._after(_PATIENCE_NS, self._start)

    def _start(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._next()

    def _next(self) -> None:
        now_ns = self._pc.now_ns()
        if not self._events:
            return
        if not self._pc.bios.is_ready_for_key() and now_ns < self._give_up_ns:
            self._after(_LOOK_NS, self._next)
            return
        self._give_up_ns = now_ns + _PATIENCE_NS
        event = self._events.popleft()
        if isinstance(event, Sleep):
            self._after(int(event.duration_s * 1e9), self._next)
            return
        for place, code in enumerate(event.make, 1):
            self._pc.keyboard.send(code, event.key if place == len(event.make) else None)
        self._after(_HOLD_NS, lambda: self._release(event.release))

    def _release(self, codes: bytes) -> None:
        for code in codes:
            self._pc.keyboard.send(code)
        self._next()

    def _after(self, delay_ns: int, action: Callable[[], object]) -> None:
        self._pc.call_at(self._pc.now_ns() + delay_ns, action)
