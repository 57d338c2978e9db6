"""How long an interrupt takes from its trigger to the guest's handler."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from kvmbind.bench import counters, host
from kvmbind.bench.affinity import on_cpu
from kvmbind.bench.distribution import Distribution
from kvmbind.bench.mechanisms import MECHANISMS, Lab
from kvmbind.bench.plan import PlanError, make_plan
from kvmbind.bench.probe import Pace, calibrate
from kvmbind.bench.run import Contestant, Run, Taken, split_evenly
from kvmbind.bench.warning import of_latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvmbind.bench.host import Host, Noise
    from kvmbind.bench.mechanisms import Mechanism
    from kvmbind.bench.plan import Answer, GuestState, ImagePlan, Plan
    from kvmbind.bench.probe import Round
    from kvmbind.bench.report import Report, Result

BASE = "floor"
_CLOCK_ROUNDS = 50
_CLOCK_HOLDS = 0.99  # of the rounds: the TSCs of two processors may be a few ticks apart

#: Which of the times a report shows: by whether there are the guest's stamps, and whether there is a rate.
_SHOWN = {(True, False): "handler", (False, False): "seen", (True, True): "due", (False, True): "due-seen"}

#: What the times of a turn are, by name, with the guest that is kvmbind's own.
MEASURES = {
    "handler": "from just before the trigger to the first instruction of the guest's handler, by its own time stamp",
    "seen": "from just before the trigger until the host sees the handler's answer",
    "due": "from when the trigger was due to the first instruction of the guest's handler",
    "due-seen": "from when the trigger was due until the host sees the handler's answer",
}

#: And with an image that is fired at.
IMAGE_MEASURES = {
    "handler": "from just before the trigger to the BIOS's first instructions on the way to the image's handler, by "
    "the guest's own time stamp",
    "seen": "from just before the trigger until the host sees the count of the image's handler",
    "due": "from when the trigger was due to the BIOS's first instructions on the way to the image's handler",
    "due-seen": "from when the trigger was due until the host sees the count of the image's handler",
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
    image: ImagePlan | None = None,
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
        image: Fire at a program in a `Machine` instead of kvmbind's own: its path; the vector of its handler; whether
            that is bound as it is (is_raw), for programs in protected mode, which must say where they count; and
            count_at, the linear address of a dword that the handler counts up by one. Without count_at times end at
            the BIOS's stamp, on the way to the handler; with it, when the host sees the count.

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
            pin=pin, warmup=warmup, repeat=repeat, image=image,
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
    image: ImagePlan | None = None,
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
        image=image,
    )  # fmt: skip
    refusals = {name: refusal for name in plan.mechanisms if (refusal := MECHANISMS[name].refusal(plan))}
    if mechanisms is None:
        return plan._replace(mechanisms=tuple(name for name in plan.mechanisms if name not in refusals))
    for name, refusal in refusals.items():
        raise PlanError(f"{name} cannot be measured so: {refusal}")
    return plan


class LatencyRun(Run):
    """One run of `latency`.

    Threads: one.
    """

    BENCH: ClassVar[str] = "latency"

    def __init__(self, plan: Plan) -> None:
        """Measures nothing yet."""
        self._measures = MEASURES if plan.image is None else IMAGE_MEASURES
        super().__init__(self._measures["handler"], _options(plan), split_evenly(plan.n, plan.repeat))
        self.plan = plan

    @contextmanager
    def open(self) -> Iterator[list[Contestant]]:
        """Opens the mechanisms, and looks which of them have time stamps that can be compared."""
        plan = self.plan
        pace = Pace(
            calibrate(),
            gap_ns=plan.gap_us * 1000,
            interval_ns=1e9 / plan.rate_hz if plan.rate_hz else 0,
            asleep=plan.guest_state == "halted" and plan.rate_hz is None,
        )
        with Lab(plan, pace) as lab:
            # Opened first: the threads that they start are not to inherit this thread's processor.
            mechanisms = [kind(lab) for name, kind in MECHANISMS.items() if name in plan.mechanisms]
            with on_cpu(lab.firing_cpu):
                has_stamps = lab.image is None or lab.image.is_stamped
                contestants = [self._contestant(one, pace.ticks_per_ns, has_stamps) for one in mechanisms]
                self.title: str = self._measures[contestants[0].shows]
                yield contestants

    def _contestant(self, mechanism: Mechanism, ticks_per_ns: float, has_stamps: bool) -> Contestant:
        stamped = _clock_holds(mechanism.rounds(_CLOCK_ROUNDS)) and has_stamps
        counts_itself = self.plan.image is not None and self.plan.image.count_at is not None
        shows = _SHOWN[stamped and not counts_itself, self.plan.rate_hz is not None]

        def take(n: int) -> Taken:
            if self.plan.warmup:
                mechanism.rounds(self.plan.warmup)
            before = mechanism.snapshot()
            rounds = mechanism.rounds(n)
            counted = counters.between(before, mechanism.snapshot(), n)
            return Taken(_times(rounds, ticks_per_ns, stamped=stamped), counted)

        base = BASE if BASE in self.plan.mechanisms else None
        return Contestant(mechanism.NAME, mechanism.SAYS, shows, base, take)

    def doubts(self, facts: Host, noise: Noise, results: Sequence[Result]) -> Iterator[str]:
        """Tells why the figures may mean less than they seem to."""
        yield from super().doubts(facts, noise, results)
        yield from of_latency(self.plan, facts, noise, results)


def _options(plan: Plan) -> dict[str, object]:
    """The options as a report has them: those of an image in place of those that it decides itself."""
    options = plan._asdict()
    image: ImagePlan | None = options.pop("image")
    if image is None:
        return options
    for decided in ("guest_state", "answer", "vcpus"):
        del options[decided]
    at = {} if image.count_at is None else {"count_at": f"{image.count_at:x}"}
    return options | {"image": image.path, "irq": f"{'raw:' if image.is_raw else ''}{image.vector:02x}"} | at


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
