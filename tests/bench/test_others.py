"""The other benchmarks: what they count on real KVM is right, whatever the times are."""

from __future__ import annotations

import resource
import threading
from typing import TYPE_CHECKING

import pytest

from kvmbind.bench import PlanError
from kvmbind.bench.binding import BindRun
from kvmbind.bench.creation import CreateRun
from kvmbind.bench.exits import ExitsRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.bench import Report
    from kvmbind.bench.run import Run

pytestmark = pytest.mark.kvm

N, REPEAT = 6, 3


def measured(run: Run) -> Report:
    run.measure()
    return run.report()


@pytest.fixture(scope="module")
def exits() -> Report:
    return measured(ExitsRun(N, REPEAT))


@pytest.mark.parametrize("name", ["io", "zx-io", "mmio", "zx-mmio"])
def test_an_access_is_one_return_of_kvm_run(name: str, exits: Report) -> None:
    assert (exits[name].triggers, exits[name].returns) == (N, N)


def test_an_echo_is_two_returns(exits: Report) -> None:
    assert exits["io-echo"].returns == 2 * N


@pytest.mark.parametrize("name", ["bell-c", "bell"])
def test_a_bell_is_no_return_and_the_guest_counts_every_interrupt_that_it_answers(name: str, exits: Report) -> None:
    assert (exits[name].counted, exits[name].returns) == (N, 0)


def test_each_exit_to_python_stands_beside_the_same_in_c(exits: Report) -> None:
    assert {result.name: result.base for result in exits} == {
        "io-c": "io-c", "io": "io-c", "zx-io": "io-c", "mmio-c": "mmio-c", "mmio": "mmio-c", "zx-mmio": "mmio-c",
        "io-echo": "io-c", "bell-c": "bell-c", "bell": "bell-c",
    }  # fmt: skip


def test_a_guest_of_each_kind_is_made_and_closed_beside_one_in_c() -> None:
    report = measured(CreateRun(2, 2))
    assert [result.name for result in report] == [
        "split-c", "split", "split-new", "split-close", "pc-c", "pc", "pc-new", "pc-close",
        "pit-c", "pit", "pit-new", "pit-close",
    ]  # fmt: skip
    assert {len(result.times) for result in report} == {2}
    assert {result.name: result.base for result in report if result.base} == {
        name: f"{kind}-c" for kind in ("split", "pc", "pit") for name in (f"{kind}-c", kind)
    }


def test_interrupts_are_bound_one_by_one_and_at_once() -> None:
    report = measured(BindRun(4, 2, sizes=(1, 20)))
    assert {result.name: len(result.times) for result in report} == {
        "bind-1-c": 4, "bind-1": 4, "bind-20-c": 4, "bind-20": 4,
        "bulk-1-c": 2, "bulk-1": 2, "bulk-20-c": 2, "bulk-20": 2,
    }  # fmt: skip
    assert {result.base for result in report} == {"bind-1-c", "bind-20-c", "bulk-1-c", "bulk-20-c"}


def test_too_few_fds_are_refused_before_anything_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 1000))
    with pytest.raises(PlanError, match=r"it needs 1,700 file descriptors, and this process may have 1,000"):
        BindRun(sizes=(500,))


@pytest.mark.parametrize("make", [lambda: ExitsRun(2, 1), lambda: CreateRun(1, 1), lambda: BindRun(1, 1, sizes=(2,))])
def test_whatever_ends_a_run_closes_all_that_it_opened(make: Callable[[], Run], count_fds: Callable[[], int]) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    run = make()
    run.on_step = fail
    before = count_fds(), threading.active_count(), resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(ZeroDivisionError):
        run.measure()
    assert (count_fds(), threading.active_count(), resource.getrlimit(resource.RLIMIT_NOFILE)) == before
