"""The table of services: what a call is counted and named by."""

from __future__ import annotations

import pytest

from kvmbind.machine.bios import services


@pytest.mark.parametrize(
    ("vector", "function", "name"),
    [
        (0x10, 0x0E, "10/0E teletype"),
        (0x13, 0x77, "13/77 other disk"),
        (0x16, 0x77, "16/77 unknown"),
        (0x20, 0x77, "20 terminate"),
        (0x77, 0x12, "77 unknown"),
    ],
)
@pytest.mark.usefixtures("bench")
def test_a_call_has_a_name(vector: int, function: int, name: str) -> None:
    assert services.name(vector, function) == name


@pytest.mark.usefixtures("bench")
def test_ah_counts_only_where_it_is_a_function() -> None:
    assert services.key(0x10, 0x0E) == (0x10, 0x0E)
    assert services.key(0x09, 0x0E) == (0x09, 0)
