"""A logarithmic axis of times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_UNIT = " us"


class Axis:
    """A logarithmic axis of times, divided into columns."""

    def __init__(self, low_ns: int, high_ns: int, columns: int) -> None:
        """Spans both times; they may be equal."""
        self._low = math.log10(max(low_ns, 1))
        self._width = max(math.log10(max(high_ns, 1)) - self._low, 1e-3)
        self.columns = columns

    def column(self, ns: float) -> int:
        """Returns the column of a time; those outside are in the outermost."""
        place = (math.log10(max(ns, 1)) - self._low) / self._width * self.columns
        return min(max(int(place), 0), self.columns - 1)

    def start_of(self, column: int) -> float:
        """Returns the time at which a column begins, in ns."""
        place: float = 10 ** (self._low + self._width * column / self.columns)
        return place

    def heights(self, samples_ns: Sequence[int]) -> list[int]:
        """Counts the samples in each column."""
        heights = [0] * self.columns
        for sample_ns in samples_ns:
            heights[self.column(sample_ns)] += 1
        return heights

    def ticks(self) -> tuple[str, str]:
        """Returns a line of marks and one of labels, at 1, 2 and 5 times the powers of ten."""
        marks, labels = ["-"] * self.columns, [" "] * self.columns
        free = 0
        for ns in self._round_times():
            place = self.column(ns)
            label = f"{ns / 1000:,g}"
            if place < free or place + len(label) + len(_UNIT) > self.columns:
                continue
            marks[place] = "|"
            labels[place : place + len(label)] = label
            free = place + len(label) + 2
        return "".join(marks), "".join(labels).rstrip() + _UNIT

    def _round_times(self) -> Iterator[float]:
        for power in range(math.floor(self._low), math.ceil(self._low + self._width) + 1):
            for factor in (1, 2, 5):
                ns = factor * 10.0**power
                if self._low <= math.log10(ns) <= self._low + self._width:
                    yield ns
