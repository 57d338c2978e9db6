"""What the tests of objects share."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

import kvmbind

if TYPE_CHECKING:
    from collections.abc import Callable


class Held(NamedTuple):
    """What the process holds."""

    fds: int
    threads: int
    mappings: int


def _held() -> Held:
    """Counts it, when everything that waits to be closed is."""
    kvmbind.settle()
    gc.collect()
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        mappings = sum("memfd:kvmbind" in line or "kvm-vcpu" in line for line in maps)
    return Held(len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), mappings)


@pytest.fixture
def held() -> Callable[[], Held]:
    """Counts what the process holds, when everything that waits to be closed is."""
    return _held
