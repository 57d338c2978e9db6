"""Time: all of it is CLOCK_MONOTONIC, in ns."""

from __future__ import annotations

import time

from kvmbind.abi.constants import ZX_TIME_INFINITE, ZX_TIME_INFINITE_PAST


def zx_clock_get_monotonic() -> int:
    """Returns the time now."""
    return time.monotonic_ns()


def zx_deadline_after(ns: int) -> int:
    """Returns the deadline that comes in `ns`, ZX_TIME_INFINITE or ZX_TIME_INFINITE_PAST if it does not fit."""
    return max(min(time.monotonic_ns() + ns, ZX_TIME_INFINITE), ZX_TIME_INFINITE_PAST)
