"""Two reports beside each other: what moved, and whether that is more than noise."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from kvmbind.bench.compare import Change, IncomparableError, Verdict, compare

if TYPE_CHECKING:
    from tests.bench.conftest import MakeReport


def repeats(around: float, seed: int) -> list[list[int]]:
    """Twenty repeats of fifty samples about a time, in ns."""
    draw = random.Random(seed)
    return [[max(1, round(draw.gauss(around, around / 20))) for _ in range(50)] for _ in range(20)]


def verdicts(changes: list[Change], name: str) -> list[Verdict]:
    return [change.verdict for change in changes if change.name == name]


def test_a_result_that_is_slower_by_more_than_the_noise_is_slower_at_each_percentile(make_report: MakeReport) -> None:
    before = make_report({"floor": repeats(10_000, 1), "bound": repeats(12_000, 2)})
    after = make_report({"floor": repeats(10_000, 3), "bound": repeats(15_000, 4)})
    changes = compare(before, after)
    assert [(change.name, change.percent) for change in changes] == [
        (name, percent) for name in ("floor", "bound") for percent in (50, 90, 99)
    ]
    assert verdicts(changes, "floor") == [Verdict.SAME] * 3
    assert verdicts(changes, "bound") == [Verdict.SLOWER] * 3
    assert changes[3].ratio.value == pytest.approx(1.25, abs=0.02)


def test_a_result_that_is_faster_is_faster(make_report: MakeReport) -> None:
    before, after = (make_report({"bound": repeats(around, around)}) for around in (12_000, 9_000))
    assert verdicts(compare(before, after), "bound") == [Verdict.FASTER] * 3


def test_a_change_below_the_threshold_does_not_count(make_report: MakeReport) -> None:
    before, after = (make_report({"bound": repeats(around, 7)}) for around in (10_000, 11_000))
    assert verdicts(compare(before, after, threshold=0.2), "bound") == [Verdict.SAME] * 3
    assert verdicts(compare(before, after, threshold=0.05), "bound") == [Verdict.SLOWER] * 3


def test_as_ratios_a_machine_that_is_slower_as_a_whole_has_changed_nothing(make_report: MakeReport) -> None:
    before = make_report({"floor": repeats(10_000, 1), "bound": repeats(12_000, 2)})
    after = make_report({"floor": repeats(20_000, 3), "bound": repeats(24_000, 4)})
    assert verdicts(compare(before, after), "bound") == [Verdict.SLOWER] * 3
    changes = compare(before, after, to_base=True)
    assert verdicts(changes, "bound") == [Verdict.SAME] * 3
    assert verdicts(changes, "floor") == []


def test_results_that_only_one_has_are_left_out(make_report: MakeReport) -> None:
    before = make_report({"floor": repeats(10_000, 1), "bound": repeats(12_000, 2)})
    after = make_report({"floor": repeats(10_000, 3), "msi": repeats(12_000, 4)})
    assert {change.name for change in compare(before, after)} == {"floor"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bench": "exits"}, "one is of latency, the other of exits"),
        ({"options": {"guest_state": "spinning", "n": 5}}, "guest_state was halted, then spinning"),
        ({"results": ()}, "no result in common"),
    ],
)
def test_reports_of_different_things_are_refused(
    changes: dict[str, Any], sentence: str, make_report: MakeReport
) -> None:
    before = make_report({"bound": [[1]]})
    with pytest.raises(IncomparableError, match=sentence):
        compare(before, make_report({"bound": [[1]]}, **changes))


def test_more_samples_are_no_different_thing(make_report: MakeReport) -> None:
    before = make_report({"bound": [[1]]})
    assert compare(before, make_report({"bound": [[1]]}, options={"guest_state": "halted", "n": 50_000}))


def test_ratios_need_a_floor_in_both(make_report: MakeReport) -> None:
    one = make_report({"bound": [[1]]})
    with pytest.raises(IncomparableError, match="nothing that its results are ratios to"):
        compare(one, one, to_base=True)
