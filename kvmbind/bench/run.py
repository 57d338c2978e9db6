"""What every benchmark is while it runs: contestants that take turns."""

from __future__ import annotations

import abc
import gc
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kvmbind.bench import host
from kvmbind.bench.report import Report, Result, Turn
from kvmbind.bench.warning import of_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from kvmbind.bench.counters import Counters
    from kvmbind.bench.distribution import Distribution
    from kvmbind.bench.host import Host, Noise


class Step(NamedTuple):
    """How far a run is: told after each turn."""

    done: int
    total: int
    name: str


class Taken(NamedTuple):
    """What one turn has given: times by what they measure, and what was counted."""

    times: Mapping[str, Distribution]
    counters: Counters


class Contestant(NamedTuple):
    """One that takes turns, open and ready.

    name, says, shows, base: as of `Result`. take: does it so many times and tells what that gave.
    """

    name: str
    says: str
    shows: str
    base: str | None
    take: Callable[[int], Taken]


class Run(abc.ABC):
    """One run of a benchmark, which can also tell what it has measured when it was interrupted.

    In each repeat every contestant has one turn. The order is rotated, so that whatever drifts hits all alike.

    Attributes:
        on_step: Called after each turn, if set.

    Threads: one.
    """

    BENCH: ClassVar[str]

    def __init__(self, title: str, options: Mapping[str, object], turns: Sequence[int]) -> None:
        """Measures nothing yet.

        Args:
            title: What the times are.
            options: For the report.
            turns: How often the thing is done in each repeat.
        """
        self.title = title
        self.on_step: Callable[[Step], object] | None = None
        self._options = options
        self._sizes = turns
        self._contestants: Sequence[Contestant] = ()
        self._turns: dict[str, list[Turn]] = {}
        self._created = datetime.now(UTC).isoformat(timespec="seconds")
        self._start_s = time.monotonic()
        self._noise_before = self._noise = host.read_noise()

    @abc.abstractmethod
    def open(self) -> AbstractContextManager[Sequence[Contestant]]:
        """Opens the contestants, in the order of the report, and closes them again."""

    def doubts(self, facts: Host, noise: Noise, _: Sequence[Result]) -> Iterator[str]:
        """Tells why the figures may mean less than they seem to."""
        return of_host(facts, noise)

    def measure(self) -> None:
        """Takes all turns."""
        try:
            with _no_collection(), self.open() as contestants:
                self._contestants = contestants
                self._turns = {contestant.name: [] for contestant in contestants}
                self._take_turns(list(contestants))
        finally:
            self._noise = host.read_noise().since(self._noise_before)

    def _take_turns(self, contestants: list[Contestant]) -> None:
        total = len(contestants) * len(self._sizes)
        done = 0
        for repeat, size in enumerate(self._sizes):
            first = repeat % len(contestants)
            for contestant in contestants[first:] + contestants[:first]:
                gc.collect()
                start_s = time.monotonic()
                times, counted = contestant.take(size)
                length_s = time.monotonic() - start_s
                self._turns[contestant.name].append(Turn(times, counted, start_s - self._start_s, length_s))
                done += 1
                if self.on_step is not None:
                    self.on_step(Step(done, total, contestant.name))

    def report(self) -> Report:
        """Returns what has been measured so far; who has had no turn is not in it."""
        results = tuple(
            Result(one.name, one.says, one.shows, one.base, tuple(self._turns[one.name]))
            for one in self._contestants
            if self._turns[one.name]
        )
        facts = host.read_host()
        return Report(
            bench=self.BENCH,
            title=self.title,
            options=self._options,
            created=self._created,
            host=facts,
            noise=self._noise,
            results=results,
            warnings=tuple(self.doubts(facts, self._noise, results)),
            complete=bool(results) and all(len(turns) == len(self._sizes) for turns in self._turns.values()),
        )


def split_evenly(n: int, repeat: int) -> list[int]:
    """Returns how many of n each repeat has."""
    return [n * (i + 1) // repeat - n * i // repeat for i in range(repeat)]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps Python's garbage collector from running within a turn, and what is there already out of those between."""
    was_enabled, had_frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not had_frozen:
            gc.unfreeze()
        if was_enabled:
            gc.enable()
