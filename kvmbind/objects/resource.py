"""Resource: the right to make guests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.objects.base import KernelObject
from kvmbind.zircon.resource import ResourceDispatcher

if TYPE_CHECKING:
    from typing import Self


class Resource(KernelObject[ResourceDispatcher]):
    """The right to make guests: an open /dev/kvm. Mirrors zx_resource_create's root.

    Threads: any thread may use it.
    """

    __slots__ = ()
    _DISPATCHER = ResourceDispatcher

    @classmethod
    def root(cls, device: str = "/dev/kvm") -> Self:
        """Opens the device.

        Raises:
            OSError: It cannot be opened, or lacks something; the message says what to do.
        """
        return cls._wrap(ResourceDispatcher(device))
