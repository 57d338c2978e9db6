"""What the tests of objects share."""

from __future__ import annotations

import gc
import os
import time
from typing import NamedTuple, Protocol

import pytest

import kvmbind

#: How long it may take until all is as it was. Nothing depends on how long it really takes.
DEADLINE_S = 60.0


class Held(NamedTuple):
    """What the process holds."""

    fds: int
    threads: int
    mappings: int


class Count(Protocol):
    """Counts what the process holds, when everything that waits to be closed is."""

    def __call__(self, expected: Held | None = None) -> Held:
        """Counts until that is what is expected, or stays the same: a joined thread is the kernel's for a while."""


def _held(expected: Held | None = None) -> Held:
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


@pytest.fixture
def held() -> Count:
    """Counts what the process holds, when everything that waits to be closed is."""
    return _held
