"""The ratios to raw C measure both sides of each pair, and no interrupt, bell or packet is missing from either."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.bench import ratios
from kvmbind.bench.ratios import Ratio

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.kvm


def one(ratio: Ratio) -> list[Ratio]:
    return [ratio]


MEASURED: dict[str, Callable[[], list[Ratio]]] = {
    "trigger": ratios.trigger,
    "exits": lambda: ratios.exits(rounds=20),
    "create": lambda: one(ratios.create()),
    "bell": lambda: one(ratios.bell()),
    "port_wake": lambda: one(ratios.port_wake(rounds=5)),
    "ping_pong": lambda: one(ratios.ping_pong(rounds=50)),
}


@pytest.mark.parametrize("name", MEASURED)
def test_each_ratio_has_a_time_of_both_sides(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratios, "TURNS", 2)
    for ratio in MEASURED[name]():
        assert ratio.ours_ns > 0
        assert ratio.raw_ns > 0
        assert str(ratio).endswith(ratio.limit)


def test_a_row_has_both_times_their_ratio_and_the_limit() -> None:
    assert str(Ratio("x / y", 1500, 1000, "<= 1.6")).split() == ["x", "/", "y", "1,500", "1,000", "1.50", "<=", "1.6"]
