"""What the structures of Zircon's calls are made of."""

from __future__ import annotations

from ctypes import c_uint8, c_uint16, c_uint32
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _ctypes import _CData
    from _ctypes import _CData as _CStructure
    from _ctypes import _CData as _CUnion
    from collections.abc import MutableSequence, Sequence
    from typing import Self, dataclass_transform

    # typeshed's Structure accepts every attribute name. This stand-in has only those that a class declares,
    # and makes each a keyword of the constructor.
    @dataclass_transform(kw_only_default=True, eq_default=False)
    class _Declared(_CData):
        @classmethod
        def from_buffer(cls, source: bytearray | memoryview, offset: int = 0, /) -> Self: ...
        @classmethod
        def from_buffer_copy(cls, source: bytes | bytearray | memoryview, offset: int = 0, /) -> Self: ...

    class Words:
        """A member that is an array of integers."""

        def __get__(self, instance: object, owner: type) -> MutableSequence[int]: ...
        def __set__(self, instance: object, value: Sequence[int]) -> None: ...

else:
    from ctypes import LittleEndianStructure as _CStructure
    from ctypes import LittleEndianUnion as _CUnion

    _Declared = object


class _Layout(_Declared):
    """What structures and unions have in common."""

    # Without an instance dictionary ctypes refuses names that are no fields.
    __slots__ = ()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """Makes one of its raw bytes; a wrong number of them is a ValueError."""
        self = cls.from_buffer_copy(data)
        if len(data) != len(bytes(self)):
            raise ValueError(f"{cls.__name__} has {len(bytes(self))} bytes, not {len(data)}")
        return self

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bytes(self) == bytes(other)

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return type(self).from_bytes, (bytes(self),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._facts()})"

    def _facts(self) -> str:
        """Says what `repr` has between the parentheses."""
        raise NotImplementedError


class Structure(_Layout, _CStructure):
    """A `struct`: a subclass has `_fields_`, and declares them for mypy."""

    __slots__ = ()


class Union(_Layout, _CUnion):
    """A `union`: a subclass has `_fields_`, and declares them for mypy."""

    __slots__ = ()


class Octets:
    """An array of bytes that reads as bytes; a shorter value is filled up with zeros."""

    def __init__(self, array: str, *, text: bool = False) -> None:
        self._array = array
        self._text = text

    def __get__(self, instance: object | None, owner: type) -> bytes | Self:
        if instance is None:
            return self
        value = bytes(getattr(instance, self._array))
        return value.partition(b"\0")[0] if self._text else value

    def __set__(self, instance: object, value: bytes) -> None:
        data = bytes(memoryview(value))  # bytes() alone would take an int for a size
        array = getattr(instance, self._array)
        size = len(array)
        room = size - 1 if self._text else size
        if len(data) > room:
            raise ValueError(f"{len(data)} bytes do not fit into {room}")
        array[:] = data.ljust(size, b"\0")


class IoValue(Union):
    """The value of an I/O access, as the width of the access has it."""

    __slots__ = ()
    _fields_ = (("u8", c_uint8), ("u16", c_uint16), ("u32", c_uint32), ("_data", c_uint8 * 4))


def accessed(data: bytes, access_size: int) -> str:
    """Returns the bytes that an access has, in hex; all of them when its size is none."""
    return data[: access_size or None].hex()
