"""Reports as people see them: in a terminal, in a pipe, on paper."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from kvmbind.bench.axis import Axis
from kvmbind.bench.show import microseconds, show

if TYPE_CHECKING:
    from pathlib import Path

    from kvmbind.bench import Report
    from tests.bench.conftest import MakeReport


def shown(report: Report, width: int = 80, encoding: str = "utf-8") -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(report, Console(file=out, width=width, highlight=False))
    out.seek(0)
    return out.read()


@pytest.mark.parametrize(
    ("ns", "text"),
    [(1, "0.00"), (2_345, "2.35"), (9_994, "9.99"), (9_999, "10.0"), (99_940, "99.9"), (99_960, "100"),
     (1_234_567, "1,235"), (9_999_000, "9,999"), (12_345_678, "12.3k"), (234_567_890, "235k")],
)  # fmt: skip
def test_a_time_has_three_digits(ns: int, text: str) -> None:
    assert microseconds(ns) == text


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_is_wider_than_the_terminal_and_no_cell_is_cut(width: int, report: Report) -> None:
    text = shown(report, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_in_80_columns_there_are_two_tables_and_in_160_one(report: Report) -> None:
    assert shown(report, 80).count("p99.9") == shown(report, 160).count("p99.9") == 1
    assert "For each trigger" in shown(report, 80)
    assert "For each trigger" not in shown(report, 160)


def test_the_table_has_the_percentiles_the_ratio_and_what_was_counted(report: Report) -> None:
    [line] = [line for line in shown(report, 160).splitlines() if line.startswith("bound ") and "1.14" in line]
    assert line.split() == [
        "bound", "2.30", "2.50", "1,000", "1,000", "1,000", "1,000", "1.14", "(1.14-1.24)", "8,825",
        "0", "0", "2.00", "1.00", "1.00", "0", "9",
    ]  # fmt: skip


def test_without_the_floor_there_is_no_column_of_ratios(make_report: MakeReport) -> None:
    assert "floor" not in shown(make_report({"bound": [[1, 2, 3]]}))


def test_what_kvm_does_not_count_is_a_dash(make_report: MakeReport) -> None:
    result = make_report({"bound": [[1000]]})["bound"]
    turn = result.turns[0]
    blank = turn._replace(counters=turn.counters._replace(exits=None))
    changed = type(result)("blank", "", "handler", None, (blank,))
    lines = shown(make_report({}, results=(result, changed)), 160).splitlines()
    assert " - " in next(line for line in lines if line.startswith("blank"))


def test_what_nobody_counts_has_no_column(make_report: MakeReport) -> None:
    result = make_report({"bound": [[1000]]})["bound"]
    turn = result.turns[0]
    blank = turn._replace(counters=turn.counters._replace(exits=None))
    changed = type(result)("blank", "", "handler", None, (blank,))
    assert "exits" not in shown(make_report({}, results=(changed,)), 160)


def test_the_header_says_what_was_measured_where(report: Report) -> None:
    text = shown(report)
    for fact in ("A Processor, 8 CPUs", "Linux 6.18.0", "kvm_amd", "posts interrupts", "halt_poll_ns 200,000",
                 "governor performance", "not pinned", "guest_state halted"):  # fmt: skip
        assert fact in text


def test_warnings_come_last(make_report: MakeReport) -> None:
    text = shown(make_report({"bound": [[1]]}, warnings=("the machine was busy",)))
    assert text.rstrip().endswith("warning: the machine was busy")


def test_in_a_pipe_there_is_no_escape_sequence(report: Report) -> None:
    assert "\x1b" not in shown(report)


def test_where_only_ascii_can_be_written_the_histogram_is_ascii(report: Report) -> None:
    assert "█" in shown(report)
    assert "%" in shown(report, encoding="ascii")


def test_a_histogram_has_all_samples_and_the_outermost_columns_have_those_beyond() -> None:
    axis = Axis(1_000, 100_000, 10)
    heights = axis.heights([1, 1_000, 10_000, 99_999, 10**9])
    assert sum(heights) == 5
    assert (heights[0], heights[-1]) == (2, 2)


def test_the_axis_has_round_times_at_their_columns() -> None:
    axis = Axis(1_000, 100_000, 60)
    marks, labels = axis.ticks()
    assert labels.split()[0] == "1"
    assert marks[axis.column(10_000)] == "|"
    assert labels[axis.column(10_000) :].startswith("10 ")


def test_equal_times_have_an_axis_too(make_report: MakeReport) -> None:
    assert "bound" in shown(make_report({"bound": [[5_000, 5_000]]}))


def test_an_empty_report_is_its_header(make_report: MakeReport) -> None:
    assert "A Processor" in shown(make_report({}))


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_plot_is_of_the_format_that_its_name_ends_in(
    ending: str, start: bytes, report: Report, tmp_path: Path
) -> None:
    path = tmp_path / f"plot{ending}"
    report.plot(path)
    assert path.read_bytes().startswith(start)


def test_a_plot_names_every_result(report: Report, tmp_path: Path) -> None:
    """Text in an SVG is drawn, and its words stand beside it as comments."""
    report.plot(tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert all(f"<!-- {result.name} -->" in drawn for result in report)


def test_another_ending_is_refused(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a plot is a \.png or \.svg file"):
        report.plot(tmp_path / "plot.jpg")
    assert list(tmp_path.iterdir()) == []
