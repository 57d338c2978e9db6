"""Resources: the right to make guests is an open /dev/kvm."""

from __future__ import annotations

from typing import ClassVar

from kvmbind.abi.constants import (
    ZX_DEFAULT_RESOURCE_RIGHTS,
    ZX_OBJ_TYPE_RESOURCE,
    ZX_RSRC_KIND_HYPERVISOR,
    ZX_RSRC_KIND_IRQ,
    ZX_RSRC_KIND_ROOT,
)
from kvmbind.abi.errors import WrongTypeError
from kvmbind.kvm.system import System
from kvmbind.zircon.dispatcher import Dispatcher


class ResourceDispatcher(Dispatcher):
    """A resource. The root resource has /dev/kvm open.

    Threads: any thread may use it; it never changes.
    """

    __slots__ = ("kind", "system")

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_RESOURCE
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_RESOURCE_RIGHTS
    WAITABLE: ClassVar[bool] = False

    def __init__(self, device: str) -> None:
        """Opens the device, as the root resource.

        Raises:
            OSError: It cannot be opened or lacks something; the message says what to do.
        """
        self.system = System(device)
        self.kind = ZX_RSRC_KIND_ROOT
        super().__init__()

    def require_hypervisor(self, call: str) -> None:
        """Raises WrongTypeError unless guests may be made with it."""
        if self.kind not in (ZX_RSRC_KIND_HYPERVISOR, ZX_RSRC_KIND_ROOT):
            raise WrongTypeError(call, "the resource is not of kind ZX_RSRC_KIND_HYPERVISOR or ROOT")

    def require_irq(self, call: str) -> None:
        """Raises WrongTypeError unless physical interrupts may be made with it."""
        if self.kind not in (ZX_RSRC_KIND_IRQ, ZX_RSRC_KIND_ROOT):
            raise WrongTypeError(call, "the resource is not of kind ZX_RSRC_KIND_IRQ or ROOT")

    def _destroy(self) -> None:
        self.system.close()
