"""VMOs: memory in a memfd."""

from __future__ import annotations

from typing import ClassVar

from kvmbind.abi.constants import ZX_DEFAULT_VMO_RIGHTS, ZX_OBJ_TYPE_VMO, ZX_VMO_ZERO_CHILDREN
from kvmbind.abi.errors import NoMemoryError, OutOfRangeError, from_os_error
from kvmbind.kvm.memory import Mapping, Memory, page_up
from kvmbind.zircon.dispatcher import Dispatcher

SIZE_MAX = (1 << 63) - 4096  # a file offset is signed


class VmoDispatcher(Dispatcher):
    """Memory of whole pages, zero at first.

    Threads: any thread may use it; the kernel orders reads and writes.
    """

    __slots__ = ("memory", "resizable")

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_VMO
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_VMO_RIGHTS
    WAITABLE: ClassVar[bool] = True

    def __init__(self, size: int, *, resizable: bool) -> None:
        """Makes it; `size` bytes are rounded up to pages.

        Raises:
            OutOfRangeError: `size` cannot be rounded up.
            ZxError: No fd or no memory is left.
        """
        if size > SIZE_MAX:
            raise OutOfRangeError("zx_vmo_create", f"{size:#x} bytes do not fit; the most is {SIZE_MAX:#x}")
        try:
            self.memory = Memory(page_up(size))
        except OSError as error:
            raise from_os_error("zx_vmo_create", error) from error
        self.resizable = resizable
        super().__init__(signals=ZX_VMO_ZERO_CHILDREN)  # and it never has any

    @property
    def size(self) -> int:
        """Bytes, a multiple of 4096."""
        return self.memory.size

    def read(self, offset: int, length: int) -> bytes:
        """Returns bytes; nothing if the range does not fit (OutOfRangeError)."""
        with self:
            self._check_range("zx_vmo_read", offset, length)
            try:
                return self.memory.read(offset, length)
            except MemoryError as error:
                raise NoMemoryError("zx_vmo_read", f"there is no room for {length:#x} bytes at once") from error

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Stores bytes; none if the range does not fit (OutOfRangeError)."""
        with self:
            self._check_range("zx_vmo_write", offset, memoryview(data).nbytes)
            try:
                self.memory.write(data, offset)
            except OSError as error:
                raise from_os_error("zx_vmo_write", error) from error

    def map(self, offset: int, length: int) -> Mapping:
        """Maps a part of it into this process."""
        with self:
            return self.memory.map(offset, length)

    def view(self) -> memoryview:
        """Returns all of it, writable, without a copy; it lives as long as its last reference."""
        with self:
            try:
                return self.memory.map(0, self.size).view() if self.size else memoryview(bytearray())
            except OSError as error:
                raise from_os_error("Vmo.view", error) from error

    def _check_range(self, call: str, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OutOfRangeError(call, f"bytes {offset:#x}..{offset + length:#x} of a VMO of {self.size:#x}")

    def _destroy(self) -> None:
        self.memory.close()
