"""HDR histograms: what a report saves its samples as, and logs that other programs read."""

from __future__ import annotations

from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING

from hdrh.histogram import HdrHistogram

from kvmbind.bench.distribution import Distribution

if TYPE_CHECKING:
    from kvmbind.bench.report import Report

HIGHEST_NS = 3_600_000_000_000
SIGNIFICANT_DIGITS = 3
_NS_PER_MS = 1e6


def encode(times: Distribution) -> str:
    """Returns the samples as a compressed V2 histogram in base64: ns, three significant digits."""
    histogram = HdrHistogram(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
    for sample_ns in times.samples_ns:
        histogram.record_value(min(max(sample_ns, 0), HIGHEST_NS))
    text: bytes = histogram.encode()
    return text.decode("ascii")


def decode(text: str) -> Distribution:
    """Returns the samples of a histogram, each as the middle of its bucket.

    Raises:
        ValueError: It is none.
    """
    try:
        histogram = HdrHistogram.decode(text)
        first, last = map(histogram.get_counts_array_index, (histogram.get_min_value(), histogram.get_max_value()))
        counts = histogram.counts[first : last + 1]  # the library's own iterator looks at all buckets there are
        return Distribution(
            sample_ns
            for index, count in enumerate(counts, first)
            if count
            for sample_ns in [_middle(histogram, index)] * count
        )
    except Exception as error:  # the library raises whatever its parts raise
        raise ValueError(f"no HDR histogram: {error}") from error


def _middle(histogram: HdrHistogram, index: int) -> int:
    low: int = histogram.get_value_from_index(index)
    high: int = histogram.get_highest_equivalent_value(low)
    return (low + high) // 2


def log(report: Report) -> str:
    """Returns a histogram log, version 1.3: an interval for each turn, tagged with its result's name; maxima in ms."""
    start = datetime.fromisoformat(report.created)
    lines = [
        "#[Histogram log format version 1.3]",
        f"#[{report.bench}: {report.title}, in ns]",
        f"#[StartTime: {start.timestamp():.3f} (seconds since epoch), {start.isoformat()}]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    turns = [
        (turn.start_s, result.name, turn.length_s, turn.times[result.shows])
        for result in report
        for turn in result.turns
    ]
    for start_s, name, length_s, times in sorted(turns, key=itemgetter(0)):
        lines.append(f"Tag={name},{start_s:.3f},{length_s:.3f},{times.max_ns / _NS_PER_MS:.3f},{encode(times)}")
    return "\n".join(lines) + "\n"
