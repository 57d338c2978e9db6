"""Resources: the right to make guests and physical interrupts."""

from __future__ import annotations

from kvmbind.abi.constants import ZX_HANDLE_INVALID, ZX_RIGHT_WRITE
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.zircon import handles
from kvmbind.zircon.resource import ResourceDispatcher
from kvmbind.zx._values import unsigned


def get_root_resource(device: str = "/dev/kvm") -> int:
    """Opens the device and returns a handle to it as the root resource. Zircon hands it to a process at its start.

    Raises:
        OSError: It cannot be opened, or lacks something; the message says what to do.
    """
    resource = ResourceDispatcher.root(device)
    return handles.add(resource, resource.DEFAULT_RIGHTS)


def zx_resource_create(
    parent: int, options: int, base: int, size: int, name: bytes | bytearray | memoryview
) -> tuple[Status, int]:
    """Makes a resource: the right to one kind of thing, and of some kinds to a range of it.

    Args:
        parent: A resource of kind ROOT; needs ZX_RIGHT_WRITE. Its device stays open as long as the new one.
        options: ZX_RSRC_KIND_HYPERVISOR makes guests, ZX_RSRC_KIND_IRQ physical interrupts whose vectors are in its
            range; ROOT does all this and makes others; MMIO, IOPORT, VMEX are only shown. Or'ed with
            ZX_RSRC_FLAG_EXCLUSIVE, no other resource from this root may have a part of the range.
        base: The first number of a ranged kind: MMIO, IRQ, IOPORT, SMC. 0 for another.
        size: How many numbers; 0 for a kind without a range.
        name: Of which the first 31 bytes count, up to a NUL; ZX_INFO_RESOURCE shows it.

    Returns:
        The status and the resource. In this order: BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED for the parent; INVALID_ARGS
        for what is no uint; ACCESS_DENIED for a parent that is not of kind ROOT; INVALID_ARGS for options, for a range
        where none belongs, for size 0 or a range that wraps; NOT_FOUND for a range that is not there (vectors end at
        255, I/O ports at FFFFh, x86 has no SMC), or overlaps another if either is exclusive.
    """
    called = bytes(memoryview(name))
    try:
        root = handles.find(parent, ResourceDispatcher, ZX_RIGHT_WRITE)
        if not unsigned(32, options) or not unsigned(64, base, size):
            return Status.INVALID_ARGS, ZX_HANDLE_INVALID
        resource = root.create(options, base, size, called)
    except ZxError as error:
        return error.status, ZX_HANDLE_INVALID
    return Status.OK, handles.add(resource, resource.DEFAULT_RIGHTS)
