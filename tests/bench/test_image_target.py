"""Firing at an image in a machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import kvmbind
from kvmbind import bench
from kvmbind.bench.mechanisms import MECHANISMS
from kvmbind.bench.plan import ImagePlan, PlanError

pytestmark = pytest.mark.kvm

COUNTER = ImagePlan(str(Path(__file__).resolve().parents[2] / "examples/images/counter.bin"), 0x40)
COUNTER_COUNTS_AT = 0x7C80
EVERY = tuple(name for name in MECHANISMS if name != "no-irqchip")

#: Counts vector 40h at 8000h, and ends it at the local APIC itself.
KNOWS_ITS_APIC = "31c0 8ed8 c70600011a7c c70602010000 66b90b080000 fb f4 ebfd 66ff060080 6631c0 6631d2 0f30 cf"
#: The same without that end; the third ends the program.
THREE = "31c0 8ed8 c7060001147c c70602010000 fb f4 ebfd 66ff060080 833e008003 7401 cf fa f4"


@pytest.fixture
def image(tmp_path: Path) -> Callable[[str], str]:
    def make(code: str) -> str:
        path = tmp_path / "image.bin"
        path.write_bytes(bytes.fromhex(code).ljust(510, b"\0") + b"\x55\xaa")
        return str(path)

    return make


def latency(plan: ImagePlan, *mechanisms: str, n: int = 6, **options: float) -> bench.Report:
    return bench.latency(mechanisms, n=n, repeat=2, warmup=1, gap_us=0, image=plan, **options)  # type: ignore[arg-type]


def test_every_mechanism_but_one_reaches_its_handler_each_time() -> None:
    report = latency(COUNTER, *EVERY)
    assert {result.name: result.counted for result in report} == dict.fromkeys(EVERY, 6)
    assert report["bound"].shows == "handler"
    assert "the BIOS's first instructions on the way to the image's handler" in report.title


def test_the_report_names_the_image_and_not_what_the_image_decides() -> None:
    options = latency(COUNTER, "floor", n=2).options
    assert (options["image"], options["irq"]) == (COUNTER.path, "40")
    assert not {"guest_state", "answer", "vcpus", "count_at"} & options.keys()


def test_times_end_at_the_images_own_count_where_it_is_told() -> None:
    report = latency(COUNTER._replace(count_at=COUNTER_COUNTS_AT), "floor", "bound")
    assert (report["bound"].shows, report["bound"].counted) == ("seen", 6)
    assert report.title.endswith("until the host sees the count of the image's handler")
    assert report["bound"].all_of("handler").min_ns < report["bound"].min_ns
    assert report.options["count_at"] == "7c80"
    assert not any("upper bound" in warning for warning in report.warnings)


def test_a_raw_vector_is_counted_by_the_image_and_has_no_stamps(image: Callable[[str], str]) -> None:
    report = latency(ImagePlan(image(KNOWS_ITS_APIC), 0x40, is_raw=True, count_at=0x8000), "floor", "bound")
    assert (report["bound"].shows, report["bound"].counted, report.options["irq"]) == ("seen", 6, "raw:40")
    assert set(report["bound"].turns[0].times) == {"seen"}


def test_with_a_rate_times_count_from_when_they_were_due() -> None:
    report = bench.latency(("floor",), n=4, repeat=2, warmup=0, rate_hz=200, image=COUNTER)
    assert report["floor"].shows == "due"


@pytest.mark.parametrize(
    ("code", "count_at", "says"),
    [
        ("fa f4", None, "has ended: halted"),
        ("fb f4 ebfd", None, "has put no handler at its vector for 0.2 s"),
        (KNOWS_ITS_APIC, 0x9000, "counts nothing at 9000h for 0.2 s"),
        (KNOWS_ITS_APIC, 1 << 30, "has no memory at 0x40000000"),
    ],
)
def test_an_image_that_cannot_be_fired_at_is_refused(
    image: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, code: str, count_at: int | None, says: str
) -> None:
    monkeypatch.setattr("kvmbind.bench.image_target._READY_WITHIN_S", 0.2)
    with pytest.raises(PlanError, match=says):
        latency(ImagePlan(image(code), 0x40, count_at=count_at), "floor")


def test_an_image_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.bin"
    path.touch()
    with pytest.raises(PlanError, match=r"empty\.bin: "):
        latency(ImagePlan(str(path), 0x40), "floor")


def test_an_image_that_ends_while_it_is_measured_is_named(
    image: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmbind.bench.probe._ANSWER_WITHIN_S", 0.5)
    with pytest.raises(kvmbind.TimedOutError) as caught:
        latency(ImagePlan(image(THREE), 0x40), "floor", n=100)
    assert caught.value.__notes__ == ["the image has ended: halted"]


@pytest.mark.parametrize(
    ("plan", "options", "says"),
    [
        (COUNTER, {"vcpus": 2}, "has one VCPU"),
        (COUNTER, {"guest_state": "spinning"}, "has one VCPU, sleeps or runs as it likes"),
        (COUNTER._replace(vector=256), {}, "vector 100h is not 0h to ffh"),
        (COUNTER._replace(is_raw=True, vector=8, count_at=0), {}, "vector 8h is not 10h to ffh"),
        (COUNTER._replace(is_raw=True), {}, "say where it counts"),
    ],
)
def test_options_that_an_image_cannot_have_are_refused(plan: ImagePlan, options: dict[str, object], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        bench.latency(("floor",), n=2, repeat=2, image=plan, **options)  # type: ignore[arg-type]


def test_a_mechanism_that_an_image_cannot_have_is_refused() -> None:
    with pytest.raises(PlanError, match="no-irqchip cannot be measured so: a machine's interrupt controllers"):
        latency(COUNTER, "no-irqchip")


def test_it_leaves_nothing_behind(count_fds: Callable[[], int]) -> None:
    latency(COUNTER, *EVERY, n=2)
    kvmbind.settle()
    before, threads = count_fds(), threading.active_count()
    latency(COUNTER, *EVERY, n=2)
    kvmbind.settle()
    assert (count_fds(), threading.active_count()) == (before, threads)
