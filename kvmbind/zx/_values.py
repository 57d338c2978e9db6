"""Checks of the C types that the prototypes have. A wrong Python type is a TypeError, a wrong value is not raised."""

from __future__ import annotations

from operator import index

from kvmbind.abi.status import Status


def refused(value: int) -> Status:
    """Returns INVALID_ARGS: an int, and none that the call knows."""
    index(value)
    return Status.INVALID_ARGS


def unsigned(bits: int, *values: int) -> bool:
    """Tells whether every value fits into an unsigned C type."""
    return all(0 <= index(value) < 1 << bits for value in values)


def signed(bits: int, *values: int) -> bool:
    """Tells whether every value fits into a signed C type."""
    return all(-(1 << bits - 1) <= index(value) < 1 << bits - 1 for value in values)
