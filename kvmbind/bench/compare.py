"""Two reports beside each other: what moved, by how much, and whether that is more than noise."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.bench.distribution import change_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvmbind.bench.distribution import Interval
    from kvmbind.bench.report import Report

PERCENTS = (50, 90, 99)
_MAY_DIFFER = ("mechanisms", "n", "repeat", "warmup", "pin")


class Verdict(enum.StrEnum):
    """What a change means."""

    SAME = "within noise"
    SLOWER = "slower"
    FASTER = "faster"


class Change(NamedTuple):
    """How one percentile of one result moved. The times are medians over the repeats, in ns."""

    name: str
    percent: float
    before: float
    after: float
    ratio: Interval
    verdict: Verdict


class IncomparableError(ValueError):
    """Two reports that did not measure the same thing."""


def require_comparable(before: Report, after: Report) -> None:
    """Raises IncomparableError if the reports did not measure the same thing."""
    if before.bench != after.bench:
        raise IncomparableError(f"one is of {before.bench}, the other of {after.bench}")
    for name in before.options:
        if name not in _MAY_DIFFER and before.options[name] != after.options.get(name):
            raise IncomparableError(
                f"they were measured with different options: {name} was {before.options[name]}, "
                f"then {after.options.get(name)}"
            )
    if not any(result.name in after for result in before):
        raise IncomparableError("they have no result in common")


def compare(before: Report, after: Report, *, threshold: float = 0.05, to_base: bool = False) -> list[Change]:
    """Compares the percentiles of the results that both reports have.

    Args:
        before: A report.
        after: A later one of the same benchmark.
        threshold: The least change that counts, as a share: 0.05 is 5 %. A change counts if it is larger and its
            confidence interval does not hold 1.
        to_base: Compares ratios to each report's own base instead of times: what another machine, or the same one on
            another day, changes alike does not count.

    Raises:
        IncomparableError: They did not measure the same thing; or to_base, and there is none.
    """
    require_comparable(before, after)
    changes = list(_changes(before, after, threshold, to_base))
    if not changes:
        raise IncomparableError("one has nothing that its results are ratios to")
    return changes


def _changes(before: Report, after: Report, threshold: float, to_base: bool) -> Iterator[Change]:
    for result in before:
        if result.name not in after or (to_base and result.name == result.base):
            continue
        for percent in PERCENTS:
            old, new = (_values(report, result.name, percent, to_base) for report in (before, after))
            if old and new:
                ratio = change_of(old, new)
                times = result.interval(percent).value, after[result.name].interval(percent).value
                yield Change(result.name, percent, *times, ratio, _verdict(ratio, threshold))


def _values(report: Report, name: str, percent: float, to_base: bool) -> Sequence[float]:
    return report.ratios(name, percent) if to_base else report[name].per_repeat(percent)


def _verdict(ratio: Interval, threshold: float) -> Verdict:
    if ratio.low > 1 and ratio.value > 1 + threshold:
        return Verdict.SLOWER
    if ratio.high < 1 and ratio.value < 1 - threshold:
        return Verdict.FASTER
    return Verdict.SAME
