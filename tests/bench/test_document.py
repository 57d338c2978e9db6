"""Reports are saved, with every sample, and read again."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.bench import document, hdr
from kvmbind.bench.distribution import Distribution
from kvmbind.bench.document import DocumentError
from kvmbind.bench.files import require_writable

if TYPE_CHECKING:
    from pathlib import Path

    from kvmbind.bench import Report


def test_what_is_saved_is_read_again_within_a_thousandth(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    report.save(path)
    read = document.load(path)
    assert [result.name for result in read] == ["floor", "bound"]
    assert read.options == report.options
    assert (read.host, read.noise, read.created) == (report.host, report.noise, report.created)
    for before, after in zip(report, read, strict=True):
        assert (after.counters, after.base) == (before.counters, "floor")
        assert after.p50_ns == pytest.approx(before.p50_ns, rel=1e-3)
        assert after.max_ns == pytest.approx(before.max_ns, rel=1e-3)
        assert len(after.all_of("seen")) == len(before.all_of("seen"))


def test_saving_what_was_read_changes_nothing(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "a.json")
    read = document.load(tmp_path / "a.json")
    read.save(tmp_path / "b.json")
    assert document.load(tmp_path / "b.json") == read


def test_the_document_has_what_its_description_says(report: Report) -> None:
    """The names in the module's docstring are those in the document, and there are no others."""
    made = json.loads(document.dumps(report))
    assert made["schema"] == "kvmbind.bench/1"
    assert set(made) == {
        "schema", "bench", "title", "created", "complete", "options", "host", "noise", "warnings", "results",
    }  # fmt: skip
    first = made["results"][1]
    assert set(first) == {"name", "says", "shows", "base", "summary", "turns"}
    assert first["summary"]["p50_ns"] == 2_500
    assert first["summary"]["ratio"]["value"] == pytest.approx(2400 / 2100)
    assert set(first["turns"][0]) == {"times", "counters", "start_s", "length_s"}
    described = document.__doc__ or ""
    assert all(word in described for word in [*made, *first, *first["summary"], *first["turns"][0]])


def test_any_hdr_library_reads_the_histograms(report: Report) -> None:
    text = json.loads(document.dumps(report))["results"][1]["turns"][0]["times"]["handler"]
    histogram = HdrHistogram.decode(text)
    assert histogram.get_total_count() == 3
    assert histogram.get_max_value() == pytest.approx(1_000_000, rel=1e-3)


@given(st.lists(st.integers(0, hdr.HIGHEST_NS), min_size=1, max_size=50))
def test_a_histogram_keeps_every_sample_within_a_thousandth(samples: list[int]) -> None:
    kept = hdr.decode(hdr.encode(Distribution(samples)))
    assert list(kept.samples_ns) == [pytest.approx(sample, rel=1e-3, abs=1) for sample in sorted(samples)]


def test_the_log_has_an_interval_for_each_turn_in_order_of_time_with_its_results_tag(report: Report) -> None:
    lines = hdr.log(report).splitlines()
    assert lines[0] == "#[Histogram log format version 1.3]"
    assert lines[2].startswith("#[StartTime: 1767323045.000 (seconds since epoch), ")
    turns = [line.split(",") for line in lines if not line.startswith(("#", '"'))]
    assert [turn[:3] for turn in turns[:2]] == [["Tag=floor", "0.000", "0.250"], ["Tag=bound", "0.000", "0.250"]]
    assert [float(turn[1]) for turn in turns] == sorted(float(turn[1]) for turn in turns)
    assert turns[1][3] == "1.000"
    assert HdrHistogram.decode(turns[1][4]).get_total_count() == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", '{"schema": "kvmbind.bench/1"}', '{"schema": "other/1"}'])
def test_what_is_no_report_is_refused_by_the_files_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DocumentError, match=rf"^{path} "):
        document.load(path)


def test_a_report_whose_histogram_is_damaged_is_refused(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(document.dumps(report).replace("HIST", "LIST"))
    with pytest.raises(DocumentError, match="no HDR histogram"):
        document.load(path)


def test_a_report_without_turns_is_refused(report: Report, tmp_path: Path) -> None:
    made = json.loads(document.dumps(report))
    made["results"][0]["turns"] = []
    path = tmp_path / "a.json"
    path.write_text(json.dumps(made))
    with pytest.raises(DocumentError, match="'floor' has no times"):
        document.load(path)


def test_a_full_disk_is_an_error_that_names_the_file(report: Report) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        report.save("/dev/full")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_what_was_there_stays_until_the_new_file_is_whole(report: Report, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    path = tmp_path / "a.json"
    path.write_text("before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        report.save(path)
    assert caught.value.filename == str(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "before"


def test_a_saved_file_has_the_mode_that_other_programs_files_have(report: Report, tmp_path: Path) -> None:
    before = os.umask(0o022)
    report.save(tmp_path / "a.json")
    os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644


def test_a_file_that_cannot_be_written_is_known_before_there_is_anything_to_write(tmp_path: Path) -> None:
    require_writable(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "a.json", FileNotFoundError)):
        with pytest.raises(error) as caught:
            require_writable(path)
        assert caught.value.filename == str(path)
