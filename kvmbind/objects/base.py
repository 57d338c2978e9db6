"""What every object has: the handle it owns."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from kvmbind.abi.constants import ZX_HANDLE_INVALID, ZX_MAX_NAME_LEN, ZX_RIGHT_SAME_RIGHTS
from kvmbind.abi.errors import AccessDeniedError, BadHandleError, InvalidArgsError
from kvmbind.kvm.calls import NEVER
from kvmbind.zircon import handles
from kvmbind.zircon.dispatcher import Dispatcher

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

D = TypeVar("D", bound=Dispatcher)


class KernelObject(Generic[D]):
    """An open handle and its object. Leaving a `with` block, or `close`, closes the handle.

    Threads: any thread may use it; closing it while another is inside one of its methods is safe.
    """

    __slots__ = ("__weakref__", "_entry", "_owned")

    _DISPATCHER: ClassVar[type[Dispatcher]]

    def __init__(self, handle: int) -> None:
        """Adopts a raw handle: closing the object closes it.

        Raises:
            BadHandleError: It is not open.
            WrongTypeError: It is of another kind of object.
        """
        self._owned = False
        handles.find(handle, self._DISPATCHER)
        self._attach(handles.entry_of(handle), owned=True)

    @classmethod
    def borrow(cls, handle: int) -> Self:
        """Uses a handle that somebody else closes; errors as of the constructor."""
        handles.find(handle, cls._DISPATCHER)
        self = cls.__new__(cls)
        self._attach(handles.entry_of(handle), owned=False)
        return self

    @classmethod
    def _wrap(cls, obj: D, rights: int | None = None) -> Self:
        """Makes the first handle of a new object, and owns it."""
        self = cls.__new__(cls)
        self._attach(handles.prepare(obj, obj.DEFAULT_RIGHTS if rights is None else rights), owned=True)
        handles.enter(self._entry)  # after it has an owner, who closes it whatever a signal handler raises
        return self

    def _attach(self, entry: handles.Entry, *, owned: bool) -> None:
        self._entry = entry
        self._owned = owned

    def _object(self, call: str, rights: int = 0) -> D:
        """Returns the dispatcher, if the handle is open and has these rights."""
        entry = self._entry
        obj = entry.object
        if obj is None:
            raise BadHandleError(call, self._why_closed())
        had = entry.rights
        if had & rights != rights:
            if entry.object is None:  # closed in this moment, which takes the object first and the rights then
                raise BadHandleError(call, self._why_closed())
            raise AccessDeniedError(call, f"the handle has rights {had:#x} and needs {rights:#x}")
        return obj  # type: ignore[return-value]  # a handle's object never changes, and its class was checked

    def _why_closed(self) -> str:
        name = type(self).__name__
        if handles.is_lost_by_fork(self._entry.value):
            return f"the {name} stayed with the process that this one was forked from: make another here"
        return f"the {name} is closed"

    @property
    def handle(self) -> int:
        """The raw handle, for zx_* calls; 0 once closed."""
        return ZX_HANDLE_INVALID if self.closed else self._entry.value

    @property
    def closed(self) -> bool:
        """Whether the handle is closed, by this object or by anybody."""
        return self._entry.object is None

    @property
    def koid(self) -> int:
        """The object's number, which no other has."""
        return self._object("koid").koid

    @property
    def rights(self) -> int:
        """ZX_RIGHT_* bits of the handle; 0 once closed."""
        return self._entry.rights

    def duplicate(self, rights: int = ZX_RIGHT_SAME_RIGHTS) -> Self:
        """Returns another object with a handle of its own to the same kernel object.

        Raises:
            AccessDeniedError: The handle lacks ZX_RIGHT_DUPLICATE.
            InvalidArgsError: `rights` has one that the handle lacks.
        """
        self._object("zx_handle_duplicate")
        return type(self)(handles.duplicate(self._entry.value, rights))

    def replace(self, rights: int) -> Self:
        """Closes this handle and returns an object with a new one, with `rights`.

        Raises:
            InvalidArgsError: `rights` has one that the handle lacks; it is closed all the same.
        """
        self._object("zx_handle_replace")
        return type(self)(handles.replace(self._entry.value, rights))

    def release(self) -> int:
        """Gives the raw handle to the caller, who closes it; the object uses it no more."""
        self._object("release")
        value = self._entry.value
        self._attach(handles.Entry(value, None, 0), owned=False)
        return value

    def close(self) -> None:
        """Closes the handle; again it does nothing. A borrowed handle stays open."""
        entry = self._entry
        if entry.object is None:
            return
        if not self._owned:
            self._attach(handles.Entry(entry.value, None, 0), owned=False)
            return
        handles.close_many([entry.value])  # not `close`: somebody may have closed it in this moment

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # No kernel call and no lock in here: a finalizer runs anywhere, also under a lock of this thread.
        if getattr(self, "_owned", False) and self._entry.object is not None:
            handles.abandon(self._entry.value)
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        """Says what it is, or that it is closed."""
        if self.closed:
            return f"<kvmbind.{type(self).__name__} closed>"
        return f"<kvmbind.{type(self).__name__} {self._facts()}handle={self._entry.value:#x}>"

    def _facts(self) -> str:
        return ""


def deadline_after(timeout_s: float | None) -> int:
    """Returns the CLOCK_MONOTONIC deadline in ns that `timeout_s` seconds from now are; None is never."""
    if timeout_s is None:
        return NEVER
    return min(time.monotonic_ns() + max(0, int(min(timeout_s * 1e9, NEVER))), NEVER)


def encode_name(call: str, name: str) -> bytes:
    """Returns the bytes of a name. InvalidArgsError if it does not fit, or has a NUL: Zircon would cut it there."""
    encoded = name.encode()
    if b"\0" in encoded or len(encoded) >= ZX_MAX_NAME_LEN:
        raise InvalidArgsError(call, f"{name!r} is no name of at most {ZX_MAX_NAME_LEN - 1} bytes without a NUL")
    return encoded
