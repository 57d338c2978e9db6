"""What the tests of objects share."""

from __future__ import annotations

from typing import Protocol

import pytest

from tests.held import Held, count_held


class Count(Protocol):
    """Counts what the process holds, when everything that waits to be closed is."""

    def __call__(self, expected: Held | None = None) -> Held:
        """See count_held."""


@pytest.fixture
def held() -> Count:
    """Counts what the process holds, when everything that waits to be closed is."""
    return count_held
