"""Benchmarks, beside raw C in the same run.

`latency` measures how long interrupts take to a guest; `kvmbind bench` prints what it returns.
Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmbind.bench.distribution import Distribution as Distribution
    from kvmbind.bench.distribution import Interval as Interval
    from kvmbind.bench.measurement import latency as latency
    from kvmbind.bench.plan import PlanError as PlanError
    from kvmbind.bench.report import LatencyReport as LatencyReport
    from kvmbind.bench.report import Report as Report
    from kvmbind.bench.report import Result as Result

_HOMES = {
    "Distribution": "kvmbind.bench.distribution",
    "Interval": "kvmbind.bench.distribution",
    "LatencyReport": "kvmbind.bench.report",
    "PlanError": "kvmbind.bench.plan",
    "Report": "kvmbind.bench.report",
    "Result": "kvmbind.bench.report",
    "latency": "kvmbind.bench.measurement",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOMES.keys())
