"""What a benchmark has found: frozen facts, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.bench import counters, distribution
from kvmbind.bench.distribution import Distribution

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from kvmbind.bench.counters import Counters
    from kvmbind.bench.distribution import Interval
    from kvmbind.bench.host import Host, Noise


class Turn(NamedTuple):
    """One repeat of one result.

    times: distributions by what they measure; each result of a report says which of them it shows.
    start_s: when it began, in seconds since the run did. length_s: how long it took.
    """

    times: Mapping[str, Distribution]
    counters: Counters
    start_s: float
    length_s: float


@dataclass(frozen=True)
class Result:
    """One line of a report: a way to do something, and its turns.

    name, says: which, and one line for people. shows: which of the times the figures are of. base: the name of the
    result that its ratio is to, or None.

    Threads: any thread may use it.
    """

    name: str
    says: str
    shows: str
    base: str | None
    turns: tuple[Turn, ...]

    @cached_property
    def times(self) -> Distribution:
        """What it shows, of all turns."""
        return self.all_of(self.shows)

    def all_of(self, measure: str) -> Distribution:
        """Returns one of its times, of all turns. KeyError: it has no such."""
        return Distribution.merged(turn.times[measure] for turn in self.turns)

    @cached_property
    def counters(self) -> Counters:
        """What was counted in all turns."""
        return counters.total([turn.counters for turn in self.turns])

    def per_repeat(self, percent: float) -> list[int]:
        """Returns a percentile of what it shows for each turn, in ns."""
        return [turn.times[self.shows].percentile(percent) for turn in self.turns]

    def interval(self, percent: float) -> Interval:
        """Returns the median over the repeats of a percentile, in ns, with its confidence interval."""
        return distribution.median_of(self.per_repeat(percent))

    @property
    def min_ns(self) -> int:
        """The least time."""
        return self.times.min_ns

    @property
    def p50_ns(self) -> int:
        """The median."""
        return self.times.percentile(50)

    @property
    def p90_ns(self) -> int:
        """The percentile 90."""
        return self.times.percentile(90)

    @property
    def p99_ns(self) -> int:
        """The percentile 99."""
        return self.times.percentile(99)

    @property
    def p99_9_ns(self) -> int:
        """The percentile 99.9."""
        return self.times.percentile(99.9)

    @property
    def max_ns(self) -> int:
        """The greatest time."""
        return self.times.max_ns

    @property
    def triggers(self) -> int:
        """How often it was done."""
        return self.counters.triggers

    @property
    def counted(self) -> int | None:
        """How often the guest says that it happened, over all VCPUs."""
        return self.counters.counted

    @property
    def returns(self) -> int | None:
        """How often KVM_RUN came back to user space."""
        return self.counters.returns

    @property
    def irq_injections(self) -> int | None:
        """How many interrupts KVM put in by software; None where it does not tell."""
        return self.counters.irq_injections


@dataclass(frozen=True)
class Report:
    """What one run of a benchmark has found: `report["bound"].p50_ns`.

    Attributes:
        bench: Which benchmark: "latency", "exits", "create" or "bind".
        title: What the times are, for people.
        options: What it was asked to do, as JSON has it.
        created: When it began: ISO 8601, UTC.
        host: The machine.
        noise: What disturbed the run.
        results: In the order of the table.
        warnings: Why the figures may mean less than they seem to.
        complete: Whether it ran to its end.

    Threads: any thread may use it.
    """

    bench: str
    title: str
    options: Mapping[str, object]
    created: str
    host: Host
    noise: Noise
    results: tuple[Result, ...]
    warnings: tuple[str, ...]
    complete: bool

    def __getitem__(self, name: str) -> Result:
        """Returns a result by its name. KeyError: it was not measured."""
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    def __iter__(self) -> Iterator[Result]:
        """Goes through the results in the order of the table."""
        return iter(self.results)

    def __contains__(self, name: object) -> bool:
        """Whether there is a result of this name."""
        return any(result.name == name for result in self.results)

    def ratio(self, name: str, percent: float = 50) -> Interval | None:
        """Returns a percentile's ratio to the result's base, from turns beside each other; None without a base."""
        ratios = self.ratios(name, percent)
        return distribution.median_of(ratios) if ratios else None

    def ratios(self, name: str, percent: float = 50) -> list[float]:
        """Returns that ratio for each repeat that both have had; none without a base."""
        result = self[name]
        if result.base is None or result.base not in self:
            return []
        beside = self[result.base].per_repeat(percent)
        return [value / base for value, base in zip(result.per_repeat(percent), beside, strict=False)]

    def save(self, path: str | Path) -> None:
        """Writes it as JSON, with an HDR histogram of each turn; `document` has the schema. Needs the extra `bench`.

        Raises:
            OSError: It cannot be written; no half of it is left.
        """
        from kvmbind.bench import document

        document.save(self, path)

    def save_log(self, path: str | Path) -> None:
        """Writes an HDR histogram log, tagged by result, that other viewers read. Needs the extra `bench`.

        Raises:
            OSError: It cannot be written; no half of it is left.
        """
        from kvmbind.bench import hdr
        from kvmbind.bench.files import replace_whole

        with replace_whole(path) as file:
            file.write(hdr.log(self).encode("ascii"))

    def plot(self, path: str | Path) -> None:
        """Draws percentile curves and histograms of all results; .png or .svg. Needs the extra `bench`.

        Raises:
            OSError: It cannot be written; no half of it is left.
            ValueError: The name ends in neither.
        """
        from kvmbind.bench import plot

        plot.save(self, path)


#: What `kvmbind.bench.latency` returns.
LatencyReport = Report
