"""Running a short image, beside others that do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind.bench import images
from kvmbind.bench.images import Contestant, Times
from kvmbind.cli import main
from kvmbind.machine.ending import Reason

if TYPE_CHECKING:
    from kvmbind.machine.images.image import Format

TEXT = images.TEXT.decode().strip()


@pytest.mark.kvm
@pytest.mark.parametrize(
    ("make", "format", "place"), [(images.boot_sector, None, "screen"), (images.rom, "rom", "serial")]
)
def test_its_images_print_a_line_and_end(make: Callable[[], bytes], format: Format | None, place: str) -> None:
    ending = kvmbind.Machine(make(), format=format).run(60)
    assert (ending.reason, ending.exit_status) == (Reason.DEBUG_EXIT, 1)
    said = ending.screen if place == "screen" else ending.serial.decode()
    assert said.strip() == TEXT


@pytest.mark.kvm
def test_each_way_runs_an_image_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for QEMU, which takes seconds where it is."""
    monkeypatch.setattr("kvmbind.bench.images.shutil.which", lambda name: None)
    times = images.measure(1)
    names = ["python -c pass", "Machine(image).run()", "kvmbind run, boot sector", "kvmbind run, ROM"]
    assert [one.name for one in times] == names
    assert all(0 < one.min_ms <= one.p50_ms for one in times)


def test_the_slow_ones_take_few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    ways = [Contestant("fast", lambda: ran.append("fast")), Contestant("slow", lambda: ran.append("slow"), True)]
    monkeypatch.setattr("kvmbind.bench.images.contestants", lambda folder: iter(ways))
    images.measure(5)
    assert (ran.count("fast"), ran.count("slow")) == (6, images.SLOW_TURNS)


def test_who_does_not_end_as_it_should_is_an_error() -> None:
    with pytest.raises(OSError, match=r"has ended with 3: oh$"):
        images.command(sys.executable, "-c", "import sys; print('oh', file=sys.stderr); sys.exit(3)")()
    with pytest.raises(OSError, match="has ended with 0"):
        images.command(sys.executable, "-c", "pass", says=b"Hello")()


def test_the_table_has_ratios_to_bare_python_and_says_what_was_not_measured() -> None:
    told = list(images.lines([Times("python -c pass", 10.0, 9.0), Times("kvmbind run", 40.0, 39.0)]))
    assert told[2].split() == ["kvmbind", "run", "40.0", "39.0", "4.00"]
    assert told[3] == "not measured: qemu-system-x86_64 is not installed"


def test_no_turn_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "images", "-n", "0"]) == 1
    assert "one turn of each at least" in capsys.readouterr().err
