"""What is counted beside the times: by KVM, by the shim, by the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kvmbind.kvm.stats import VcpuStats


class Counters(NamedTuple):
    """What happened while something was measured, over all VCPUs of the guest. None: nobody counts it.

    triggers: how often it was done. counted: how often the guest's handler ran, once per VCPU and trigger.
    returns: how often KVM_RUN came back to user space, with an exit or for a kick.
    host_wakeups: how often a host thread woke on the way from the trigger to the guest.
    The others are KVM's statistics, which there are since Linux 5.14.
    """

    triggers: int
    counted: int | None = None
    returns: int | None = None
    host_wakeups: int | None = None
    exits: int | None = None
    irq_injections: int | None = None
    halt_wakeup: int | None = None
    halt_successful_poll: int | None = None
    halt_attempted_poll: int | None = None


_STATISTICS = ("exits", "irq_injections", "halt_wakeup", "halt_successful_poll", "halt_attempted_poll")


def snapshot(*, counted: int | None, returns: int, stats: Iterable[VcpuStats] | None) -> Counters:
    """Returns what a guest's VCPUs have counted so far, as if with no trigger."""
    vcpus = None if stats is None else list(stats)
    totals = (None if vcpus is None else sum(getattr(one, name) for one in vcpus) for name in _STATISTICS)
    return Counters(0, counted, returns, None, *totals)


def between(before: Counters, after: Counters, triggers: int) -> Counters:
    """Returns what has been counted from one snapshot to another, while something was done so many times."""
    changes = (None if a is None or b is None else b - a for a, b in zip(before[1:], after[1:], strict=True))
    return Counters(triggers, *changes)


def total(parts: Sequence[Counters]) -> Counters:
    """Adds them up; what one of them does not have, the sum does not have either."""
    triggers, *others = zip(*parts, strict=True)
    sums = (None if None in column else sum(column) for column in others)
    return Counters(sum(triggers), *sums)
