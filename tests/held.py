"""What the process holds: tests that leave nothing behind count it before and after."""

from __future__ import annotations

import gc
import os
import time
from typing import NamedTuple

import kvmbind

#: How long it may take until all is as it was. Nothing depends on how long it really takes.
DEADLINE_S = 60.0


class Held(NamedTuple):
    """What the process holds."""

    fds: int
    threads: int
    mappings: int


def count_held(expected: Held | None = None) -> Held:
    """Counts, when all is closed that waits to be, until that is what is expected, or stays the same.

    A joined thread is the kernel's for a while.
    """
    deadline, found = time.monotonic() + DEADLINE_S, _count()
    while time.monotonic() < deadline:
        time.sleep(0.01)
        last, found = found, _count()
        if found == (last if expected is None else expected):
            break
    return found


def _count() -> Held:
    kvmbind.settle()
    gc.collect()
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        mappings = sum("memfd:kvmbind" in line or "kvm-vcpu" in line for line in maps)
    return Held(len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), mappings)
