"""What follows from a report's turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.conftest import MakeReport


def test_the_drift_of_a_machine_is_not_in_a_ratio(make_report: MakeReport) -> None:
    """Both sides of a repeat are slow together."""
    speed = [1 + i % 5 for i in range(20)]
    samples = {"floor": [[20 * factor] for factor in speed], "bound": [[30 * factor] for factor in speed]}
    assert make_report(samples).ratio("bound") == (1.5, 1.5, 1.5)


def test_the_ratio_of_an_interrupted_run_is_that_of_the_repeats_that_both_have(make_report: MakeReport) -> None:
    report = make_report({"floor": [[1], [1]], "bound": [[2], [2], [200]]})
    assert report.ratios("bound") == [2, 2]


def test_the_figures_of_a_result_are_of_all_its_turns(make_report: MakeReport) -> None:
    result = make_report({"bound": [[1, 2], [3, 4], [5, 6]]})["bound"]
    assert (result.min_ns, result.p50_ns, result.max_ns) == (1, 3, 6)
    assert (result.triggers, result.counted, result.counters.exits) == (6, 6, 12)
    assert result.per_repeat(100) == [2, 4, 6]


def test_its_interval_is_of_its_repeats(make_report: MakeReport) -> None:
    assert make_report({"bound": [[7]] * 5})["bound"].interval(50) == (7, 7, 7)
