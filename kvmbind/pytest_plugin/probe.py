"""Whether KVM works, and what it is: asked of the device itself, by system calls that need nothing compiled."""

from __future__ import annotations

import os

from kvmbind.kvm import probe
from kvmbind.kvm.capabilities import OPTIONAL, REQUIRED
from kvmbind.kvm.refusals import lacks, refused


def find_problem(device: str) -> str | None:
    """Tells what keeps ``device`` from working as KVM, and the remedy.

    Opens it for reading and writing, asks for its version (``KVM_GET_API_VERSION``) and for what every guest
    needs (``KVM_CHECK_EXTENSION``).

    Args:
        device: path of the device, ``/dev/kvm``.

    Returns:
        One sentence, that of the error which making a guest would raise; or None when KVM works.
    """
    try:
        with probe.opened(device) as fd:
            probe.require_version(fd)
            missing = next((each for each in REQUIRED if probe.capability(fd, each.number) <= 0), None)
    except OSError as error:
        return refused(error.errno or 0, device).strerror
    return lacks(missing, device).strerror if missing else None


def describe(device: str) -> str:
    """Says what a ``device`` that works is: its module, its version, and what it lacks of what some guests need."""
    with probe.opened(device) as fd:
        version = probe.api_version(fd)
        lacking = [each.name for each in OPTIONAL if probe.capability(fd, each.number) <= 0]
    parts = [_module() or device, f"API {version}"]
    if lacking:
        parts.append(f"lacks {', '.join(lacking)}")
    return ", ".join(parts)


def _module() -> str:
    try:
        names = os.listdir("/sys/module")
    except OSError:
        return ""
    return next((name for name in sorted(names) if name.startswith("kvm_")), "")
