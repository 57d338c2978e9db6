"""Reports with times that a test chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import pytest

from kvmbind.bench.counters import Counters
from kvmbind.bench.distribution import Distribution
from kvmbind.bench.host import Host, Noise
from kvmbind.bench.report import Report, Result, Turn

HOST = Host(
    cpu="A Processor", cpus=8, kernel="6.18.0", kvm_module="kvm_amd", in_software=False, nested=False,
    posted_interrupts=True, halt_poll_ns=200_000, governor="performance", python="3.11.7", kvmbind="0.1.0",
)  # fmt: skip
QUIET = Noise(steal_ticks=0, all_ticks=1000, involuntary_switches=0, load=0.0)

Samples = Mapping[str, Iterable[Iterable[int]]]


class MakeReport(Protocol):
    """Makes a report of these samples in ns: for each result a list for each repeat."""

    def __call__(self, samples: Samples, **changes: object) -> Report:
        """`changes` are of the report's attributes."""


def result_of(name: str, repeats: Iterable[Iterable[int]], base: str | None) -> Result:
    turns = []
    for place, samples_ns in enumerate(repeats):
        times = Distribution(samples_ns)
        n = len(times)
        counted = Counters(n, n, 0, 0, 2 * n, n, n, 0, 0)
        turns.append(Turn({"handler": times, "seen": times}, counted, place * 0.5, 0.25))
    return Result(name, f"what {name} is", "handler", base, tuple(turns))


@pytest.fixture
def make_report() -> MakeReport:
    def make(samples: Samples, **changes: object) -> Report:
        base = "floor" if "floor" in samples else None
        facts: dict[str, object] = {
            "bench": "latency",
            "title": "from the trigger to the handler",
            "options": {"guest_state": "halted", "n": 5},
            "created": "2026-01-02T03:04:05+00:00",
            "host": HOST,
            "noise": QUIET,
            "results": tuple(result_of(name, repeats, base) for name, repeats in samples.items()),
            "warnings": (),
            "complete": True,
        }
        return Report(**{**facts, **changes})  # type: ignore[arg-type]  # a test's own keywords

    return make


@pytest.fixture
def report(make_report: MakeReport) -> Report:
    """Two results, three repeats."""
    return make_report(
        {
            "floor": [[2_000, 2_100, 2_200]] * 3,
            "bound": [[2_300, 2_400, 1_000_000], [2_500, 2_600, 2_700], [2_400, 2_400, 2_500]],
        }
    )
