"""A memfd, and the host mappings through which a VM sees it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvmbind._shim import ffi, lib
from kvmbind.kvm.calls import check
from kvmbind.kvm.descriptors import Descriptor

if TYPE_CHECKING:
    from kvmbind._shim import Array, Host

PAGE_SIZE = 4096


def page_up(size: int) -> int:
    """Rounds up to whole pages."""
    return (size + PAGE_SIZE - 1) & -PAGE_SIZE


class Memory(Descriptor):
    """A memfd of whole pages, zero at first.

    Threads: any thread may call any method, while nobody changes the size. The owner closes it when nobody is inside a
    call on it.
    """

    __slots__ = ("_size",)

    def __init__(self, size: int, *, resizable: bool = False) -> None:
        """Makes it; pages are allocated when they are touched.

        Args:
            size: Bytes, a multiple of 4096.
            resizable: Whether the size may change. Otherwise the memfd is sealed: whoever else has it cannot shrink it
                under a guest.

        Raises:
            OSError: No fd or no memory is left.
        """
        super().__init__("memfd_create", lambda slot: lib.kb_memfd_open(slot, b"kvmbind", size, resizable))
        self._size = ffi.new("uint64_t[]", 1)
        self._size[0] = size

    @property
    def size(self) -> int:
        """Bytes, a multiple of 4096. `slots.exchange` changes it."""
        return self._size[0]

    @property
    def size_cell(self) -> Array:
        """Where the shim keeps `size`."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Returns bytes that lie within the size."""
        parts = []
        while length:
            part = os.pread(self.fd, length, offset)
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Writes bytes that fit into the size."""
        rest = memoryview(data).cast("B")
        while rest:
            written = os.pwrite(self.fd, rest, offset)
            rest = rest[written:]
            offset += written

    def committed_bytes(self) -> int:
        """Returns how much memory its pages take now: those that were touched."""
        return os.fstat(self.fd).st_blocks * 512

    def map(self, offset: int, size: int) -> Mapping:
        """Maps a part of it into this process; it may reach past the end."""
        return Mapping(self.fd, offset, size)

    def populate(self, mapping: Mapping, offset: int) -> None:
        """Enters what pages there are behind a mapping of `offset` into this process's page table."""
        check(lib.kb_populate(self.fd, offset, mapping.size, mapping.host), "MADV_POPULATE_READ")


class Mapping:
    """A host mapping of a memfd. It goes when nobody refers to it or to a view of it any more.

    Threads: any thread may use it.
    """

    __slots__ = ("_base", "host", "size")

    def __init__(self, fd: int, offset: int, size: int) -> None:
        """Maps `size` bytes at `offset` of a memfd, readable and writable."""
        slot = ffi.new("void *[1]")
        check(lib.kb_map(fd, offset, size, slot), "mmap")
        self.host = ffi.gc(slot[0], lambda host: lib.kb_unmap(host, size), size)
        self._base = ffi.cast("char *", self.host)
        self.size = size

    def at(self, offset: int) -> Host:
        """Returns the host address of a byte; valid while this object is referred to."""
        return self._base + offset

    def view(self) -> memoryview:
        """Returns all of it, writable."""
        return memoryview(ffi.buffer(self.host, self.size))
