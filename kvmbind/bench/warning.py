"""Why figures may mean less than they seem to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvmbind.bench.host import Host, Noise
    from kvmbind.bench.plan import Plan
    from kvmbind.bench.report import Result

_STEAL_MAX = 0.01
_SWITCHES_PER_TRIGGER_MAX = 0.01
_LOAD_MAX_PER_CPU = 0.5
_WRONG_STATE_MAX = 0.1
_DRIFT_MAX = 0.2


def of_host(host: Host, noise: Noise) -> Iterator[str]:
    """Tells what the machine itself makes doubtful."""
    if host.in_software:
        yield (
            "this KVM runs guests in software (no vmx or svm): the times say nothing about hardware; "
            "the counts and, with care, the ratios do"
        )
    elif host.nested:
        yield "this machine is itself a guest: exits and injections cost more than on hardware"
    if host.governor not in (None, "performance"):
        yield f"the governor is {host.governor}: the processor's speed changes; set it to performance"
    if noise.steal > _STEAL_MAX:
        yield f"the outer hypervisor kept {noise.steal:.1%} of the processors' time (steal)"
    if noise.load > host.cpus * _LOAD_MAX_PER_CPU:
        yield f"the machine was busy when it began: load {noise.load:.1f} on {host.cpus} processors"


def of_latency(plan: Plan, host: Host, noise: Noise, results: Sequence[Result]) -> Iterator[str]:
    """Tells what makes a latency report doubtful beside the machine itself."""
    if host.cpus < plan.vcpus + 1:
        yield f"{plan.vcpus} VCPUs and the measuring thread share {host.cpus} processors"
    triggers = sum(result.triggers for result in results)
    if noise.involuntary_switches > _SWITCHES_PER_TRIGGER_MAX * triggers:
        yield f"{noise.involuntary_switches:,} times a thread was switched out for another, in {triggers:,} triggers"
    for result in results:
        yield from _of_result(plan, result)


def _of_result(plan: Plan, result: Result) -> Iterator[str]:
    counters = result.counters
    if result.counted is not None and result.counted != result.triggers * plan.vcpus:
        yield f"{result.name}: the guest counted {result.counted:,} of {result.triggers * plan.vcpus:,}"
    if result.shows in ("seen", "due-seen") and (plan.image is None or plan.image.count_at is None):
        yield (
            f"{result.name}: the guest's time stamps do not fit the host's: its times are until the host saw the "
            "answer, an upper bound"
        )
    polled = counters.halt_successful_poll
    if polled is not None and result.counted:
        share = polled / result.counted
        if plan.guest_state == "polling" and share < 1 - _WRONG_STATE_MAX:
            yield f"{result.name}: KVM polled for the guest at only {share:.0%} of the triggers"
        if plan.guest_state == "halted" and plan.image is None and plan.rate_hz is None and share > _WRONG_STATE_MAX:
            yield f"{result.name}: the guest was not asleep at {share:.0%} of the triggers, KVM still polled"
    medians = result.per_repeat(50)
    spread = (max(medians) - min(medians)) / max(result.p50_ns, 1)
    if spread > _DRIFT_MAX and result.name == "floor":
        yield f"the floor's p50 moved by {spread:.0%} between the repeats"
