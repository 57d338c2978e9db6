"""Options are checked against each other before anything is measured."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kvmbind.bench.measurement import plan_latency
from kvmbind.bench.plan import Plan, PlanError, make_plan
from kvmbind.bench.run import split_evenly

OPTIONS: dict[str, Any] = {
    "n": 100, "guest_state": "halted", "answer": "store", "vcpus": 1, "rate_hz": None, "gap_us": None, "pin": (),
    "warmup": 0, "repeat": 10,
}  # fmt: skip


def plan(*mechanisms: str, halt_poll_ns: int | None = 200_000, **options: object) -> Plan:
    return make_plan(mechanisms or ("floor",), halt_poll_ns=halt_poll_ns, **{**OPTIONS, **options})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"guest_state": "asleep"}, "none of halted, polling, spinning"),
        ({"answer": "letter"}, "none of store, bell"),
        ({"n": 9}, "10 repeats need one trigger each"),
        ({"repeat": 0}, "repeat must be at least 1"),
        ({"warmup": -1}, "warmup not negative"),
        ({"vcpus": 0}, "1 to 16"),
        ({"vcpus": 17}, "1 to 16"),
        ({"rate_hz": 0}, "not in 0 to 10 million"),
        ({"rate_hz": 1e8}, "not in 0 to 10 million"),
        ({"gap_us": -1}, "not in 0 to 1 second"),
        ({"gap_us": 2e6}, "not in 0 to 1 second"),
        ({"rate_hz": 100, "gap_us": 5}, "choose one of a rate and a gap"),
        ({"guest_state": "polling", "rate_hz": 100}, "choose halted"),
        ({"guest_state": "polling", "gap_us": 300}, "longer than KVM polls"),
        ({"guest_state": "polling", "halt_poll_ns": 0}, "halt_poll_ns is 0"),
        ({"pin": (100_000,)}, "CPU 100000 cannot be had"),
    ],
)
def test_an_impossible_option_is_refused_with_what_to_change(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan(**options)


def test_no_mechanism_is_refused() -> None:
    with pytest.raises(PlanError, match="one mechanism"):
        make_plan((), halt_poll_ns=0, **OPTIONS)


def test_a_mechanism_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(PlanError, match=r"no mechanism 'pigeon': choose from floor, .*bound"):
        plan_latency(("floor", "pigeon"), **OPTIONS)


@pytest.mark.parametrize("options", [{"vcpus": 2}, {"guest_state": "polling", "gap_us": 1}])
def test_a_mechanism_that_cannot_do_it_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="no-irqchip cannot be measured so"):
        plan_latency(("floor", "no-irqchip"), **{**OPTIONS, **options})


def test_a_mechanism_that_is_named_twice_is_measured_once() -> None:
    assert plan("bound", "floor", "bound").mechanisms == ("bound", "floor")


def test_the_turns_have_n_triggers_together_and_differ_by_one_at_most() -> None:
    turns = split_evenly(103, 10)
    assert (len(turns), sum(turns), max(turns) - min(turns)) == (10, 103, 1)


@pytest.mark.parametrize(
    ("state", "halt_poll_ns", "gap_us"),
    [
        ("halted", 200_000, 400),
        ("halted", 0, 200),
        ("halted", None, 200),
        ("polling", 200_000, 20),
        ("spinning", 0, 20),
    ],
)
def test_the_gap_suits_the_guests_state(state: str, halt_poll_ns: int | None, gap_us: float) -> None:
    assert plan(guest_state=state, halt_poll_ns=halt_poll_ns).gap_us == gap_us


def test_a_processor_that_may_be_used_may_be_pinned_to() -> None:
    cpu = min(os.sched_getaffinity(0))
    assert plan(pin=(cpu,)).pin == (cpu,)
