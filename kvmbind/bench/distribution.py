"""Samples, and what bootstrap says about them."""

from __future__ import annotations

import math
import random
import statistics
from array import array
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CONFIDENCE = 0.95
_RESAMPLES = 1000
_SEED = 0  # the same samples give the same interval


class Distribution:
    """Times in ns, sorted. Frozen.

    Threads: any thread may use it.
    """

    __slots__ = ("_sorted",)

    def __init__(self, samples_ns: Iterable[int]) -> None:
        """Sorts the samples; there must be one at least."""
        self._sorted = array("q", sorted(samples_ns))
        if not self._sorted:
            raise ValueError("a distribution needs one sample at least")

    @classmethod
    def merged(cls, parts: Iterable[Distribution]) -> Distribution:
        """Returns one with the samples of all."""
        return cls(sample for part in parts for sample in part.samples_ns)

    @property
    def samples_ns(self) -> Sequence[int]:
        """All of them, sorted."""
        return memoryview(self._sorted).toreadonly()

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._sorted)

    def __eq__(self, other: object) -> bool:
        """Whether both have the same samples."""
        return self._sorted == other._sorted if isinstance(other, Distribution) else NotImplemented

    def __hash__(self) -> int:
        """Equal ones have the same."""
        return hash(self._sorted.tobytes())

    def __repr__(self) -> str:
        """Says how many there are and their median."""
        return f"<Distribution of {len(self)}, p50 {self.percentile(50)} ns>"

    def percentile(self, percent: float) -> int:
        """Returns the least sample that `percent` of all (0 to 100) do not exceed."""
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is no percentage")
        rank = math.ceil(len(self) * percent / 100)
        return self._sorted[max(rank, 1) - 1]

    @property
    def min_ns(self) -> int:
        """The least."""
        return self._sorted[0]

    @property
    def max_ns(self) -> int:
        """The greatest."""
        return self._sorted[-1]

    @property
    def mean_ns(self) -> float:
        """The arithmetic mean."""
        return statistics.fmean(self._sorted)


class Interval(NamedTuple):
    """An estimate and its confidence interval of 95 %."""

    value: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether it holds this value for possible."""
        return self.low <= value <= self.high


def _bootstrap(repeats: int, estimate: Callable[[Sequence[int]], float]) -> Interval:
    """Returns the estimate of all repeats, and the interval of those of repeats drawn with replacement."""
    everything = range(repeats)
    draw = random.Random(_SEED)
    drawn = sorted(estimate(draw.choices(everything, k=repeats)) for _ in range(_RESAMPLES))
    tail = int((1 - CONFIDENCE) / 2 * _RESAMPLES)
    return Interval(estimate(everything), drawn[tail], drawn[-1 - tail])


def median_of(values: Sequence[float]) -> Interval:
    """Returns the median of one value per repeat."""
    return _bootstrap(len(values), lambda chosen: statistics.median(values[i] for i in chosen))


def change_of(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Returns the ratio of the medians of two runs, which have nothing to do with each other."""
    draw = random.Random(_SEED)

    def median_of_drawn(values: Sequence[float]) -> float:
        return statistics.median(draw.choices(values, k=len(values)))

    drawn = sorted(median_of_drawn(after) / median_of_drawn(before) for _ in range(_RESAMPLES))
    tail = int((1 - CONFIDENCE) / 2 * _RESAMPLES)
    return Interval(statistics.median(after) / statistics.median(before), drawn[tail], drawn[-1 - tail])
