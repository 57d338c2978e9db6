"""The header by which an image asks for a Multiboot loader of version 1."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.machine.images.detect import MULTIBOOT_MAGIC, MULTIBOOT_WITHIN
from kvmbind.machine.images.image import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Bytes = bytes | bytearray | memoryview

_MAGIC_OF_VERSION_2 = b"\xd6\x50\x52\xe8"
_ALIGNMENT = 4
_HEADER = struct.Struct("<3I")
_FLAGS, _CHECKSUM = 4, 8  # their offsets in it
_ADDRESSES = struct.Struct("<5I")
_HAS_ADDRESSES = 1 << 16
_UNKNOWN_REQUIREMENTS = 0xFFF8  # bits 0 to 2 ask for what every image is given: aligned modules, memory, a screen


class Addresses(NamedTuple):
    """Where an image that is not loaded as an ELF file goes."""

    header_addr: int
    load_addr: int
    load_end_addr: int  # 0: up to the file's end
    bss_end_addr: int  # 0: no memory behind what is loaded
    entry_addr: int


class Header(NamedTuple):
    """A header that can be served."""

    at: int  # its offset in the file
    addresses: Addresses | None  # None: an ELF file says where it goes

    @property
    def addresses_at(self) -> int:
        """The addresses' offset in the file."""
        return self.at + _HEADER.size


def magics(data: Bytes, magic: bytes = MULTIBOOT_MAGIC) -> Iterator[int]:
    """Returns the offsets where a header may begin, since the magic number is there."""
    head = bytes(data[:MULTIBOOT_WITHIN])
    at = head.find(magic)
    while at >= 0:
        if at % _ALIGNMENT == 0:
            yield at
        at = head.find(magic, at + 1)


def has_addresses(data: Bytes) -> bool:
    """Tells whether there is a header with the right checksum that says where the image goes."""
    return any(_fault(data, at) is None and _flags(data, at) & _HAS_ADDRESSES for at in magics(data))


def parse(data: Bytes) -> Header:
    """Returns an image's header.

    Raises:
        ImageError: There is none, or one that is malformed or asks for what there is not.
    """
    found = list(magics(data))
    if not found:
        raise _missing(data)
    faults = [_fault(data, at) for at in found]
    if None not in faults:
        raise faults[0] or _missing(data)
    at = found[faults.index(None)]
    flags = _flags(data, at)
    if flags & _UNKNOWN_REQUIREMENTS:
        raise ImageError(
            f"read Multiboot flags {flags:#x} at offset {at + _FLAGS:#x}; expected none of the requirements"
            f" {flags & _UNKNOWN_REQUIREMENTS:#x}, which no loader knows"
        )
    return Header(at, _addresses(data, at + _HEADER.size) if flags & _HAS_ADDRESSES else None)


def _missing(data: Bytes) -> ImageError:
    second = next(magics(data, _MAGIC_OF_VERSION_2), None)
    if second is not None:
        return ImageError(
            f"read {_MAGIC_OF_VERSION_2.hex(' ')} at offset {second:#x}: a header of Multiboot 2;"
            f" expected {MULTIBOOT_MAGIC.hex(' ')}, of Multiboot 1"
        )
    return ImageError(
        f"read {bytes(data[:4]).hex(' ')} at offset 0, and no Multiboot header from there on; expected"
        f" {MULTIBOOT_MAGIC.hex(' ')} at a multiple of 4 below {MULTIBOOT_WITHIN:#x}"
    )


def _flags(data: Bytes, at: int) -> int:
    return int.from_bytes(data[at + _FLAGS : at + _CHECKSUM], "little")


def _fault(data: Bytes, at: int) -> ImageError | None:
    """What is wrong with the three words at an offset, None if nothing is."""
    end = min(len(data), MULTIBOOT_WITHIN)
    if at + _HEADER.size > end:
        return ImageError(
            f"read {end - at} bytes of a Multiboot header at offset {at:#x}; expected {_HEADER.size} below {end:#x}"
        )
    magic, flags, checksum = _HEADER.unpack_from(data, at)
    expected = -(magic + flags) & 0xFFFFFFFF
    if checksum == expected:
        return None
    return ImageError(
        f"read the Multiboot checksum {checksum:#x} at offset {at + _CHECKSUM:#x}; expected {expected:#x}, which makes"
        " magic, flags and checksum add up to 0"
    )


def _addresses(data: Bytes, at: int) -> Addresses:
    if at + _ADDRESSES.size > len(data):
        raise ImageError(
            f"read {len(data) - at} bytes of a Multiboot header's addresses at offset {at:#x}; expected"
            f" {_ADDRESSES.size}, since bit 16 of its flags is set"
        )
    return Addresses._make(_ADDRESSES.unpack_from(data, at))
