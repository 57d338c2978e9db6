"""What KVM offers, and what kvmbind needs it for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.doctor.findings import Finding
from kvmbind.kvm import probe
from kvmbind.kvm.capabilities import OPTIONAL, REQUIRED, Capability
from kvmbind.kvm.refusals import LACKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmbind.doctor.place import Place

_LIMITS = (("VCPUs", 66), ("memory slots", 10), ("GSIs", 25))  # KVM_CAP_MAX_VCPUS, _NR_MEMSLOTS, _IRQ_ROUTING


def examine(fd: int, _: str, place: Place) -> Iterator[Finding]:
    """Yields of each capability whether it is there and what it is for; and how much a guest may have."""
    for capability in REQUIRED + OPTIONAL:
        yield _judge(capability, probe.capability(fd, capability.number) > 0, place)
    limits = {what: probe.capability(fd, number) for what, number in _LIMITS}
    sentence = ", ".join(f"{count} {what}" for what, count in limits.items())
    yield Finding.fine("guest", f"one may have {sentence}", **limits)


def _judge(capability: Capability, there: bool, place: Place) -> Finding:
    facts = {"capability": capability.name, "purpose": capability.purpose}
    if there:
        return Finding.fine("capability", f"{capability.name}, {capability.purpose}", **facts)
    summary = f"KVM lacks {capability.name}, needed {capability.purpose}"
    if capability in REQUIRED:
        return Finding.wrong("capability", summary, LACKING.fault, place, **facts)
    return Finding.warning("capability", summary, "capability", place, **facts)
