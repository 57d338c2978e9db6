"""Reports as JSON documents.

A document is one object:

- schema: "kvmbind.bench/1". It changes when a reader of the old one would go wrong.
- bench, title, created, warnings, complete: as the attributes of `Report`.
- options: what the benchmark was asked to do, by name. host, noise: the fields of `Host` and `Noise`.
- results: one object for each, in the order of the table:
  - name, says, shows, base: as the attributes of `Result`.
  - summary: of the times that it shows, in ns: min_ns, p50_ns, p90_ns, p99_ns, p99_9_ns, max_ns, mean_ns;
    p50_interval_ns: [low, high], the confidence interval (95 %) of p50; ratio: {value, low, high} of p50's ratio to
    the base and its confidence interval, or null. These follow from the turns and are not read back.
  - turns: one object for each repeat:
    - times: HDR histograms by what they measure: V2, compressed, base64, in ns with three significant digits.
    - counters: the fields of `Counters`; null where nobody counts.
    - start_s, length_s: seconds since the run began, and how long the turn took.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kvmbind.bench import hdr
from kvmbind.bench.counters import Counters
from kvmbind.bench.files import replace_whole
from kvmbind.bench.host import Host, Noise
from kvmbind.bench.report import Report, Result, Turn

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = "kvmbind.bench/1"


class DocumentError(ValueError):
    """A file that is no report."""


def dumps(report: Report) -> str:
    """Returns the document as text."""
    return json.dumps(_document(report), indent=1)


def save(report: Report, path: str | Path) -> None:
    """Writes the document to a file.

    Raises:
        OSError: It cannot be written; what was there before stays.
    """
    with replace_whole(path) as file:
        file.write(dumps(report).encode("ascii") + b"\n")


def load(path: str | Path) -> Report:
    """Reads a report. Its times are those of the histograms' buckets, within a thousandth of what was measured.

    Raises:
        OSError: It cannot be read.
        DocumentError: It is no report, or of another schema.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        schema = document.get("schema")
        if schema != SCHEMA:
            raise DocumentError(f"{path} has the schema {schema!r}, and this version reads {SCHEMA!r}")
        return _report(document)
    except DocumentError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DocumentError(f"{path} is no report of kvmbind bench: {error}") from error


def _document(report: Report) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "bench": report.bench,
        "title": report.title,
        "created": report.created,
        "complete": report.complete,
        "options": dict(report.options),
        "host": report.host._asdict(),
        "noise": report.noise._asdict(),
        "warnings": list(report.warnings),
        "results": [_result(report, result) for result in report],
    }


def _result(report: Report, result: Result) -> dict[str, Any]:
    ratio = report.ratio(result.name)
    interval = result.interval(50)
    return {
        "name": result.name,
        "says": result.says,
        "shows": result.shows,
        "base": result.base,
        "summary": {
            "min_ns": result.min_ns,
            "p50_ns": result.p50_ns,
            "p90_ns": result.p90_ns,
            "p99_ns": result.p99_ns,
            "p99_9_ns": result.p99_9_ns,
            "max_ns": result.max_ns,
            "mean_ns": round(result.times.mean_ns, 1),
            "p50_interval_ns": [interval.low, interval.high],
            "ratio": None if ratio is None else ratio._asdict(),
        },
        "turns": [
            {
                "times": {name: hdr.encode(times) for name, times in turn.times.items()},
                "counters": turn.counters._asdict(),
                "start_s": round(turn.start_s, 6),
                "length_s": round(turn.length_s, 6),
            }
            for turn in result.turns
        ],
    }


def _report(document: dict[str, Any]) -> Report:
    return Report(
        bench=document["bench"],
        title=document["title"],
        options=document["options"],
        created=document["created"],
        host=Host(**document["host"]),
        noise=Noise(**document["noise"]),
        results=tuple(_read_result(result) for result in document["results"]),
        warnings=tuple(document["warnings"]),
        complete=document["complete"],
    )


def _read_result(result: dict[str, Any]) -> Result:
    turns = tuple(
        Turn(
            times={name: hdr.decode(text) for name, text in turn["times"].items()},
            counters=Counters(**turn["counters"]),
            start_s=turn["start_s"],
            length_s=turn["length_s"],
        )
        for turn in result["turns"]
    )
    made = Result(result["name"], result["says"], result["shows"], result["base"], turns)
    if not turns or any(made.shows not in turn.times for turn in turns):
        raise DocumentError(f"{made.name!r} has no times of {made.shows!r}")
    return made
