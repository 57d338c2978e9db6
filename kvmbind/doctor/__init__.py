"""Looks at this machine as a host for guests, and says for each fault what to do.

It needs nothing of kvmbind that is compiled until the device has opened: a broken build is one of its findings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.doctor import capabilities, delivery, device, limits, module
from kvmbind.doctor.findings import Finding, Level
from kvmbind.doctor.place import Files, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Files", "Finding", "Level", "Place", "examine"]

#: What can be looked at once the device is open. Each builds on those before it.
_STEPS = (
    ("api, vm", device.examine),
    ("capabilities", capabilities.examine),
    ("interrupts", delivery.examine),
)


def examine(place: Place, files: Files, device_path: str = "/dev/kvm") -> Iterator[Finding]:
    """Yields the findings, each as soon as it is known.

    A machine on which guests run yields no `Level.FAULT`. What a fault keeps from being looked at is `Level.SKIPPED`.

    Args:
        place: Where this process is: `Place.look(files, os.environ)`.
        files: The /etc, /proc and /sys to read.
        device_path: The device to open.
    """
    yield from module.examine(place, files)
    yield from limits.examine(place, files)
    with device.opened(device_path) as (fd, os_error):
        if os_error is None:
            finding = Finding.fine("device", f"{device_path} opens for reading and writing", device=device_path)
        else:
            finding = device.refusal(os_error, device.Node.look(device_path), place, files)
        yield finding
        sound = finding.level is not Level.FAULT
        for topic, step in _STEPS:
            if not sound:
                yield Finding.skipped(topic, "not looked at: see the fault above")
                continue
            for finding in step(fd, device_path, place):
                yield finding
                sound = sound and finding.level is not Level.FAULT
