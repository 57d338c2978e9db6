"""Plots: percentile curves and histograms, legible on paper too."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from kvmbind.bench.axis import Axis as LogAxis
from kvmbind.bench.files import replace_whole

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from kvmbind.bench.distribution import Distribution
    from kvmbind.bench.report import Report

FORMATS = (".png", ".svg")
_DPI = 150
_BINS = 160
_ROW = 0.85  # of the distance between two histograms
#: Okabe and Ito's colours, told apart by all eyes; with the line styles also without colour.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F", "#8B4513")
_STYLES = ("-", "--", "-.", ":")
_PERCENTS = (0, 50, 90, 99, 99.9, 99.99, 99.999)


def require_format(path: str | Path) -> str:
    """Returns the ending of the file's name; ValueError if it is none of FORMATS."""
    ending = os.path.splitext(os.fspath(path))[1].lower()
    if ending not in FORMATS:
        raise ValueError(f"{path}: a plot is a {' or '.join(FORMATS)} file")
    return ending


def save(report: Report, path: str | Path) -> None:
    """Draws the report into a file; see `Report.plot`."""
    ending = require_format(path)
    figure = _draw(report)
    image = io.BytesIO()
    figure.savefig(image, format=ending[1:])
    with replace_whole(path) as file:
        file.write(image.getvalue())


def _draw(report: Report) -> Figure:
    figure = Figure(figsize=(10, 9), dpi=_DPI, layout="constrained")
    curves, histograms = figure.subplots(2, 1, height_ratios=(3, 2))
    for place, result in enumerate(report):
        look = {
            "color": _COLOURS[place % len(_COLOURS)],
            "linestyle": _STYLES[place % len(_STYLES)],
            "linewidth": 1.6,
        }
        x, y = _curve(result.times)
        curves.plot(x, y, label=result.name, **look)
    _lay_out_curves(curves, max((len(result.times) for result in report), default=1))
    _draw_histograms(histograms, report)
    host = report.host
    kind = ", in software" if host.in_software else ", nested" if host.nested else ""
    figure.suptitle(f"kvmbind bench {report.bench}: {report.title}", fontsize=11, wrap=True)
    curves.set_title(
        f"{host.cpu}, Linux {host.kernel}, {host.kvm_module or 'kvm'}{kind}; {_options(report)}", fontsize=8
    )
    return figure


def _options(report: Report) -> str:
    options = report.options
    return ", ".join(f"{name} {options[name]}" for name in ("n", "guest_state", "vcpus") if name in options)


def _curve(times: Distribution) -> tuple[list[float], list[float]]:
    """Returns the curve's x, 1 / (1 - share of samples), and y, us."""
    samples_ns, count = times.samples_ns, len(times)
    places = [int(i * count / 2000) for i in range(2000)] if count > 4000 else list(range(count))
    places = sorted({*places, *range(max(count - 1000, 0), count)})
    return [count / (count - place) for place in places], [samples_ns[place] / 1000 for place in places]


def _draw_histograms(axes: Axes, report: Report) -> None:
    """Draws one above the other over one axis of times, each as high as its row."""
    names = [result.name for result in report]
    if names:
        low = min(result.times.percentile(0.1) for result in report)
        high = max(result.times.percentile(99.9) for result in report)
        axis = LogAxis(low, max(high, low + 1), _BINS)
        for place, result in enumerate(report):
            heights = axis.heights(result.times.samples_ns)
            axes.stairs(
                [-place + _ROW * height / max(heights) for height in heights],
                [axis.start_of(column) / 1000 for column in range(_BINS + 1)],
                baseline=-place,
                fill=True,
                color=_COLOURS[place % len(_COLOURS)],
                alpha=0.8,
            )
    axes.set_ylim(-len(names) + 0.8, 1)
    axes.set_yticks([-place for place in range(len(names))], names)
    axes.tick_params(axis="y", length=0)
    axes.set_xscale("log")
    axes.set_xlabel("us (one row's height is its commonest time)")
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.xaxis.set_minor_formatter(_SOME)
    axes.grid(visible=True, which="both", axis="x", alpha=0.25)


def _lay_out_curves(axes: Axes, samples: int) -> None:
    percents = [percent for percent in _PERCENTS if 100 / (100 - percent) <= samples]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([100 / (100 - percent) for percent in percents], [f"{percent:g} %" for percent in percents])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.yaxis.set_minor_formatter(_SOME)
    axes.set_xlabel("percentile")
    axes.set_ylabel("us")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(loc="upper left", fontsize=9, ncols=2, handlelength=3)


def _plain(value: float, _: object) -> str:
    return f"{value:,g}"


def _at_2_and_5(value: float, _: object) -> str:
    return f"{value:,g}" if f"{value:e}"[0] in "25" else ""


_PLAIN = FuncFormatter(_plain)
_SOME = FuncFormatter(_at_2_and_5)
