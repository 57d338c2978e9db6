"""The process's handle table."""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from operator import index
from typing import TYPE_CHECKING, TypeVar

from kvmbind._shim import ffi
from kvmbind.abi.constants import (
    ZX_HANDLE_FIXED_BITS_MASK,
    ZX_HANDLE_INVALID,
    ZX_RIGHT_DUPLICATE,
    ZX_RIGHT_SAME_RIGHTS,
    ZX_RIGHT_SIGNAL,
)
from kvmbind.abi.errors import AccessDeniedError, BadHandleError, InvalidArgsError, WrongTypeError
from kvmbind.kvm import descriptors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvmbind.zircon.dispatcher import Dispatcher

D = TypeVar("D", bound="Dispatcher")

_VALUE_BITS = 29  # a handle is below 2^31 and has its low two bits set
_VALUES = 1 << _VALUE_BITS


#: A trigger that is never armed: firing it does nothing and says so.
_NO_TRIGGER = ffi.new("struct kb_trigger *")


class Entry:
    """One handle: an object and what its holder may do with it. Once closed it has neither.

    `trigger` is the short way of a handle that may fire an interrupt, since that is the call that must cost nothing: it
    is armed only while the handle is open, has ZX_RIGHT_SIGNAL and is of an interrupt that is bound to a VCPU.
    """

    __slots__ = ("object", "rights", "trigger", "value")

    def __init__(self, value: int, obj: Dispatcher | None, rights: int) -> None:
        """Keeps the facts; no object stands for a handle that is no longer one's own."""
        self.value = value
        self.object = obj
        self.rights = rights
        self.trigger = _NO_TRIGGER
        if obj is not None and obj.trigger_guard is not None and rights & ZX_RIGHT_SIGNAL:
            self.trigger = obj.trigger_guard

    def close(self) -> None:
        """Takes object and rights away."""
        self.object = None
        self.rights = 0
        self.trigger = _NO_TRIGGER


class _Values:
    """Random-looking handle values, none of which comes twice: a full-period walk from a random start."""

    def __init__(self) -> None:
        place, factor, step = struct.unpack("<3I", os.urandom(12))
        self._place: int = place
        self._factor: int = factor & ~7 | 5  # = 1 mod 4, with an odd step: period 2^29
        self._step: int = step | 1

    def next(self) -> int:
        self._place = (self._place * self._factor + self._step) % _VALUES
        return self._place << 2 | ZX_HANDLE_FIXED_BITS_MASK


_lock = threading.Lock()
_values = _Values()
_entries: dict[int, Entry] = {}
_abandoned: deque[int] = deque()
_lost_by_fork: set[int] = set()


def add(obj: Dispatcher, rights: int) -> int:
    """Makes a handle to an object and returns its value."""
    entry = prepare(obj, rights)
    enter(entry)
    return entry.value


def prepare(obj: Dispatcher, rights: int) -> Entry:
    """Makes an entry that is in the table only from `enter` on: its owner can keep it before that."""
    _reap()
    with _lock:
        return _new_entry(obj, rights)


def enter(entry: Entry) -> None:
    """Puts a prepared entry into the table: from now on it is an open handle."""
    with _lock:
        _enter(entry)


def _new_entry(obj: Dispatcher, rights: int) -> Entry:
    value = _values.next()
    while value in _entries:  # the walk has come round
        value = _values.next()
    return Entry(value, obj, rights)


def _enter(entry: Entry) -> None:
    assert entry.object is not None
    entry.object.handle_count += 1
    _entries[entry.value] = entry


def _add(obj: Dispatcher, rights: int) -> Entry:
    entry = _new_entry(obj, rights)
    _enter(entry)
    return entry


def entry_of(value: int) -> Entry:
    """Returns the open entry of a handle.

    Raises:
        BadHandleError: There is none.
    """
    try:
        return _entries[value]
    except KeyError:
        raise BadHandleError("", f"{index(value):#x} is not an open handle") from None


def find(value: int, kind: type[D], rights: int = 0) -> D:
    """Returns the object of a handle.

    Raises:
        BadHandleError: `value` is no open handle.
        WrongTypeError: Its object is not of this kind.
        AccessDeniedError: The handle lacks one of `rights`.
    """
    entry = _entries.get(value) or entry_of(value)  # which says why there is none
    obj = entry.object
    if obj.__class__ is not kind:
        _refuse(entry, kind)
    if entry.rights & rights != rights:
        _deny(entry, rights)
    return obj  # type: ignore[return-value]  # its class was compared above


def _refuse(entry: Entry, kind: type[Dispatcher]) -> None:
    obj = entry.object
    if obj is None:
        raise BadHandleError("", "the handle was closed at the same time")
    raise WrongTypeError("", f"the handle is of a {type(obj).__name__}, not of a {kind.__name__}")


def _deny(entry: Entry, rights: int) -> None:
    had = entry.rights
    if entry.object is None:  # closing it took the object first and the rights then
        raise BadHandleError("", "the handle was closed at the same time")
    raise AccessDeniedError("", f"the handle has rights {had:#x} and needs {rights:#x}")


def find_any(value: int, rights: int = 0) -> Dispatcher:
    """Returns the object of a handle, of whatever kind; errors as of `find`."""
    return find_watchable(value, rights)[0]


def find_watchable(value: int, rights: int) -> tuple[Dispatcher, Entry]:
    """Returns the object of a handle, of whatever kind, and the handle's entry; errors as of `find`."""
    entry = entry_of(value)
    obj = entry.object
    if obj is None:
        raise BadHandleError("", "the handle was closed at the same time")
    if entry.rights & rights != rights:
        _deny(entry, rights)
    return obj, entry


def find_with_rights(value: int, kind: type[D]) -> tuple[D, int]:
    """Returns the object of a handle and the handle's rights; errors as of `find`."""
    entry = entry_of(value)
    rights, obj = entry.rights, entry.object  # in this order: closing it takes the object first
    if obj.__class__ is not kind:
        _refuse(entry, kind)
    return obj, rights  # type: ignore[return-value]  # its class was compared above


def duplicate(value: int, rights: int) -> int:
    """Makes another handle to the same object, with the same rights or fewer.

    Raises:
        BadHandleError: `value` is no open handle.
        AccessDeniedError: It lacks ZX_RIGHT_DUPLICATE.
        InvalidArgsError: `rights` has one that it lacks.
    """
    with _lock:
        entry = entry_of(value)
        if not entry.rights & ZX_RIGHT_DUPLICATE:
            raise AccessDeniedError("zx_handle_duplicate", "the handle lacks ZX_RIGHT_DUPLICATE")
        assert entry.object is not None
        return _add(entry.object, _subset("zx_handle_duplicate", entry, rights)).value


def replace(value: int, rights: int) -> int:
    """Closes a handle and returns another to the same object, with the same rights or fewer.

    Raises:
        BadHandleError: `value` is no open handle.
        InvalidArgsError: `rights` has one that it lacks; the handle is closed all the same.
    """
    refusal: InvalidArgsError | None = None
    replacement = ZX_HANDLE_INVALID
    with _lock:
        entry = entry_of(value)
        assert entry.object is not None
        try:
            replacement = _add(entry.object, _subset("zx_handle_replace", entry, rights)).value
        except InvalidArgsError as error:
            refusal = error
        removed = _remove(entry)
    _retire(*removed)
    if refusal is not None:
        raise refusal
    return replacement


def _subset(call: str, entry: Entry, rights: int) -> int:
    if rights == ZX_RIGHT_SAME_RIGHTS:
        return entry.rights
    if rights & ~entry.rights:
        raise InvalidArgsError(call, f"rights {rights:#x} are not a part of the handle's {entry.rights:#x}")
    return rights


def close(value: int) -> None:
    """Closes a handle.

    Raises:
        BadHandleError: `value` is no open handle.
    """
    _reap()
    removed = None
    try:
        with _lock:
            removed = _remove(entry_of(value))
    finally:  # a signal's exception at the end of the block must not lose the object
        if removed is not None:
            _retire(*removed)


def close_many(values: Iterable[int]) -> bool:
    """Closes each handle that is open and returns whether all were; zeros are passed over."""
    complete = True
    for value in values:
        try:
            if value != 0:
                close(value)
        except BadHandleError:
            complete = False
    return complete


def _remove(entry: Entry) -> tuple[Entry, Dispatcher, bool]:
    """Takes an entry out; returns it, its object, and whether that was its last handle: what `_retire` takes."""
    # No call in here: Python looks for signals at each, and an exception half-way would lose the count.
    obj = entry.object
    assert obj is not None
    entry.object, entry.rights, entry.trigger = None, 0, _NO_TRIGGER
    obj.handle_count -= 1
    del _entries[entry.value]
    return entry, obj, not obj.handle_count


def _retire(entry: Entry, obj: Dispatcher, was_last: bool) -> None:
    """Tells those who have to do with a handle that it is gone, outside the lock."""
    obj.signals.handle_closed(entry)
    if not was_last:
        return
    try:
        obj.on_zero_handles()
    finally:
        obj.drop()


def abandon(value: int) -> None:
    """Leaves a handle to be closed by the next `add` or `close`: for finalizers, which may run under any lock."""
    _abandoned.append(value)


def _reap() -> None:
    while _abandoned:
        try:
            value = _abandoned.popleft()
        except IndexError:  # another thread took the last
            return
        with _lock:
            entry = _entries.get(value)
            removed = _remove(entry) if entry is not None else None
        if removed is not None:
            _retire(*removed)


def _after_fork() -> None:
    """In the child every handle is BAD_HANDLE: a VM belongs to the process that made it (KVM answers EIO)."""
    global _lock
    _lock = threading.Lock()
    _lost_by_fork.update(_entries)
    for entry in _entries.values():
        entry.close()
    _entries.clear()
    _abandoned.clear()
    descriptors.close_all_in_child()


def is_lost_by_fork(value: int) -> bool:
    """Tells whether a handle was open in the process that this one was forked from, when it was."""
    return value in _lost_by_fork


os.register_at_fork(after_in_child=_after_fork)
