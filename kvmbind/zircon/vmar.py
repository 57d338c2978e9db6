"""The VMAR of a guest: its physical address space, as a handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kvmbind.abi.constants import (
    ZX_DEFAULT_GUEST_VMAR_RIGHTS,
    ZX_OBJ_TYPE_VMAR,
    ZX_RIGHT_EXECUTE,
    ZX_RIGHT_MAP,
    ZX_RIGHT_READ,
    ZX_RIGHT_WRITE,
    ZX_VM_CAN_MAP_EXECUTE,
    ZX_VM_CAN_MAP_READ,
    ZX_VM_CAN_MAP_SPECIFIC,
    ZX_VM_CAN_MAP_WRITE,
    ZX_VM_COMPACT,
    ZX_VM_MAP_RANGE,
    ZX_VM_PERM_EXECUTE,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_REQUIRE_NON_RESIZABLE,
    ZX_VM_SPECIFIC,
    ZX_VM_SPECIFIC_OVERWRITE,
)
from kvmbind.abi.errors import AccessDeniedError, InvalidArgsError, NotSupportedError
from kvmbind.kvm.memory import PAGE_SIZE, page_up
from kvmbind.zircon.dispatcher import Dispatcher

if TYPE_CHECKING:
    from kvmbind.zircon.address_space import AddressSpace
    from kvmbind.zircon.vmo import VmoDispatcher

_PERMISSIONS = (
    (ZX_VM_PERM_READ, ZX_RIGHT_READ, "READ"),
    (ZX_VM_PERM_WRITE, ZX_RIGHT_WRITE, "WRITE"),
    (ZX_VM_PERM_EXECUTE, ZX_RIGHT_EXECUTE, "EXECUTE"),
)
_RIGHTS = ZX_VM_PERM_READ | ZX_VM_PERM_WRITE | ZX_VM_PERM_EXECUTE
_CAN_MAP = ZX_VM_CAN_MAP_READ | ZX_VM_CAN_MAP_WRITE | ZX_VM_CAN_MAP_EXECUTE
_KNOWN = (
    _RIGHTS
    | ZX_VM_COMPACT
    | ZX_VM_SPECIFIC
    | ZX_VM_SPECIFIC_OVERWRITE
    | ZX_VM_CAN_MAP_SPECIFIC
    | _CAN_MAP
    | ZX_VM_MAP_RANGE
    | ZX_VM_REQUIRE_NON_RESIZABLE
)
_U64_END = 1 << 64


class VmarDispatcher(Dispatcher):
    """A guest's physical address space. It does not keep the guest alive: without it every call is BAD_STATE.

    Threads: any thread may use it.
    """

    __slots__ = ("space",)

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_VMAR
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_GUEST_VMAR_RIGHTS
    WAITABLE: ClassVar[bool] = False

    def __init__(self, space: AddressSpace) -> None:
        """Wraps the address space of a guest."""
        self.space = space
        super().__init__()

    def map(
        self,
        options: int,
        offset: int,
        vmo: VmoDispatcher,
        vmo_offset: int,
        length: int,
        *,
        rights: int,
        vmo_rights: int,
    ) -> int:
        """Maps a VMO; see zx_vmar_map for arguments and errors. The rights are those of the two handles."""
        call = "zx_vmar_map"
        specific = bool(options & (ZX_VM_SPECIFIC | ZX_VM_SPECIFIC_OVERWRITE))
        _check_map_options(call, options, vmo, rights, vmo_rights)
        if vmo_offset % PAGE_SIZE or vmo_offset + length > _U64_END:
            raise InvalidArgsError(call, f"vmo_offset {vmo_offset:#x} is not a multiple of 4096 or too large")
        self.space.require_living(call)
        if not length:
            raise InvalidArgsError(call, "length is 0")
        if offset and not specific:
            raise InvalidArgsError(call, "an offset needs ZX_VM_SPECIFIC")
        length = page_up(length)
        if offset + length > self.space.size:
            raise InvalidArgsError(call, f"the guest's address space ends at {self.space.size:#x}")
        if offset % PAGE_SIZE:
            raise InvalidArgsError(call, f"offset {offset:#x} is not a multiple of 4096")
        return self.space.map(
            call,
            offset if specific else None,
            length,
            vmo,
            vmo_offset,
            permissions=options & _RIGHTS,
            allowed=sum(permission for permission, right, _ in _PERMISSIONS if rights & vmo_rights & right),
            overwrite=bool(options & ZX_VM_SPECIFIC_OVERWRITE),
            populate=bool(options & ZX_VM_MAP_RANGE),
        )

    def unmap(self, addr: int, length: int) -> None:
        """Unmaps whatever is in a range; see zx_vmar_unmap for arguments and errors."""
        call = "zx_vmar_unmap"
        self.space.unmap(call, addr, _check_pages(call, addr, length))

    def protect(self, options: int, addr: int, length: int) -> None:
        """Changes what the guest may do; see zx_vmar_protect for arguments and errors."""
        call = "zx_vmar_protect"
        if options & ~_RIGHTS:
            raise InvalidArgsError(call, f"options {options & ~_RIGHTS:#x} are none of ZX_VM_PERM_*")
        _check_permissions(call, options)
        self.space.protect(call, addr, _check_pages(call, addr, length), options)

    def track_dirty(self, call: str, addr: int, length: int, *, enabled: bool) -> None:
        """Makes KVM note which pages of a range VCPUs write, or not; see Vmar.track_dirty for arguments and errors."""
        self.space.track_dirty(call, addr, _check_pages(call, addr, length), enabled=enabled)

    def dirty_pages(self, call: str, addr: int, length: int) -> list[int]:
        """Returns which pages of a range VCPUs have written; see Vmar.dirty_pages for arguments and errors."""
        return self.space.dirty_pages(call, addr, _check_pages(call, addr, length))


def rights_for(options: int) -> int:
    """Returns the rights that the permissions among these options need."""
    return sum(right for permission, right, _ in _PERMISSIONS if options & permission)


def _check_pages(call: str, addr: int, length: int) -> int:
    if addr < 0 or length < 0 or addr % PAGE_SIZE or not length:
        raise InvalidArgsError(call, "addr must be a multiple of 4096, and length more than 0")
    return page_up(length)


def _check_permissions(call: str, options: int) -> None:
    if options & (ZX_VM_PERM_WRITE | ZX_VM_PERM_EXECUTE) and not options & ZX_VM_PERM_READ:
        raise InvalidArgsError(call, "ZX_VM_PERM_WRITE and _EXECUTE need ZX_VM_PERM_READ")


def _check_map_options(call: str, options: int, vmo: VmoDispatcher, rights: int, vmo_rights: int) -> None:
    if not vmo_rights & ZX_RIGHT_MAP:
        raise AccessDeniedError(call, "the VMO's handle lacks ZX_RIGHT_MAP")
    _check_permissions(call, options)
    if options & ZX_VM_MAP_RANGE and options & ZX_VM_SPECIFIC_OVERWRITE:
        raise InvalidArgsError(call, "ZX_VM_MAP_RANGE does not go with ZX_VM_SPECIFIC_OVERWRITE")
    if options & _CAN_MAP:
        raise InvalidArgsError(call, "ZX_VM_CAN_MAP_* are for VMARs, not for mappings")
    for permission, right, name in _PERMISSIONS:
        if options & permission and not rights & vmo_rights & right:
            raise AccessDeniedError(call, f"ZX_VM_PERM_{name} needs ZX_RIGHT_{name} on both handles")
    if options & ~_KNOWN:
        raise InvalidArgsError(call, f"options {options & ~_KNOWN:#x} are unknown")
    if options & ZX_VM_REQUIRE_NON_RESIZABLE and vmo.resizable:
        raise NotSupportedError(call, "the VMO is resizable")
    if options & (ZX_VM_COMPACT | ZX_VM_CAN_MAP_SPECIFIC):
        raise InvalidArgsError(call, "ZX_VM_COMPACT and _CAN_MAP_SPECIFIC are for VMARs, not for mappings")
