"""Closing fds whose close sleeps for long, on helper threads that end when there is nothing to close."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HELPERS = 4
_NAME = "kvmbind-closer"

_lock = threading.Lock()
_waiting: deque[Callable[[], None]] = deque()
_helpers: set[threading.Thread] = set()
_ending: set[threading.Thread] = set()  # helpers that have nothing to do any more, but are threads still


def _help() -> None:
    me = threading.current_thread()
    while True:
        with _lock:
            if not _waiting:
                _helpers.discard(me)
                if me.name == _NAME:
                    _ending.add(me)
                return
            close = _waiting.popleft()
        close()


def submit(close: Callable[[], None]) -> None:
    """Runs `close`, which must not raise, on a helper thread; here and now if no thread can be started."""
    with _lock:
        _waiting.append(close)
        if len(_helpers) == HELPERS:
            return
        _ending.difference_update([thread for thread in _ending if not thread.is_alive()])
        helper = threading.Thread(target=_help, name=_NAME, daemon=True)
        try:
            helper.start()
        except RuntimeError:  # no thread to be had, or the interpreter is going down
            helper = threading.current_thread()
        _helpers.add(helper)
    if helper is threading.current_thread():
        _help()


def settle() -> None:
    """Returns when everything that was submitted before is closed and the helper threads have ended."""
    while True:
        with _lock:
            helpers = (_helpers | _ending) - {threading.current_thread()}
        if not helpers:
            return
        for helper in helpers:
            helper.join()
        with _lock:
            _ending.difference_update(helpers)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _waiting.clear()
    _helpers.clear()
    _ending.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(settle)
