"""What is to happen at a certain time on the boot processor's thread."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Alarms:
    """Actions by their time. Actions of the same time come in the order in which they were set.

    Threads: it belongs to whoever has the PC's lock.
    """

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        """Starts with none."""
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def set(self, when_ns: int, action: Callable[[], object]) -> None:
        """Calls `action` in `ring`, once it is `when_ns` there."""
        heapq.heappush(self._heap, (when_ns, next(self._order), action))

    def ring(self, now_ns: int) -> None:
        """Calls what is due. An action may set others; those that are due by now are called too."""
        while self._heap and self._heap[0][0] <= now_ns:
            heapq.heappop(self._heap)[2]()

    def next_ns(self, limit_ns: int) -> int:
        """Returns when the next one is due, `limit_ns` if that is earlier."""
        return min(self._heap[0][0], limit_ns) if self._heap else limit_ns
