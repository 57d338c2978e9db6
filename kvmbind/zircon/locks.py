"""Taking several locks at once."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_acquire, _release = methodcaller("acquire"), methodcaller("release")


def holding(locks: Iterable[threading.Lock], action: Callable[[], T]) -> T:
    """Calls `action` with all of these locks taken, in their order; the caller sorts them.

    A signal handler may raise after any step of Python, so the locks are taken by one call in C, which notes each one
    taken, and given back by one: none stays behind, for the close that follows a Ctrl-C to wait for.
    """
    taken: list[threading.Lock] = []
    give_back = map(_release, taken)
    try:
        taken.extend(filter(_acquire, locks))
        return action()
    finally:
        any(give_back)
