"""What a latency measurement is asked to do."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple, get_args

from kvmbind.kvm.msi import CLUSTER_SIZE

GuestState = Literal["halted", "polling", "spinning"]
Answer = Literal["store", "bell"]
GUEST_STATES = get_args(GuestState)
ANSWERS = get_args(Answer)

_AWAKE_GAP_US = 20.0  # within the polling window, which is 200 us unless a host says otherwise
_ASLEEP_GAP_MIN_US = 200.0


class PlanError(ValueError):
    """A plan that cannot be measured: the sentence says what to change."""


class ImagePlan(NamedTuple):
    """An image that is fired at in a machine. `latency` says what each means."""

    path: str
    vector: int
    is_raw: bool = False
    count_at: int | None = None


class Plan(NamedTuple):
    """The options of `latency`, which says what each means; made by `make_plan`, which has checked them."""

    mechanisms: tuple[str, ...]
    n: int
    guest_state: GuestState
    answer: Answer
    vcpus: int
    rate_hz: float | None
    gap_us: float
    pin: tuple[int, ...]
    warmup: int
    repeat: int
    image: ImagePlan | None = None


def make_plan(
    mechanisms: tuple[str, ...],
    *,
    n: int,
    guest_state: str,
    answer: str,
    vcpus: int,
    rate_hz: float | None,
    gap_us: float | None,
    pin: tuple[int, ...],
    warmup: int,
    repeat: int,
    halt_poll_ns: int | None,
    image: ImagePlan | None = None,
) -> Plan:
    """Checks the options against each other and fills in the gap.

    Raises:
        PlanError: They cannot be measured.
    """
    if guest_state not in GUEST_STATES:
        raise PlanError(f"guest state {guest_state!r} is none of {', '.join(GUEST_STATES)}")
    if answer not in ANSWERS:
        raise PlanError(f"answer {answer!r} is none of {', '.join(ANSWERS)}")
    if not mechanisms:
        raise PlanError("name one mechanism at least")
    if repeat < 1 or warmup < 0:
        raise PlanError("repeat must be at least 1, and warmup not negative")
    if n < repeat:
        raise PlanError(f"n is {n}: {repeat} repeats need one trigger each at least")
    if not 1 <= vcpus <= CLUSTER_SIZE:
        raise PlanError(f"{vcpus} VCPUs: one write reaches 1 to {CLUSTER_SIZE}")
    if rate_hz is not None and gap_us is not None:
        raise PlanError("choose one of a rate and a gap: a rate says when the next trigger comes")
    if rate_hz is not None and not 0 < rate_hz <= 1e7:
        raise PlanError(f"a rate of {rate_hz:g} triggers a second is not in 0 to 10 million")
    if gap_us is not None and not 0 <= gap_us <= 1e6:
        raise PlanError(f"a gap of {gap_us:g} us is not in 0 to 1 second")
    if image is not None:
        _require_image(image, guest_state, answer, vcpus)
    _require_polling(guest_state, rate_hz, gap_us, halt_poll_ns)
    _require_cpus(pin)
    if gap_us is None:
        asleep_gap_us = max(_ASLEEP_GAP_MIN_US, 2 * (halt_poll_ns or 0) / 1000)
        gap_us = asleep_gap_us if guest_state == "halted" else _AWAKE_GAP_US
    names = tuple(dict.fromkeys(mechanisms))
    return Plan(names, n, guest_state, answer, vcpus, rate_hz, gap_us, pin, warmup, repeat, image)  # type: ignore[arg-type]  # checked above


def _require_image(image: ImagePlan, guest_state: str, answer: str, vcpus: int) -> None:
    if guest_state != "halted" or answer != "store" or vcpus != 1:
        raise PlanError("an image has one VCPU, sleeps or runs as it likes, and rings no bell: leave those options out")
    if not (16 if image.is_raw else 0) <= image.vector <= 255:
        raise PlanError(f"vector {image.vector:x}h is not {16 if image.is_raw else 0:x}h to ffh")
    if image.is_raw and image.count_at is None:
        raise PlanError("nothing tells when a handler of a raw vector has run: say where it counts")


def _require_polling(guest_state: str, rate_hz: float | None, gap_us: float | None, halt_poll_ns: int | None) -> None:
    if guest_state != "polling":
        return
    if rate_hz is not None:
        raise PlanError("with a rate the guest is asleep or in the polling window as the pace has it: choose halted")
    if halt_poll_ns == 0:
        raise PlanError("KVM polls for no guest here (halt_poll_ns is 0): choose halted, or set that parameter of kvm")
    if halt_poll_ns is not None and (gap_us or 0) * 1000 >= halt_poll_ns:
        raise PlanError(f"a gap of {gap_us:g} us is longer than KVM polls ({halt_poll_ns / 1000:g} us)")


def _require_cpus(pin: tuple[int, ...]) -> None:
    allowed = os.sched_getaffinity(0)
    missing = [cpu for cpu in pin if cpu not in allowed]
    if missing:
        raise PlanError(f"CPU {missing[0]} cannot be had: this process may use {', '.join(map(str, sorted(allowed)))}")
