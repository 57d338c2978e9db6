"""What is counted beside the times: by KVM, by the shim, by the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvmbind.kvm.stats import VcpuStats


class Counters(NamedTuple):
    """What happened while something was measured, over all VCPUs of the guest.

    triggers: how often it was fired, counted by the guest: how often its handler ran, once per VCPU and trigger.
    returns: how often KVM_RUN came back to user space, with an exit or for a kick.
    host_wakeups: how often a host thread woke on the way from the trigger to the guest.
    The others are KVM's statistics; None before Linux 5.14.
    """

    triggers: int
    counted: int
    returns: int
    host_wakeups: int
    exits: int | None
    irq_injections: int | None
    halt_wakeup: int | None
    halt_successful_poll: int | None
    halt_attempted_poll: int | None


_STATISTICS = ("exits", "irq_injections", "halt_wakeup", "halt_successful_poll", "halt_attempted_poll")
NOTHING = Counters(0, 0, 0, 0, 0, 0, 0, 0, 0)


def from_stats(counted: int, returns: int, stats: Iterable[VcpuStats] | None) -> Counters:
    """Makes a snapshot of what a guest's VCPUs have counted so far."""
    vcpus = None if stats is None else list(stats)
    totals = [None if vcpus is None else sum(getattr(one, name) for one in vcpus) for name in _STATISTICS]
    return Counters(0, counted, returns, 0, *totals)


def between(before: Counters, after: Counters, triggers: int) -> Counters:
    """Returns what has been counted from one snapshot to another, while something was fired so many times."""
    changes = (None if a is None or b is None else b - a for a, b in zip(before, after, strict=True))
    return Counters(*changes)._replace(triggers=triggers)  # type: ignore[arg-type]  # ints stay ints


def total(parts: Iterable[Counters]) -> Counters:
    """Adds them up."""
    columns = zip(NOTHING, *parts, strict=True)
    return Counters(*(None if None in column else sum(filter(None, column)) for column in columns))  # type: ignore[arg-type]  # as above
