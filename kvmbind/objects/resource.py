"""Resource: the right to make guests, and to ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.abi.constants import ZX_RIGHT_INSPECT, ZX_RIGHT_WRITE, ZX_RSRC_FLAG_EXCLUSIVE
from kvmbind.abi.errors import InvalidArgsError
from kvmbind.objects.base import KernelObject, encode_name
from kvmbind.zircon.resource import ResourceDispatcher

if TYPE_CHECKING:
    from typing import Self

    from kvmbind.abi.structs import InfoResource


class Resource(KernelObject[ResourceDispatcher]):
    """The right to make guests: an open /dev/kvm. Or the right to a range. Mirrors zx_resource_create.

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
        return cls._wrap(ResourceDispatcher.root(device))

    @classmethod
    def create(
        cls, parent: Resource, kind: int, base: int = 0, size: int = 0, name: str = "", *, exclusive: bool = False
    ) -> Self:
        """Makes a resource from a root. Needs ZX_RIGHT_WRITE of the parent, whose device stays open as long as this.

        Args:
            parent: Of kind ROOT.
            kind: ZX_RSRC_KIND_HYPERVISOR to make guests, ZX_RSRC_KIND_IRQ to make physical interrupts, by
                zx_interrupt_create, with vectors in a range; ZX_RSRC_KIND_MMIO, _IOPORT, _VMEX, _ROOT are only shown.
            base: The first number of a ranged kind (MMIO, IRQ, IOPORT).
            size: How many numbers; 0 for a kind without a range.
            name: At most 31 bytes of UTF-8; ZX_INFO_RESOURCE shows it.
            exclusive: Whether no other resource from this root may have a part of the range.

        Raises:
            AccessDeniedError: The parent is not of kind ROOT.
            InvalidArgsError: No such kind, a range where none belongs or none where one does, or a name too long.
            NotFoundError: There is no such range, or it overlaps another if either is exclusive.
        """
        call = "zx_resource_create"
        root = parent._object(call, ZX_RIGHT_WRITE)
        if not 0 <= kind < 1 << 32 or not 0 <= base < 1 << 64 or not 0 <= size < 1 << 64:
            raise InvalidArgsError(call, "kind is no 32-bit, or base or size no 64-bit number")
        options = kind | ZX_RSRC_FLAG_EXCLUSIVE * exclusive
        return cls._wrap(root.create(options, base, size, encode_name(call, name)))

    @property
    def info(self) -> InfoResource:
        """Its kind, flags, base, size and name, as ZX_INFO_RESOURCE has them. Needs ZX_RIGHT_INSPECT."""
        return self._object("zx_object_get_info", ZX_RIGHT_INSPECT).info()
