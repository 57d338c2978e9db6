"""zx_vmo_* and zx_vmar_*: memory, and where guests see it."""

from __future__ import annotations

from kvmbind.abi.constants import ZX_HANDLE_INVALID, ZX_RIGHT_READ, ZX_RIGHT_WRITE, ZX_VMO_RESIZABLE
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.zircon import handles
from kvmbind.zircon.vmar import VmarDispatcher, rights_for
from kvmbind.zircon.vmo import VmoDispatcher
from kvmbind.zx._values import refused, unsigned


def zx_vmo_create(size: int, options: int) -> tuple[Status, int]:
    """Makes memory, zero at first.

    Args:
        size: Bytes, rounded up to pages of 4096.
        options: 0, or ZX_VMO_RESIZABLE.

    Returns:
        The status and the VMO. INVALID_ARGS for options or a size that is no uint64; OUT_OF_RANGE for one that cannot
        be rounded up; NO_RESOURCES, NO_MEMORY as the kernel answers.
    """
    if options not in (0, ZX_VMO_RESIZABLE):
        return refused(options), ZX_HANDLE_INVALID
    if not unsigned(64, size):
        return Status.INVALID_ARGS, ZX_HANDLE_INVALID
    try:
        vmo = VmoDispatcher(size, resizable=options == ZX_VMO_RESIZABLE)
    except ZxError as error:
        return error.status, ZX_HANDLE_INVALID
    return Status.OK, handles.add(vmo, vmo.DEFAULT_RIGHTS)


def zx_vmo_read(vmo: int, offset: int, length: int) -> tuple[Status, bytes]:
    """Reads memory.

    Args:
        vmo: Needs ZX_RIGHT_READ.
        offset: Bytes.
        length: Bytes.

    Returns:
        The status and the bytes, none on failure. BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; INVALID_ARGS for what is no
        uint64; OUT_OF_RANGE if not all of it is inside.
    """
    try:
        source = handles.find(vmo, VmoDispatcher, ZX_RIGHT_READ)
        if not unsigned(64, offset, length):
            return Status.INVALID_ARGS, b""
        return Status.OK, source.read(offset, length)
    except ZxError as error:
        return error.status, b""


def zx_vmo_write(vmo: int, data: bytes | bytearray | memoryview, offset: int) -> Status:
    """Writes memory.

    Args:
        vmo: Needs ZX_RIGHT_WRITE.
        data: What to write.
        offset: Bytes.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; INVALID_ARGS for what is no uint64; OUT_OF_RANGE if not all of it
        fits: nothing is written then.
    """
    try:
        target = handles.find(vmo, VmoDispatcher, ZX_RIGHT_WRITE)
        if not unsigned(64, offset):
            return Status.INVALID_ARGS
        target.write(data, offset)
    except ZxError as error:
        return error.status
    return Status.OK


def zx_vmo_get_size(vmo: int) -> tuple[Status, int]:
    """Returns the status and the size in bytes, a multiple of 4096. BAD_HANDLE, WRONG_TYPE. Needs no right."""
    try:
        return Status.OK, handles.find(vmo, VmoDispatcher).size
    except ZxError as error:
        return error.status, 0


def zx_vmo_set_size(vmo: int, size: int) -> Status:
    """Changes the size; the VCPUs of guests that have it mapped pause for it.

    Args:
        vmo: Needs ZX_RIGHT_WRITE.
        size: Bytes, rounded up to pages of 4096. What is cut off is gone: guests find nothing there any more, and after
            growing again zeros.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; INVALID_ARGS for what is no uint64; UNAVAILABLE if the VMO was not
        made with ZX_VMO_RESIZABLE; OUT_OF_RANGE if it cannot be rounded up; BAD_STATE while the part to be cut off is
        used by address (`Vmo.view`); NO_RESOURCES, NO_MEMORY as the kernel answers. Nothing has changed on failure.
    """
    try:
        target = handles.find(vmo, VmoDispatcher, ZX_RIGHT_WRITE)
        if not unsigned(64, size):
            return Status.INVALID_ARGS
        target.resize(size)
    except ZxError as error:
        return error.status
    return Status.OK


def zx_vmar_map(
    vmar: int, options: int, vmar_offset: int, vmo: int, vmo_offset: int, length: int
) -> tuple[Status, int]:
    """Makes a VMO's bytes guest-physical memory.

    Args:
        vmar: A guest's.
        options: ZX_VM_PERM_READ, _WRITE, _EXECUTE, each held as a right by both handles; ZX_VM_SPECIFIC for vmar_offset
            to count; ZX_VM_SPECIFIC_OVERWRITE for what is mapped there to make room, in the same step;
            ZX_VM_MAP_RANGE for the VMO's pages to be found sooner; ZX_VM_REQUIRE_NON_RESIZABLE. A write without WRITE,
            and any access without READ, is an untrapped one. EXECUTE is checked and not enforced: KVM has no such bit.
        vmar_offset: Guest-physical address, a multiple of 4096; 0 without ZX_VM_SPECIFIC: the first gap is taken.
        vmo: Needs ZX_RIGHT_MAP.
        vmo_offset: A multiple of 4096.
        length: Bytes, rounded up to pages; may reach past the VMO's end, where the guest finds nothing.

    Returns:
        The status and the guest-physical address. BAD_HANDLE, WRONG_TYPE; ACCESS_DENIED; INVALID_ARGS; BAD_STATE when
        the guest is gone; ALREADY_EXISTS where something is mapped; NOT_SUPPORTED for a resizable VMO that must not be
        one; NO_MEMORY without a gap; NO_RESOURCES without a slot. Nothing has changed on failure.
    """
    try:
        target, rights = handles.find_with_rights(vmar, VmarDispatcher)
        source, vmo_rights = handles.find_with_rights(vmo, VmoDispatcher)
        if not unsigned(64, vmar_offset, vmo_offset, length) or not unsigned(32, options):
            return Status.INVALID_ARGS, 0
        addr = target.map(options, vmar_offset, source, vmo_offset, length, rights=rights, vmo_rights=vmo_rights)
    except ZxError as error:
        return error.status, 0
    return Status.OK, addr


def zx_vmar_unmap(vmar: int, addr: int, length: int) -> Status:
    """Takes guest-physical memory out, whatever is mapped in the range; the guest's VCPUs pause for it.

    Args:
        vmar: A guest's. Needs no right.
        addr: A multiple of 4096.
        length: Bytes, rounded up to pages.

    Returns:
        OK, also where nothing is mapped; BAD_HANDLE, WRONG_TYPE; INVALID_ARGS; BAD_STATE when the guest is gone;
        NO_RESOURCES if splitting a mapping needs more memory slots than there are.
    """
    try:
        target = handles.find(vmar, VmarDispatcher)
        if not unsigned(64, addr, length):
            return Status.INVALID_ARGS
        target.unmap(addr, length)
    except ZxError as error:
        return error.status
    return Status.OK


def zx_vmar_protect(vmar: int, options: int, addr: int, length: int) -> Status:
    """Changes what the guest may do with memory; its VCPUs pause for it.

    Args:
        vmar: A guest's; needs the rights that `options` name.
        options: ZX_VM_PERM_READ, _WRITE, _EXECUTE, or 0, as of zx_vmar_map.
        addr: A multiple of 4096.
        length: Bytes, rounded up to pages; mappings may be split.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; INVALID_ARGS; BAD_STATE when the guest is gone; NOT_FOUND if not all
        of it is mapped; ACCESS_DENIED beyond the rights by which it was mapped; NO_RESOURCES if splitting a mapping
        needs more memory slots than there are. Nothing has changed on failure.
    """
    try:
        target = handles.find(vmar, VmarDispatcher, rights_for(options))
        if not unsigned(64, addr, length) or not unsigned(32, options):
            return Status.INVALID_ARGS
        target.protect(options, addr, length)
    except ZxError as error:
        return error.status
    return Status.OK
