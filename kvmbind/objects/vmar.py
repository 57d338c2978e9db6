"""Vmar: where memory is in a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.abi.constants import (
    ZX_VM_PERM_EXECUTE,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_SPECIFIC,
)
from kvmbind.abi.errors import InvalidArgsError
from kvmbind.objects.base import KernelObject
from kvmbind.zircon.vmar import VmarDispatcher

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
    ) -> int:
        """Makes a VMO's bytes guest-physical memory.

        Args:
            vmo: The memory; the guest keeps it.
            offset: Guest-physical address, a multiple of 4096; None takes the first gap.
            vmo_offset: Bytes, a multiple of 4096.
            length: Bytes, rounded up to pages; None: up to the VMO's end.
            read: Whether the guest may read; both handles need ZX_RIGHT_READ.
            write: Whether it may write; otherwise a write is an untrapped access.
            execute: Checked against rights, and not enforced: KVM has no such bit.

        Returns:
            The guest-physical address.

        Raises:
            AccessDeniedError: A handle lacks a right.
            InvalidArgsError: Something is not aligned, or outside the address space.
            AlreadyExistsError: Something is mapped there.
            NoMemoryError: No gap is large enough.
            NoResourcesError: The kernel has no memory slot left.
            BadStateError: The guest is gone.
        """
        call = "zx_vmar_map"
        space, memory = self._object(call), vmo._object(call)
        if min(offset or 0, vmo_offset, length or 0) < 0:
            raise InvalidArgsError(call, "offset, vmo_offset and length must not be negative")
        options = (
            (ZX_VM_PERM_READ if read else 0)
            | (ZX_VM_PERM_WRITE if write else 0)
            | (ZX_VM_PERM_EXECUTE if execute else 0)
            | (0 if offset is None else ZX_VM_SPECIFIC)
        )
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
        if addr < 0 or length < 0:
            raise InvalidArgsError("zx_vmar_unmap", "addr and length must not be negative")
        self._object("zx_vmar_unmap").unmap(addr, length)
