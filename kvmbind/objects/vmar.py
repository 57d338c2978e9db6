"""Vmar: where memory is in a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.abi.constants import (
    ZX_RIGHT_INSPECT,
    ZX_VM_MAP_RANGE,
    ZX_VM_PERM_EXECUTE,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_SPECIFIC,
    ZX_VM_SPECIFIC_OVERWRITE,
)
from kvmbind.abi.errors import InvalidArgsError
from kvmbind.objects.base import KernelObject
from kvmbind.zircon.vmar import VmarDispatcher, rights_for

if TYPE_CHECKING:
    from kvmbind.objects.vmo import Vmo


class Vmar(KernelObject[VmarDispatcher]):
    """A guest's physical address space. Mirrors zx_vmar_*.

    Threads: any thread may use it; a change to what is mapped pauses the guest's VCPUs.
    """

    __slots__ = ()
    _DISPATCHER = VmarDispatcher

    def map(
        self,
        vmo: Vmo,
        offset: int | None = None,
        *,
        vmo_offset: int = 0,
        length: int | None = None,
        read: bool = True,
        write: bool = True,
        execute: bool = True,
        overwrite: bool = False,
        populate: bool = False,
    ) -> int:
        """Makes a VMO's bytes guest-physical memory.

        Args:
            vmo: The memory; the guest keeps it.
            offset: Guest-physical address, a multiple of 4096; None takes the first gap.
            vmo_offset: Bytes, a multiple of 4096.
            length: Bytes, rounded up to pages; None: up to the VMO's end.
            read: Whether the guest may read; both handles need ZX_RIGHT_READ. Without it every access is an untrapped
                one, as if nothing were mapped: KVM has no memory that cannot be read.
            write: Whether it may write; otherwise a write is an untrapped access. Needs `read`.
            execute: Checked against rights, and not enforced: KVM has no such bit. Needs `read`.
            overwrite: Whether what is mapped there makes room; it stays if the new mapping cannot be made. Needs
                `offset`.
            populate: Whether the pages that the VMO has are entered into this process's page table at once, so that the
                guest's first access finds them sooner.

        Returns:
            The guest-physical address.

        Raises:
            AccessDeniedError: A handle lacks a right.
            InvalidArgsError: Something is not aligned, or outside the address space.
            AlreadyExistsError: Something is mapped there.
            NoMemoryError: No gap is large enough, or none is left in this process.
            NoResourcesError: The kernel has no memory slot left, or takes none so large.
            BadStateError: The guest is gone.
        """
        call = "zx_vmar_map"
        space, memory = self._object(call), vmo._object(call)
        if min(offset or 0, vmo_offset, length or 0) < 0:
            raise InvalidArgsError(call, "offset, vmo_offset and length must not be negative")
        if overwrite and offset is None:
            raise InvalidArgsError(call, "overwrite needs an offset")
        options = _permissions(read, write, execute) | (0 if offset is None else ZX_VM_SPECIFIC)
        options |= (ZX_VM_SPECIFIC_OVERWRITE if overwrite else 0) | (ZX_VM_MAP_RANGE if populate else 0)
        size = max(0, memory.size - vmo_offset) if length is None else length
        return space.map(options, offset or 0, memory, vmo_offset, size, rights=self.rights, vmo_rights=vmo.rights)

    def unmap(self, addr: int, length: int) -> None:
        """Takes whatever is mapped in a range out.

        Args:
            addr: Guest-physical address, a multiple of 4096.
            length: Bytes, rounded up to pages.

        Raises:
            InvalidArgsError: Not aligned, empty, or outside the address space.
            BadStateError: The guest is gone.
            NoResourcesError: Splitting a mapping needs more memory slots than there are.
        """
        self._object("zx_vmar_unmap").unmap(addr, length)

    def protect(self, addr: int, length: int, *, read: bool, write: bool, execute: bool) -> None:
        """Changes what the guest may do in a range. Mirrors zx_vmar_protect.

        Args:
            addr: Guest-physical address, a multiple of 4096.
            length: Bytes, rounded up to pages; all of it must be mapped.
            read: As of `map`.
            write: As of `map`.
            execute: As of `map`.

        Raises:
            AccessDeniedError: The handle lacks a right, or those by which a part was mapped did.
            InvalidArgsError: Not aligned, empty, outside the address space, or `write` or `execute` without `read`.
            NotFoundError: Not all of it is mapped.
            BadStateError: The guest is gone.
            NoResourcesError: Splitting a mapping needs more memory slots than there are.
        """
        options = _permissions(read, write, execute)
        self._object("zx_vmar_protect", rights_for(options)).protect(options, addr, length)

    def track_dirty(self, addr: int, length: int, *, enabled: bool = True) -> None:
        """Makes KVM note which pages of what is mapped in a range the guest's VCPUs write, for `dirty_pages`.

        Needs ZX_RIGHT_INSPECT; Zircon has no such call (KVM_MEM_LOG_DIRTY_PAGES). Parts that are protected, split or
        resized later stay tracked; what is mapped anew is not. What the host writes is not noted.

        Args:
            addr: Guest-physical address, a multiple of 4096.
            length: Bytes, rounded up to pages; where nothing is mapped is passed over.
            enabled: False stops it and forgets what was noted.

        Raises:
            InvalidArgsError: Not aligned, empty, or outside the address space.
            NotFoundError: Nothing is mapped there.
            BadStateError: The guest is gone.
            NoResourcesError: Splitting a mapping needs more memory slots than there are.
        """
        call = "Vmar.track_dirty"
        self._object(call, ZX_RIGHT_INSPECT).track_dirty(call, addr, length, enabled=enabled)

    def dirty_pages(self, addr: int, length: int) -> list[int]:
        """Returns which pages of a range the guest's VCPUs have written since `track_dirty` or the last call.

        The call clears what it returns, and pauses nobody: a page that is written meanwhile is in this list or in the
        next. No written page is missing, but one that was only read may be among them, once for each time that KVM
        maps it anew: KVM counts what it maps writable. Needs ZX_RIGHT_INSPECT; Zircon has no such call
        (KVM_GET_DIRTY_LOG).

        Args:
            addr: Guest-physical address, a multiple of 4096.
            length: Bytes, rounded up to pages; where nothing is mapped is passed over.

        Returns:
            Guest-physical addresses of pages of 4096 bytes, ascending.

        Raises:
            InvalidArgsError: Not aligned, empty, or outside the address space.
            NotFoundError: Nothing is mapped there.
            BadStateError: Something mapped there is not tracked; or the guest is gone.
        """
        call = "Vmar.dirty_pages"
        return self._object(call, ZX_RIGHT_INSPECT).dirty_pages(call, addr, length)


def _permissions(read: bool, write: bool, execute: bool) -> int:
    return (
        (ZX_VM_PERM_READ if read else 0) | (ZX_VM_PERM_WRITE if write else 0) | (ZX_VM_PERM_EXECUTE if execute else 0)
    )
