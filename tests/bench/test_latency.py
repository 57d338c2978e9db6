"""Interrupts are measured on real KVM: what is counted is right, whatever the times are."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from kvmbind import bench
from kvmbind.bench.measurement import LatencyRun, plan_latency
from kvmbind.bench.mechanisms import MECHANISMS, Lab
from kvmbind.bench.probe import Pace, Probe, Watched
from kvmbind.bench.targets import MEMORY
from kvmbind.kvm.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.bench.plan import GuestState, Plan
    from kvmbind.bench.run import Step

pytestmark = pytest.mark.kvm

N, REPEAT = 20, 4
EVERY = tuple(MECHANISMS)
FOR_SEVERAL_VCPUS = tuple(name for name in EVERY if name != "no-irqchip")
BY_IRQFD = ("floor", "bound-c", "bound", "zx", "process", "guest-bell")


def three(repeat: int) -> Plan:
    """Three mechanisms, three triggers each a repeat."""
    return plan_latency(
        ("floor", "bound", "msi"), n=3 * repeat, guest_state="halted", answer="store", vcpus=1, rate_hz=None, gap_us=0,
        pin=(), warmup=0, repeat=repeat,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report() -> bench.Report:
    """All mechanisms, one halted VCPU."""
    return bench.latency(EVERY, n=N, repeat=REPEAT, warmup=2)


def test_every_mechanism_is_in_the_report_with_every_trigger_counted_by_the_guest(report: bench.Report) -> None:
    assert [result.name for result in report] == list(EVERY)
    assert {result.name: (result.triggers, result.counted) for result in report} == dict.fromkeys(EVERY, (N, N))
    assert report.complete


def test_every_trigger_has_one_time_of_each_kind(report: bench.Report) -> None:
    for result in report:
        assert len(result.turns) == REPEAT
        assert len(result.all_of("seen")) == N
        assert result.shows == "handler"
        assert len(result.times) == N


def test_the_handler_comes_before_the_host_sees_its_answer(report: bench.Report) -> None:
    for result in report:
        assert result.min_ns > 0
        assert result.p50_ns < result.all_of("seen").percentile(50)


@pytest.mark.parametrize("name", [*BY_IRQFD, "msi", "mediated"])
def test_kvm_run_returns_for_no_interrupt_that_the_kernel_delivers(report: bench.Report, name: str) -> None:
    assert report[name].returns == 0


def test_without_an_interrupt_controller_kvm_run_returns_for_each_interrupt(report: bench.Report) -> None:
    """The last one of a turn may be on its way still when the turn is over."""
    assert (report["no-irqchip"].returns or 0) >= N - REPEAT


def test_a_host_thread_wakes_for_each_interrupt_that_is_mediated_and_for_no_other(report: bench.Report) -> None:
    woken = {result.name: result.counters.host_wakeups for result in report}
    assert woken == {**dict.fromkeys(EVERY, 0), "mediated": N}


def test_the_ratio_is_to_the_c_floor_and_the_floors_own_is_1(report: bench.Report) -> None:
    assert report.ratio("floor") == (1, 1, 1)
    ratio = report.ratio("mediated")
    assert ratio is not None
    assert ratio.low <= ratio.value <= ratio.high


def test_without_the_floor_there_is_no_ratio() -> None:
    report = bench.latency(("bound",), n=4, repeat=2, warmup=0)
    assert report.ratio("bound") is None


def test_a_result_that_was_not_measured_is_a_key_error(report: bench.Report) -> None:
    assert "pigeon" not in report
    with pytest.raises(KeyError, match="pigeon"):
        report["pigeon"]


@pytest.mark.parametrize("state", ["polling", "spinning"])
def test_a_guest_that_is_not_asleep_counts_every_trigger_too(state: GuestState) -> None:
    report = bench.latency(FOR_SEVERAL_VCPUS, n=4, repeat=2, warmup=0, guest_state=state, gap_us=0)
    assert [result.counted for result in report] == [4] * len(FOR_SEVERAL_VCPUS)


def test_a_trigger_reaches_all_vcpus() -> None:
    report = bench.latency(FOR_SEVERAL_VCPUS, n=4, repeat=2, warmup=0, vcpus=3)
    assert [result.counted for result in report] == [3 * 4] * len(FOR_SEVERAL_VCPUS)


def test_a_guest_may_answer_by_a_bell_that_wakes_the_host() -> None:
    report = bench.latency(EVERY, n=4, repeat=2, warmup=0, answer="bell")
    assert [(result.counted, result.returns) for result in report if result.name in BY_IRQFD] == [(4, 0)] * len(
        BY_IRQFD
    )
    assert [result.counted for result in report] == [4] * len(EVERY)


def test_with_a_rate_a_late_trigger_counts_from_when_it_was_due() -> None:
    """Far more than any machine can do: each trigger is later than the last."""
    report = bench.latency(("floor",), n=200, repeat=2, warmup=0, rate_hz=1e7)
    result = report["floor"]
    assert result.shows == "due"
    assert result.max_ns > result.all_of("handler").max_ns
    assert result.times.mean_ns > result.all_of("handler").mean_ns


@pytest.mark.two_processors  # on one, every thread is on it
@pytest.mark.parametrize("pinned", [1, 2])
def test_pinned_to_one_processor_is_the_measuring_thread_and_to_the_next_the_vcpu(pinned: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    plan = plan_latency(
        ("floor",), n=1, guest_state="halted", answer="store", vcpus=1, rate_hz=None, gap_us=0, pin=cpus[:pinned],
        warmup=0, repeat=1,
    )  # fmt: skip
    run = LatencyRun(plan)
    threads: list[set[int]] = []
    run.on_step = lambda _: threads.extend(os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task"))
    run.measure()
    assert threads.count({cpus[0]}) == 1
    assert ({cpus[1]} in threads) == (pinned == 2)
    assert os.sched_getaffinity(0) == set(cpus)


def test_the_order_of_the_mechanisms_is_rotated() -> None:
    order: list[str] = []
    run = LatencyRun(three(repeat=3))
    run.on_step = lambda step: order.append(step.name)
    run.measure()
    assert order == ["floor", "bound", "msi", "bound", "msi", "floor", "msi", "floor", "bound"]


def test_an_interrupted_run_reports_the_turns_that_it_has_finished() -> None:
    def interrupt(step: Step) -> None:
        if step.done == 4:
            raise KeyboardInterrupt

    run = LatencyRun(three(repeat=3))
    run.on_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.measure()
    report = run.report()
    assert not report.complete
    assert {result.name: len(result.turns) for result in report} == {"floor": 1, "bound": 2, "msi": 1}
    assert report.ratio("bound") is not None


def test_a_run_that_measured_nothing_has_an_empty_report() -> None:
    assert LatencyRun(three(repeat=1)).report().results == ()


def test_whatever_ends_a_run_closes_all_that_it_opened(count_fds: Callable[[], int]) -> None:
    def fail(step: Step) -> None:
        raise ZeroDivisionError

    plan = plan_latency(
        EVERY, n=2, guest_state="halted", answer="bell", vcpus=1, rate_hz=None, gap_us=0, pin=(), warmup=0, repeat=1
    )
    run = LatencyRun(plan)
    run.on_step = fail
    before, threads = count_fds(), threading.active_count()
    with pytest.raises(ZeroDivisionError):
        run.measure()
    assert (count_fds(), threading.active_count()) == (before, threads)


def test_times_that_do_not_fit_the_hosts_are_left_out_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the guest's TSC has an offset that KVM does not tell."""
    monkeypatch.setattr("kvmbind.bench.targets.tsc.offset", lambda vcpu: 1 << 40)
    report = bench.latency(("floor",), n=4, repeat=2, warmup=0)
    assert report["floor"].shows == "seen"
    assert "handler" not in report["floor"].turns[0].times
    assert any("an upper bound" in warning for warning in report.warnings)


def test_a_guest_that_does_not_answer_is_an_error_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmbind.bench.probe._ANSWER_WITHIN_S", 0.1)
    memory = Memory(MEMORY)
    watched = Watched(memory.fd, MEMORY, stats_fds=(), bell_fd=-1, tsc_offsets=(0,))
    probe = Probe(watched, Pace(ticks_per_ns=1, gap_ns=0, interval_ns=0, asleep=False), "floor")
    probe.arm()
    with pytest.raises(TimeoutError, match=r"^floor: TIMED_OUT .* not answered a trigger for 0\.1 s"):
        probe.run_in_python(lambda: None, 1)
    memory.close()


def test_without_an_interrupt_controller_no_interrupt_is_lost_that_comes_as_the_guest_halts() -> None:
    """The second of two meets the end of the first's handler: its kick, and the exit of the HLT."""
    plan = plan_latency(
        ("no-irqchip",), n=1, guest_state="halted", answer="store", vcpus=1, rate_hz=None, gap_us=0, pin=(), warmup=0,
        repeat=1,
    )  # fmt: skip
    with Lab(plan, Pace(ticks_per_ns=1, gap_ns=0, interval_ns=0, asleep=False)) as lab:
        mechanism = MECHANISMS["no-irqchip"](lab)
        for _ in range(300):
            time.sleep(0.001)
            mechanism.rounds(2)
        assert mechanism.snapshot().counted == 600
