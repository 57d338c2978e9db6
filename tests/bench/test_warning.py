"""What makes figures doubtful is said, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.bench.plan import Plan
from kvmbind.bench.warning import of_host, of_latency

if TYPE_CHECKING:
    from kvmbind.bench import Report
    from tests.bench.conftest import MakeReport

PLAN = Plan(
    mechanisms=("floor", "bound"), n=9, guest_state="halted", answer="store", vcpus=1, rate_hz=None, gap_us=400.0,
    pin=(), warmup=0, repeat=3,
)  # fmt: skip


def of_machine(report: Report, **facts: object) -> list[str]:
    host_facts = {name: value for name, value in facts.items() if name in report.host._fields}
    noise_facts = {name: value for name, value in facts.items() if name in report.noise._fields}
    return list(of_host(report.host._replace(**host_facts), report.noise._replace(**noise_facts)))  # type: ignore[arg-type]  # a test's own keywords


def of_run(report: Report, plan: Plan = PLAN, **noise: int) -> list[str]:
    return list(of_latency(plan, report.host, report.noise._replace(**noise), report.results))


def test_a_quiet_machine_and_a_steady_run_have_no_warning(report: Report) -> None:
    assert of_machine(report) == []
    assert of_run(report) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"in_software": True}, "in software (no vmx or svm): the times say nothing about hardware"),
        ({"nested": True}, "itself a guest"),
        ({"governor": "powersave"}, "the governor is powersave"),
        ({"steal_ticks": 50}, "kept 5.0% of the processors' time (steal)"),
        ({"load": 5.0}, "load 5.0 on 8 processors"),
    ],
)
def test_each_doubt_about_the_machine_is_one_sentence(facts: dict[str, object], words: str, report: Report) -> None:
    [warning] = of_machine(report, **facts)
    assert words in warning


def test_threads_that_were_switched_out_are_counted(report: Report) -> None:
    assert of_run(report, involuntary_switches=5) == ["5 times a thread was switched out for another, in 18 triggers"]


def test_too_few_processors_are_told(report: Report) -> None:
    changed = report.host._replace(cpus=2)
    [warning, *_] = of_latency(PLAN._replace(vcpus=4), changed, report.noise, report.results)
    assert warning == "4 VCPUs and the measuring thread share 2 processors"


def with_counts(report: Report, **counts: int) -> Report:
    """The same with these counts in each turn of the second result."""
    from dataclasses import replace

    floor, bound = report.results
    turns = tuple(turn._replace(counters=turn.counters._replace(**counts)) for turn in bound.turns)
    return replace(report, results=(floor, replace(bound, turns=turns)))


def test_a_guest_that_did_not_count_every_trigger_is_told(report: Report) -> None:
    assert of_run(with_counts(report, counted=2)) == ["bound: the guest counted 6 of 9"]


def test_a_guest_that_was_not_asleep_is_told(report: Report) -> None:
    [warning] = of_run(with_counts(report, halt_successful_poll=3))
    assert warning == "bound: the guest was not asleep at 100% of the triggers, KVM still polled"


def test_a_guest_that_kvm_did_not_poll_for_is_told(report: Report) -> None:
    warnings = of_run(report, PLAN._replace(guest_state="polling"))
    assert warnings == [f"{name}: KVM polled for the guest at only 0% of the triggers" for name in ("floor", "bound")]


def test_a_floor_that_moved_is_told(make_report: MakeReport) -> None:
    [warning] = of_run(make_report({"floor": [[100], [100], [130]]}))
    assert warning == "the floor's p50 moved by 30% between the repeats"
