"""Reports for people: tables, and histograms made of characters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kvmbind.bench.axis import Axis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, RenderableType

    from kvmbind.bench.report import Report, Result

_HISTOGRAM_WIDTH_MAX = 140  # columns
_WIDER_THAN_ANY = 10_000
_NOTHING = "-"
_BARS = " ▁▂▃▄▅▆▇█"
_ASCII_BARS = " .:-=+*#%"
_CLIPPED = 99.9  # the percentile that the histograms end at; what is above is in the last column


class Column(NamedTuple):
    """A column of a table: its head, and what it says of a result."""

    head: str
    cell: Callable[[Report, Result], str]


def microseconds(ns: float) -> str:
    """Says a time in us with three or four digits; k is for thousands."""
    us = ns / 1000
    return _short(us) if us < 9999.5 else f"{_short(us / 1000)}k"


def _short(number: float) -> str:
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:,.0f}"


def _ratio(report: Report, result: Result) -> str:
    ratio = report.ratio(result.name)
    if ratio is None:
        return _NOTHING
    if result.name == result.base:
        return "1.00"
    return f"{_short(ratio.value)} ({_short(ratio.low)}-{_short(ratio.high)})"


def _per_trigger(count: int | None, result: Result) -> str:
    if count is None:
        return _NOTHING
    share = count / result.triggers
    return "0" if not count else "<0.01" if share < 0.005 else f"{share:.2f}"


def _rate(result: Result) -> str:
    measure = "seen" if "seen" in result.turns[0].times else result.shows
    return f"{1e9 / result.all_of(measure).mean_ns:,.0f}"


TIMES = (
    Column("min", lambda _, result: microseconds(result.min_ns)),
    Column("p50", lambda _, result: microseconds(result.p50_ns)),
    Column("p90", lambda _, result: microseconds(result.p90_ns)),
    Column("p99", lambda _, result: microseconds(result.p99_ns)),
    Column("p99.9", lambda _, result: microseconds(result.p99_9_ns)),
    Column("max", lambda _, result: microseconds(result.max_ns)),
)
RATE = Column("per second", lambda _, result: _rate(result))
RATIO = Column("p50 / base (95 %)", _ratio)
COUNTS = (
    Column("KVM_RUN\nreturns", lambda _, result: _per_trigger(result.returns, result)),
    Column("host\nwake-ups", lambda _, result: _per_trigger(result.counters.host_wakeups, result)),
    Column("VM\nexits", lambda _, result: _per_trigger(result.counters.exits, result)),
    Column("injec-\ntions", lambda _, result: _per_trigger(result.irq_injections, result)),
    Column("VCPU\nslept", lambda _, result: _per_trigger(result.counters.halt_wakeup, result)),
    Column("KVM\npolled", lambda _, result: _per_trigger(result.counters.halt_successful_poll, result)),
    Column("guest\ncounted", lambda _, result: _NOTHING if result.counted is None else f"{result.counted:,}"),
)


def show(report: Report, console: Console) -> None:
    """Prints the whole report."""
    console.print(_header(report))
    if not report.results:
        return
    console.print(_tables(report, console))
    console.print()
    console.print(_histograms(report, console))
    console.print(_legend(report))
    for warning in report.warnings:
        console.print(Text.assemble(("warning: ", "bold magenta"), warning))


def _header(report: Report) -> RenderableType:
    host, options = report.host, report.options
    posted = {True: "posts interrupts (APICv, AVIC)", False: "posts no interrupts", None: ""}[host.posted_interrupts]
    halt_poll = "" if host.halt_poll_ns is None else f"halt_poll_ns {host.halt_poll_ns:,}"
    kind = "software KVM" if host.in_software else "nested" if host.nested else "not nested"
    governor = "" if host.governor is None else f"governor {host.governor}"
    pinned = options.get("pin")
    pin = f"pinned to {', '.join(map(str, pinned))}" if isinstance(pinned, list | tuple) and pinned else "not pinned"
    lines = [
        f"kvmbind {host.kvmbind}, Python {host.python}, Linux {host.kernel}",
        f"{host.cpu}, {host.cpus} CPUs, {pin}",
        ", ".join(filter(None, (host.kvm_module or "kvm", kind, posted, halt_poll, governor))),
        _options(report),
    ]
    title = f"{report.bench}, in us: {report.title}"
    return Group(Text(title, style="bold"), *(Text(line, style="dim") for line in lines), "")


def _options(report: Report) -> str:
    told = {name: value for name, value in report.options.items() if name not in ("mechanisms", "pin")}
    return ", ".join(f"{name} {_plain(value)}" for name, value in told.items() if value not in (None, ()))


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def _tables(report: Report, console: Console) -> RenderableType:
    """Returns one table where it fits, or else two."""
    times = [*TIMES, *(column for column in (RATIO,) if _says_anything(report, column))]
    counts = [RATE, *(column for column in COUNTS if _says_anything(report, column))]
    whole = _table(report, [*times, *counts])
    unlimited = console.options.update(max_width=_WIDER_THAN_ANY)
    if console.measure(whole, options=unlimited).maximum <= console.width:
        return whole
    return Group(
        _table(report, times),
        Text("\nFor each trigger:" if report.bench == "latency" else "\nFor each:", style="bold"),
        _table(report, counts),
    )


def _says_anything(report: Report, column: Column) -> bool:
    return any(column.cell(report, result) != _NOTHING for result in report)


def _table(report: Report, columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True, vertical="bottom")
    for result in report:
        table.add_row(result.name, *(column.cell(report, result) for column in columns))
    return table


def _legend(report: Report) -> RenderableType:
    names = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    for result in report:
        names.add_row(Text(result.name, style="dim"), Text(result.says, style="dim"))
    return Group("", names, "")


def _histograms(report: Report, console: Console) -> RenderableType:
    """One line for each result, over one logarithmic axis."""
    labels = max(len(result.name) for result in report) + 2
    columns = max(min(console.width, _HISTOGRAM_WIDTH_MAX) - labels, 20)
    axis = Axis(min(r.min_ns for r in report), max(r.times.percentile(_CLIPPED) for r in report), columns)
    bars = _BARS if console.encoding.lower().startswith("utf") else _ASCII_BARS
    lines = [f"{result.name:<{labels}}{_bar(axis.heights(result.times.samples_ns), bars)}" for result in report]
    lines += [" " * labels + line for line in axis.ticks()]
    return Text("\n".join(lines), no_wrap=True)


def _bar(heights: Sequence[int], bars: str) -> str:
    highest = max(heights)
    return "".join(bars[math.ceil(height / highest * (len(bars) - 1))] for height in heights)
