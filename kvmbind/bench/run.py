"""What every benchmark is while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.bench.report import Report


class Step(NamedTuple):
    """How far a run is: told after each turn."""

    done: int
    total: int
    name: str


class Run(Protocol):
    """One run of a benchmark, which can tell what it has measured when it was interrupted.

    on_step: called after each turn, if set.

    Threads: one.
    """

    on_step: Callable[[Step], object] | None

    def measure(self) -> None:
        """Takes all turns."""

    def report(self) -> Report:
        """Returns what has been measured so far."""
