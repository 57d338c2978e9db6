"""VMOs: memory in a memfd."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, ClassVar

from kvmbind.abi.constants import (
    ZX_DEFAULT_VMO_RIGHTS,
    ZX_INFO_VMO_RESIZABLE,
    ZX_INFO_VMO_TYPE_PAGED,
    ZX_INFO_VMO_VIA_HANDLE,
    ZX_OBJ_TYPE_VMO,
    ZX_VMO_ZERO_CHILDREN,
)
from kvmbind.abi.errors import BadStateError, NoMemoryError, OutOfRangeError, UnavailableError, from_os_error
from kvmbind.abi.structs import InfoVmo
from kvmbind.kvm import slots
from kvmbind.kvm.memory import PAGE_SIZE, Mapping, Memory, page_up
from kvmbind.zircon.dispatcher import Dispatcher
from kvmbind.zircon.locks import holding

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kvmbind._shim import Host
    from kvmbind.zircon.address_space import AddressSpace

SIZE_MAX = (1 << 63) - 4096  # a file offset is signed


class VmoDispatcher(Dispatcher):
    """Memory of whole pages, zero at first.

    Threads: any thread may use it. `sized` is the lock of a resizable one, that whoever relies on its size takes; the
    size of any other never changes, and the kernel orders its reads and writes.
    """

    __slots__ = ("_pins", "_spaces", "_spaces_lock", "memory", "resizable", "sized")

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_VMO
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_VMO_RIGHTS
    WAITABLE: ClassVar[bool] = True
    NAMEABLE: ClassVar[bool] = True

    def __init__(self, size: int, *, resizable: bool) -> None:
        """Makes it; `size` bytes are rounded up to pages.

        Raises:
            OutOfRangeError: `size` cannot be rounded up.
            ZxError: No fd or no memory is left.
        """
        _check_size("zx_vmo_create", size)
        try:
            self.memory = Memory(page_up(size), resizable=resizable)
        except OSError as error:
            raise from_os_error("zx_vmo_create", error) from error
        self.resizable = resizable
        self.sized: AbstractContextManager[object] = threading.Lock() if resizable else contextlib.nullcontext()
        #: The address spaces that have had it mapped. The lock is taken last.
        self._spaces_lock = threading.Lock()
        self._spaces: weakref.WeakSet[AddressSpace] = weakref.WeakSet()
        #: Host mappings that somebody uses by address, and how far into the VMO they reach.
        self._pins: list[tuple[weakref.ref[Host], int]] = []
        super().__init__(signals=ZX_VMO_ZERO_CHILDREN)  # and it never has any

    @property
    def size(self) -> int:
        """Bytes, a multiple of 4096."""
        return self.memory.size

    def read(self, offset: int, length: int) -> bytes:
        """Returns bytes; nothing if the range does not fit (OutOfRangeError)."""
        with self, self.sized:
            self._check_range("zx_vmo_read", offset, length)
            try:
                return self.memory.read(offset, length)
            except MemoryError as error:
                raise NoMemoryError("zx_vmo_read", f"there is no room for {length:#x} bytes at once") from error

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Stores bytes; none if the range does not fit (OutOfRangeError)."""
        with self, self.sized:
            self._check_range("zx_vmo_write", offset, memoryview(data).nbytes)
            try:
                self.memory.write(data, offset)
            except OSError as error:
                raise from_os_error("zx_vmo_write", error) from error

    def view(self) -> memoryview:
        """Returns all of it, writable, without a copy; it lives as long as its last reference."""
        with self, self.sized:
            return self._pin("Vmo.view", 0, self.size).view() if self.size else memoryview(bytearray())

    def pin(self, call: str, offset: int, length: int) -> tuple[Mapping, Host]:
        """Returns the host address of bytes within the size, and what keeps it.

        The VMO does not shrink below them while the caller refers to that. The caller has `sized`, or the lock of an
        address space in which the VMO is mapped: resizing takes both.
        """
        start = offset & -PAGE_SIZE
        mapping = self._pin(call, start, page_up(offset + length) - start)
        return mapping, mapping.at(offset - start)

    def _pin(self, call: str, offset: int, size: int) -> Mapping:
        try:
            mapping = self.memory.map(offset, size)
        except OSError as error:
            raise from_os_error(call, error) from error
        if self.resizable:
            self._pins.append((weakref.ref(mapping.host), offset + size))
        return mapping

    def mapped_by(self, space: AddressSpace) -> None:
        """Notes that an address space has it mapped from now on. The caller has `sized`."""
        with self._spaces_lock:
            self._spaces.add(space)

    def _all_spaces(self) -> list[AddressSpace]:
        with self._spaces_lock:
            return list(self._spaces)

    def resize(self, size: int) -> None:
        """Changes the size; see zx_vmo_set_size for errors. The VCPUs of guests that have it mapped are paused."""
        call = "zx_vmo_set_size"
        if not self.resizable:
            raise UnavailableError(call, "only a VMO that is made with ZX_VMO_RESIZABLE can be resized")
        _check_size(call, size)
        with self, self.sized:
            spaces = sorted(self._all_spaces(), key=id)
            holding([space.lock for space in spaces], lambda: self._resize(call, page_up(size), spaces))

    def _resize(self, call: str, size: int, spaces: list[AddressSpace]) -> None:
        self._pins = [(host, end) for host, end in self._pins if host() is not None]
        pinned = max((end for _, end in self._pins), default=0)
        if size < pinned:
            raise BadStateError(call, f"its first {pinned:#x} bytes are in use: release every view() first")
        try:
            plans = [space.resized(call, self, size) for space in spaces]
            slots.exchange([plan for plan in plans if plan is not None], self.memory, size)
        except OSError as error:
            raise from_os_error(call, error) from error
        finally:
            for space in spaces:
                space.settle()

    def info(self) -> InfoVmo:
        """Returns what is known of it; the rights of a handle are the caller's to add."""
        mappings = [count for count in (space.mappings_of(self) for space in self._all_spaces()) if count]
        with self:
            return InfoVmo(
                koid=self.koid,
                name=self.name,
                size_bytes=self.size,
                num_mappings=sum(mappings),
                share_count=len(mappings),
                flags=ZX_INFO_VMO_TYPE_PAGED | ZX_INFO_VMO_VIA_HANDLE | ZX_INFO_VMO_RESIZABLE * self.resizable,
                committed_bytes=self.memory.committed_bytes(),
            )

    def _check_range(self, call: str, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OutOfRangeError(call, f"bytes {offset:#x}..{offset + length:#x} of a VMO of {self.size:#x}")

    def _destroy(self) -> None:
        self.memory.close()


def _check_size(call: str, size: int) -> None:
    if size > SIZE_MAX:
        raise OutOfRangeError(call, f"{size:#x} bytes do not fit; the most is {SIZE_MAX:#x}")
