"""Resources: the right to make guests and physical interrupts."""

from __future__ import annotations

from kvmbind.zircon import handles
from kvmbind.zircon.resource import ResourceDispatcher


def get_root_resource(device: str = "/dev/kvm") -> int:
    """Opens the device and returns a handle to it as the root resource. Zircon hands it to a process at its start.

    Raises:
        OSError: It cannot be opened, or lacks something; the message says what to do.
    """
    resource = ResourceDispatcher(device)
    return handles.add(resource, resource.DEFAULT_RIGHTS)
