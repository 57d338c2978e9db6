"""How long an interrupt takes from its trigger to the guest's handler."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kvmbind.bench import counters, host
from kvmbind.bench.affinity import on_cpu
from kvmbind.bench.distribution import Distribution
from kvmbind.bench.mechanisms import MECHANISMS, Lab
from kvmbind.bench.plan import PlanError, make_plan
from kvmbind.bench.probe import Pace, calibrate
from kvmbind.bench.report import Report, Result, Turn
from kvmbind.bench.run import Step
from kvmbind.bench.warning import warnings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kvmbind.bench.mechanisms import Mechanism
    from kvmbind.bench.plan import Answer, GuestState, Plan
    from kvmbind.bench.probe import Round

BASE = "floor"
_CLOCK_ROUNDS = 50
_CLOCK_HOLDS = 0.99  # of the rounds: the TSCs of two processors may be a few ticks apart

#: What the times of a turn are, by name.
MEASURES = {
    "handler": "from just before the trigger to the first instruction of the guest's handler, by its own time stamp",
    "seen": "from just before the trigger until the host sees the handler's answer",
    "due": "from when the trigger was due to the first instruction of the guest's handler",
    "due-seen": "from when the trigger was due until the host sees the handler's answer",
}


def latency(
    mechanisms: Sequence[str] = ("bound", "floor"),
    *,
    n: int = 5000,
    guest_state: GuestState = "halted",
    answer: Answer = "store",
    vcpus: int = 1,
    rate_hz: float | None = None,
    gap_us: float | None = None,
    pin: Sequence[int] = (),
    warmup: int = 20,
    repeat: int = 20,
) -> Report:
    """Measures how long interrupts take to a guest's handler, by several mechanisms in turn.

    In each repeat every mechanism has one turn; the order is rotated, so that whatever drifts hits all alike. Each
    trigger comes when the guest has answered the last.

    Args:
        mechanisms: Names from `MECHANISMS`. Ratios need "floor" among them.
        n: Triggers of each mechanism, all repeats together.
        guest_state: "halted": the VCPU's thread sleeps; "polling": in HLT, but KVM still polls for it; "spinning": it
            runs.
        answer: What ends a trigger: the host sees the handler's "store", or the handler rings a "bell" that the host
            sleeps on, which makes the time until it is seen a round trip.
        vcpus: 1 to 16, all of which every trigger reaches: times are those of the last one.
        rate_hz: Triggers a second, each at its set time if the last is answered by then; times count from the set
            time as well, so that a late one makes those behind it late. None: as `gap_us` says.
        gap_us: Between an answer and the next trigger, 0 to 1,000,000; None suits the guest's state.
        pin: Processors: of the measuring thread, then of the VCPUs in turn.
        warmup: Triggers before each turn, which are not recorded.
        repeat: Turns of each mechanism; intervals come from the spread between them.

    Returns:
        The report.

    Raises:
        PlanError: These options cannot be measured; the sentence says what to change.
        OSError: There is no KVM; the message says what to do.
        ZxError: What KVM answered.
    """
    run = LatencyRun(
        plan_latency(
            mechanisms, n=n, guest_state=guest_state, answer=answer, vcpus=vcpus, rate_hz=rate_hz, gap_us=gap_us,
            pin=pin, warmup=warmup, repeat=repeat,
        )
    )  # fmt: skip
    run.measure()
    return run.report()


def plan_latency(
    mechanisms: Iterable[str] | None,
    *,
    n: int,
    guest_state: str,
    answer: str,
    vcpus: int,
    rate_hz: float | None,
    gap_us: float | None,
    pin: Sequence[int],
    warmup: int,
    repeat: int,
) -> Plan:
    """Checks the options of `latency` before anything is measured, with its errors.

    `mechanisms` may be None: all that can be measured so.
    """
    names = tuple(MECHANISMS if mechanisms is None else mechanisms)
    unknown = [name for name in names if name not in MECHANISMS]
    if unknown:
        raise PlanError(f"there is no mechanism {unknown[0]!r}: choose from {', '.join(MECHANISMS)}")
    plan = make_plan(
        names, n=n, guest_state=guest_state, answer=answer, vcpus=vcpus, rate_hz=rate_hz, gap_us=gap_us,
        pin=tuple(pin), warmup=warmup, repeat=repeat, halt_poll_ns=host.read_host().halt_poll_ns,
    )  # fmt: skip
    refusals = {name: refusal for name in plan.mechanisms if (refusal := MECHANISMS[name].refusal(plan))}
    if mechanisms is None:
        return plan._replace(mechanisms=tuple(name for name in plan.mechanisms if name not in refusals))
    for name, refusal in refusals.items():
        raise PlanError(f"{name} cannot be measured so: {refusal}")
    return plan


class LatencyRun:
    """One run of `latency`, which also tells what it has measured when it was interrupted.

    Threads: one.
    """

    def __init__(self, plan: Plan) -> None:
        """Measures nothing yet."""
        self.plan = plan
        self.on_step: Callable[[Step], object] | None = None
        self._turns: dict[str, list[Turn]] = {name: [] for name in plan.mechanisms}
        self._stamped: dict[str, bool] = {}
        self._created = datetime.now(UTC).isoformat(timespec="seconds")
        self._start_s = time.monotonic()
        self._noise_before = self._noise = host.read_noise()

    def measure(self) -> None:
        """Runs all turns."""
        plan = self.plan
        ticks_per_ns = calibrate()
        pace = Pace(
            ticks_per_ns,
            gap_ns=plan.gap_us * 1000,
            interval_ns=1e9 / plan.rate_hz if plan.rate_hz else 0,
            asleep=plan.guest_state == "halted" and plan.rate_hz is None,
        )
        try:
            with on_cpu(plan.pin[0] if plan.pin else None), Lab(plan, pace) as lab:
                opened = [MECHANISMS[name](lab) for name in plan.mechanisms]
                for mechanism in opened:
                    self._stamped[mechanism.NAME] = _clock_holds(mechanism.rounds(_CLOCK_ROUNDS))
                with _no_collection():
                    self._take_turns(opened, ticks_per_ns)
        finally:
            self._noise = host.read_noise().since(self._noise_before)

    def _take_turns(self, mechanisms: list[Mechanism], ticks_per_ns: float) -> None:
        total = len(mechanisms) * self.plan.repeat
        done = 0
        for repeat, n in enumerate(self.plan.turns()):
            first = repeat % len(mechanisms)
            for mechanism in mechanisms[first:] + mechanisms[:first]:
                turn = self._take_turn(mechanism, n, ticks_per_ns)
                self._turns[mechanism.NAME].append(turn)
                done += 1
                if self.on_step is not None:
                    self.on_step(Step(done, total, mechanism.NAME))

    def _take_turn(self, mechanism: Mechanism, n: int, ticks_per_ns: float) -> Turn:
        if self.plan.warmup:
            mechanism.rounds(self.plan.warmup)
        gc.collect()
        woken, before = mechanism.host_wakeups, mechanism.target.snapshot()
        start_s = time.monotonic()
        rounds = mechanism.rounds(n)
        length_s = time.monotonic() - start_s
        after, woken = mechanism.target.snapshot(), mechanism.host_wakeups - woken
        counted = counters.between(before, after, n)._replace(host_wakeups=woken)
        times = _times(rounds, ticks_per_ns, stamped=self._stamped[mechanism.NAME])
        return Turn(times, counted, start_s - self._start_s, length_s)

    def report(self) -> Report:
        """Returns what has been measured so far; a mechanism without a turn is not in it."""
        plan = self.plan
        results = tuple(
            Result(name, MECHANISMS[name].SAYS, self._shows(name), tuple(self._turns[name]))
            for name in MECHANISMS
            if self._turns.get(name)
        )
        facts = host.read_host()
        return Report(
            bench="latency",
            title=MEASURES[results[0].shows if results else "handler"],
            options=plan._asdict(),
            created=self._created,
            host=facts,
            noise=self._noise,
            base=BASE if BASE in plan.mechanisms else None,
            results=results,
            warnings=warnings_of(plan, facts, self._noise, results),
            complete=all(len(turns) == plan.repeat for turns in self._turns.values()),
        )

    def _shows(self, name: str) -> str:
        stamped = self._stamped[name]
        if self.plan.rate_hz is not None:
            return "due" if stamped else "due-seen"
        return "handler" if stamped else "seen"


def _times(rounds: list[Round], ticks_per_ns: float, *, stamped: bool) -> dict[str, Distribution]:
    """Makes the distributions of a turn; without those by the guest's stamps if they cannot be compared."""

    def distribution(ticks: Iterator[int]) -> Distribution:
        return Distribution(round(tick / ticks_per_ns) for tick in ticks)

    times = {"seen": distribution(one.host - one.start for one in rounds)}
    if stamped:
        times["handler"] = distribution(one.guest - one.start for one in rounds)
    if rounds[0].due:
        times["due-seen"] = distribution(one.host - one.due for one in rounds)
        if stamped:
            times["due"] = distribution(one.guest - one.due for one in rounds)
    return times


def _clock_holds(rounds: list[Round]) -> bool:
    """Whether the guest's stamps lie between the host's times on either side: the TSC offset is right."""
    held = sum(one.start <= one.guest <= one.host for one in rounds)
    return held >= _CLOCK_HOLDS * len(rounds)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps Python's garbage collector from running within a turn."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
