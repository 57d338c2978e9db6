"""Vmo: memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.abi.constants import ZX_RIGHT_GET_PROPERTY, ZX_RIGHT_READ, ZX_RIGHT_SET_PROPERTY, ZX_RIGHT_WRITE
from kvmbind.abi.errors import InvalidArgsError
from kvmbind.objects.base import encode_name
from kvmbind.objects.waitable import WaitableObject
from kvmbind.zircon.vmo import VmoDispatcher

if TYPE_CHECKING:
    from typing import Self


class Vmo(WaitableObject[VmoDispatcher]):
    """Memory of whole pages in a memfd, zero at first. Mirrors zx_vmo_*.

    Threads: any thread may use it.
    """

    __slots__ = ()
    _DISPATCHER = VmoDispatcher

    @classmethod
    def create(cls, size: int, *, resizable: bool = False) -> Self:
        """Makes memory.

        Args:
            size: Bytes, rounded up to pages of 4096.
            resizable: Whether it is a ZX_VMO_RESIZABLE one.

        Raises:
            InvalidArgsError: `size` is negative.
            OutOfRangeError: `size` cannot be rounded up.
            NoMemoryError, NoResourcesError: As the kernel answers.
        """
        if size < 0:
            raise InvalidArgsError("zx_vmo_create", f"size {size} is negative")
        return cls._wrap(VmoDispatcher(size, resizable=resizable))

    @property
    def size(self) -> int:
        """Bytes, a multiple of 4096."""
        return self._object("zx_vmo_get_size").size

    @property
    def name(self) -> str:
        """Its name, which ZX_INFO_VMO shows: at most 31 bytes of UTF-8, "" at first.

        Mirrors ZX_PROP_NAME; needs ZX_RIGHT_GET_PROPERTY, and ZX_RIGHT_SET_PROPERTY to be set; InvalidArgsError for one
        that is too long or has a NUL.
        """
        return self._object("zx_object_get_property", ZX_RIGHT_GET_PROPERTY).name.decode(errors="replace")

    @name.setter
    def name(self, name: str) -> None:
        call = "zx_object_set_property"
        self._object(call, ZX_RIGHT_SET_PROPERTY).rename(encode_name(call, name))

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes from `offset` on. Needs ZX_RIGHT_READ; OutOfRangeError if not all is inside."""
        return self._object("zx_vmo_read", ZX_RIGHT_READ).read(offset, length)

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Stores bytes at `offset`. Needs ZX_RIGHT_WRITE; OutOfRangeError, and nothing stored, if they do not fit."""
        self._object("zx_vmo_write", ZX_RIGHT_WRITE).write(data, offset)

    def resize(self, size: int) -> None:
        """Changes the size. Mirrors zx_vmo_set_size; needs ZX_RIGHT_WRITE.

        What is cut off is gone: a guest finds nothing there any more, and after growing again zeros. The VCPUs of
        guests that have it mapped pause for it.

        Args:
            size: Bytes, rounded up to pages of 4096.

        Raises:
            InvalidArgsError: `size` is negative.
            UnavailableError: It was not made with `resizable=True`.
            OutOfRangeError: `size` cannot be rounded up.
            BadStateError: A `view` reaches further, or a `Guest.wait_u32` waits there.
            NoMemoryError, NoResourcesError: As the kernel answers; nothing has changed.
        """
        if size < 0:
            raise InvalidArgsError("zx_vmo_set_size", f"size {size} is negative")
        self._object("zx_vmo_set_size", ZX_RIGHT_WRITE).resize(size)

    def view(self) -> memoryview:
        """Returns all of it as a writable view with no copy, which lives on when the Vmo is closed.

        Needs ZX_RIGHT_READ and ZX_RIGHT_WRITE. What a guest does meanwhile is seen in it. While it or a slice of it is
        referred to, a resizable VMO does not shrink below it.
        """
        return self._object("Vmo.view", ZX_RIGHT_READ | ZX_RIGHT_WRITE).view()

    def fileno(self) -> int:
        """The memfd, open as long as the VMO. That of a fixed size is sealed: nobody can shrink it under a guest."""
        return self._object("fileno").memory.fd

    def _facts(self) -> str:
        return f"size={self.size:#x} "
