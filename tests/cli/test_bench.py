"""`kvmbind bench` from its options to its exit status, on real KVM, with few triggers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from kvmbind.bench import document
from kvmbind.bench.mechanisms import MECHANISMS
from kvmbind.cli import main

FEW = ("-n", "6", "--repeat", "3", "--warmup", "1", "--gap-us", "0")
TERMINAL = os.environ | {"TERM": "xterm-256color"}
TWO = (*FEW, "--mechanism", "bound")


class Ended:
    """How a command line ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    status = main(["bench", *arguments])
    return Ended(status, *capsys.readouterr())


@pytest.mark.kvm
def test_with_no_benchmarks_name_it_is_latency_with_all_mechanisms(capsys: pytest.CaptureFixture[str]) -> None:
    ended = bench(capsys, *FEW)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("latency, in us: ")
    assert all(f"\n{name} " in ended.out for name in MECHANISMS)


@pytest.mark.kvm
def test_its_name_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(capsys, "latency", *TWO).status == 0


@pytest.mark.kvm
def test_the_floor_is_measured_beside_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    ended = bench(capsys, *TWO, "--json")
    assert [result["name"] for result in json.loads(ended.out)["results"]] == ["floor", "bound"]


@pytest.mark.kvm
def test_what_cannot_be_measured_so_is_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    ended = bench(capsys, *FEW, "--vcpus", "2", "--json")
    assert ended.err == "not measured: no-irqchip: it has one VCPU\n"
    assert "no-irqchip" not in {result["name"] for result in json.loads(ended.out)["results"]}


def test_the_mechanisms_are_listed_without_kvm(capsys: pytest.CaptureFixture[str]) -> None:
    ended = bench(capsys, "--mechanism", "help")
    assert [line.split()[0] for line in ended.out.splitlines()] == list(MECHANISMS)


@pytest.mark.kvm
def test_it_saves_the_report_the_log_and_the_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {option: tmp_path / name for option, name in
             (("--save", "a.json"), ("--hlog", "a.hlog"), ("--plot", "a.png"))}  # fmt: skip
    options = [text for option, path in files.items() for text in (option, str(path))]
    assert bench(capsys, *TWO, *options).status == 0
    assert document.load(files["--save"])["bound"].triggers == 6
    assert files["--hlog"].read_text().count("Tag=bound") == 3
    assert files["--plot"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.kvm
def test_a_full_disk_is_one_line_after_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    ended = bench(capsys, *TWO, "--save", "/dev/full")
    assert (ended.status, ended.err) == (1, "kvmbind bench: /dev/full: No space left on device\n")
    assert "\nbound " in ended.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--mechanism", "pigeon"), "there is no mechanism 'pigeon': choose from floor, bound-c, bound, "),
        (("--mechanism", "no-irqchip", "--vcpus", "2"), "no-irqchip cannot be measured so: it has one VCPU"),
        (("--rate", "100", "--gap-us", "5"), "choose one of a rate and a gap"),
        (("-n", "1"), "n is 1: 20 repeats need one trigger each at least"),
        (("--pin", "4096"), "CPU 4096 cannot be had"),
        (("--plot", "a.jpg"), "a.jpg: a plot is a .png or .svg file"),
        (("--save", "/no/such/folder/a.json"), "/no/such/folder/a.json: No such file or directory"),
        (("--hlog", "/"), "/: Is a directory"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_anything_is_measured(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        pytest.fail("it has measured")

    monkeypatch.setattr("kvmbind.bench.measurement.LatencyRun.measure", measured)
    ended = bench(capsys, *arguments)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"kvmbind bench: {sentence}")
    assert ended.err.count("\n") == 1


COUNTER = str(Path(__file__).resolve().parents[2] / "examples/images/counter.bin")


@pytest.mark.kvm
def test_an_image_may_be_fired_at(capsys: pytest.CaptureFixture[str]) -> None:
    ended = bench(capsys, *TWO, "--image", COUNTER, "--irq", "40", "--count-at", "7c80")
    assert (ended.status, ended.err) == (0, "")
    assert "the count of the image's handler" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--image", COUNTER), "needs --image IMAGE and --irq VECTOR"),
        (("--irq", "40"), "needs --image IMAGE and --irq VECTOR"),
        (("--image", COUNTER, "--irq", "raw:80"), "say where it counts"),
        (("--image", COUNTER, "--irq", "40", "--vcpus", "2"), "an image has one VCPU"),
        (("--image", "nowhere.bin", "--irq", "40"), "nowhere.bin: No such file or directory"),
    ],
)
def test_an_image_that_cannot_be_fired_at_is_one_line(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = bench(capsys, *TWO, *arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert sentence in ended.err


def test_an_option_that_is_no_number_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        bench(capsys, "--pin", "first")
    assert "'first' is no list of CPU numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "missing"),
    [((), "rich"), (("--json",), "hdrh"), (("--save", "a.json"), "hdrh"), (("--plot", "a.png"), "matplotlib")],
)
def test_a_missing_library_is_one_line_that_says_what_to_install(
    options: tuple[str, ...], missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmbind.cli.failures.find_spec", lambda name: None if name == missing else find_spec(name))
    ended = bench(capsys, *options)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == f"kvmbind bench: {missing} not found: pip install 'kvmbind[bench]'\n"


def test_without_kvm_it_is_one_line_that_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmbind.zircon.resource.System", refuse_kvm)
    ended = bench(capsys, *TWO)
    assert (ended.status, ended.out, ended.err) == (1, "", "kvmbind bench: /dev/kvm does not exist: load it\n")


def refuse_kvm(_: str) -> None:
    raise FileNotFoundError(2, "/dev/kvm does not exist: load it")


def both(child: subprocess.Popen[str], terminal: int) -> tuple[str, bytes]:
    """Reads what is printed and what is drawn, at once, to the end: a terminal is full soon."""
    drawn = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: the last writer has closed it
            while part := os.read(terminal, 4096):
                drawn.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
        reader.join()
        os.close(terminal)
    return out, bytes(drawn)


@pytest.mark.kvm
def test_ctrl_c_prints_what_was_measured_so_far_and_ends_with_130() -> None:
    command = [sys.executable, "-W", "error", "-m", "kvmbind", "bench", "-n", "1000000", "--repeat", "100000", "--json",
               "--mechanism", "bound"]  # fmt: skip
    terminal, end = os.openpty()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, text=True, env=TERMINAL)
    os.close(end)
    drawn = b""
    while b"bound " not in drawn:  # the bar names whose turn has ended
        drawn += os.read(terminal, 4096)
    child.send_signal(signal.SIGINT)
    out, rest = both(child, terminal)
    assert child.returncode == 130
    assert b"Traceback" not in drawn + rest
    made = json.loads(out)
    assert not made["complete"]
    assert made["results"][0]["summary"]["p50_ns"] > 0


@pytest.mark.kvm
def test_on_a_terminal_a_bar_is_drawn_on_stderr_and_the_result_alone_on_stdout() -> None:
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "kvmbind", "bench", *TWO, "--json"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, text=True, env=TERMINAL)
    os.close(end)
    out, drawn = both(child, terminal)
    assert child.returncode == 0
    assert b"bound" in drawn
    assert json.loads(out)["complete"]


@pytest.mark.kvm
@pytest.mark.parametrize("name", ["exits", "create", "bind"])
def test_the_other_benchmarks_print_and_save_reports_of_the_same_form(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmbind.bench.binding.SIZES", (1, 3))
    path = tmp_path / "a.json"
    ended = bench(capsys, name, "-n", "2", "--repeat", "2", "--save", str(path))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"{name}, in us: ")
    assert document.load(path).bench == name


@pytest.mark.parametrize("arguments", [("-n", "1"), ("--repeat", "0")])
def test_another_benchmark_with_too_few_of_each_is_one_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    ended = bench(capsys, "exits", *arguments)
    assert (ended.status, ended.out) == (1, "")
    assert "each repeat needs one at least\n" in ended.err


@pytest.fixture
def saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = str(tmp_path / "a.json")
    assert bench(capsys, *TWO, "--save", path).status == 0
    return path


@pytest.mark.kvm
def test_a_report_compared_with_itself_has_changed_nothing(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended = bench(capsys, "compare", saved, saved)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.count("within noise") == 6


@pytest.mark.kvm
def test_a_slower_report_ends_with_1_for_ci(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    from kvmbind.bench.distribution import Distribution

    before = document.load(saved)

    def slower(result):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        turns = tuple(
            turn._replace(times={name: Distribution(10_000 * ns for ns in times.samples_ns)
                                 for name, times in turn.times.items()})
            for turn in result.turns
        )  # fmt: skip
        return replace(result, turns=turns)

    path = tmp_path / "b.json"
    replace(before, results=tuple(map(slower, before.results))).save(path)
    ended = bench(capsys, "compare", saved, str(path), "--json")
    assert ended.status == 1
    assert "slower" in {change["verdict"] for change in json.loads(ended.out)["changes"]}


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_file_that_is_no_report_is_one_line(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    ended = bench(capsys, "compare", str(path), str(path))
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"kvmbind bench: {path}")
    assert ended.err.count("\n") == 1
