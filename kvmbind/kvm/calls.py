"""The funnel from the shim's -errno to OSError."""

from __future__ import annotations

import os

#: A deadline that never comes, in ns of CLOCK_MONOTONIC.
NEVER = 2**63 - 1


def check(result: int, call: str) -> int:
    """Returns `result`, or raises the OSError that it stands for when it is negative."""
    if result < 0:
        raise OSError(-result, f"{call}: {os.strerror(-result)}")
    return result
