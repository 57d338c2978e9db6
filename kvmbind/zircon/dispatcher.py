"""What every kernel object has: a koid, a count of handles, and a count of those who need its fds open."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, ClassVar

from kvmbind.abi.constants import ZX_MAX_NAME_LEN
from kvmbind.abi.errors import BadHandleError, NotSupportedError
from kvmbind.zircon.signals import Signals
from kvmbind.zircon.waits import Seats

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kvmbind._shim import Trigger

_koids = itertools.count(1024)  # the first that Zircon gives to objects of its own making


class Dispatcher:
    """A kernel object. Its fds stay open while anybody holds it; the last `drop` closes them.

    All its handles together are one holder, each object that refers to it is one, and so is each thread inside a call
    that uses its fds: `with dispatcher:` holds it.

    Threads: any thread may call any method. `_hold_lock` guards the count; `handle_count` is the handle table's.
    """

    __slots__ = (
        "__weakref__",
        "_hold_lock",
        "_holds",
        "handle_count",
        "koid",
        "name",
        "seats",
        "signals",
        "trigger_guard",
    )

    TYPE: ClassVar[int]
    DEFAULT_RIGHTS: ClassVar[int]
    #: Whether zx_object_wait_* and zx_object_signal apply: its default rights contain ZX_RIGHT_WAIT.
    WAITABLE: ClassVar[bool]
    #: Whether a user may name it.
    NAMEABLE: ClassVar[bool] = False

    def __init__(self, signals: int = 0, name: bytes = b"") -> None:
        """Starts with one hold, for the handles to come, and with these signals set."""
        self.koid = next(_koids)
        self.name = _as_name(name)
        self.signals = Signals(signals)
        self.seats = Seats()
        self.trigger_guard: Trigger | None = None
        self.handle_count = 0
        self._holds = 1
        self._hold_lock = threading.Lock()

    def hold(self) -> Self:
        """Keeps the fds open until `drop`, and returns the object.

        Raises:
            BadHandleError: The object is going: its last handle was closed while this call was on its way.
        """
        held = False
        try:
            with self._hold_lock:
                if not self._holds:
                    raise BadHandleError("", "its last handle was closed at the same time")
                self._holds += 1
                held = True
        except BaseException:
            if held:  # Ctrl-C is raised at the end of the block, when a wait has only just begun
                self.drop()
            raise
        return self

    def drop(self) -> None:
        """Gives a hold back; the last one closes the object."""
        with self._hold_lock:
            self._holds -= 1
            last = not self._holds
        if last:
            self._destroy()
            self.seats.close()

    __enter__ = hold  # the very same: a Ctrl-C between two steps of another one would keep the hold for ever

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def waitable_signals(self, call: str) -> Signals:
        """Returns its signals. NotSupportedError if it is of a type that has none to wait for."""
        if not self.WAITABLE:
            raise NotSupportedError(call, f"a {type(self).__name__} has no signals")
        return self.signals

    def rename(self, name: bytes) -> None:
        """Gives it a name, of which the first 31 bytes count, up to a NUL.

        Raises:
            NotSupportedError: It is of a type that has none.
        """
        if not self.NAMEABLE:
            raise NotSupportedError("zx_object_set_property", f"a {type(self).__name__} has no name")
        self.name = _as_name(name)

    def on_zero_handles(self) -> None:
        """Called once, outside all locks, when the last handle is closed; others may still hold the object."""

    def _destroy(self) -> None:
        """Closes what the object owns. Called once, outside all locks, when nobody holds it any more."""


def _as_name(name: bytes) -> bytes:
    return name.partition(b"\0")[0][: ZX_MAX_NAME_LEN - 1]
