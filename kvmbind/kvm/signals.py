"""The kick signal, and standing in front of the signals that Python handles."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading

from kvmbind._shim import lib

_learned = False


def _ignore(signo: int, frame: object) -> None:
    """Stands for a moment where Python's C handler is to be seen."""


def _learn() -> bool:
    """Shows the shim the C handler that Python installs for every signal with a handler in Python."""
    for signo in (signal.SIGINT, *range(1, signal.NSIG)):
        if callable(signal.getsignal(signo)):
            return lib.kb_signals_learn(signo) == 0
    if threading.current_thread() is not threading.main_thread():
        return False
    for signo in range(signal.SIGRTMAX, lib.kb_kick_signal(), -1):
        if signal.getsignal(signo) == signal.SIG_DFL:
            before = signal.signal(signo, _ignore)
            learned = lib.kb_signals_learn(signo) == 0
            signal.signal(signo, before)
            return learned
    return False


def install() -> None:
    """Installs the kick signal's handler, and learns Python's.

    Raises:
        OSError: EBUSY: another library handles the kick signal.
    """
    global _learned
    if lib.kb_kick_install() < 0:
        number = lib.kb_kick_signal()
        raise OSError(
            errno.EBUSY,
            f"signal {number} (SIGRTMIN + 4), which kvmbind kicks VCPUs with, has another handler: remove that one",
        )
    if not _learned:
        _learned = _learn()


def install_for_wait() -> None:
    """Does the same for a wait of the main thread. A foreign kick signal is no matter then: only VCPUs need it."""
    if not _learned:
        with contextlib.suppress(OSError):
            install()


def block_all_but_kick() -> None:
    """Blocks every signal in the calling thread; enter unblocks the kick signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


os.register_at_fork(after_in_child=lib.kb_signals_after_fork)
