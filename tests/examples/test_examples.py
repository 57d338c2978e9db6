"""Each example, run as a user runs it: from the top of the checkout, by its path."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvmbind

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
TIMEOUT_S = 100  # less than a test's own, so that nothing is left running


def command(name: str, *args: str) -> list[str]:
    """Every warning would come to stderr: an object that is not closed, for one."""
    return [sys.executable, "-W", "error", f"examples/{name}", *args]


def run(name: str, *args: str) -> str:
    """Returns what a good run printed."""
    done = subprocess.run(command(name, *args), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (done.stderr, done.returncode) == ("", 0)
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    return done.stdout


def figures(output: str) -> dict[str, str]:
    """Returns the report's lines: what stands two spaces from the margin, and the number behind it."""
    return dict(re.findall(r"^  (\S.*?)  +([\d.,]+)", output, re.MULTILINE))


def number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.kvm
def test_the_demo_has_each_of_10_000_triggers_counted_and_kvm_run_does_not_return() -> None:
    report = figures(run("bind_interrupt.py"))
    assert report["triggers"] == "10,000"
    assert report["counted by the guest"] == "10,000"
    assert report["returns of KVM_RUN"] == "0"


@pytest.mark.kvm
def test_the_demo_names_the_kvm_and_the_kernel() -> None:
    first = run("bind_interrupt.py", "-n", "1").splitlines()[0]
    assert first.startswith(("kvm_", "kvm on"))
    assert f" on Linux {os.uname().release}: " in first


@pytest.mark.kvm
def test_the_demo_says_how_kvm_did_it_where_kvm_tells() -> None:
    output = run("bind_interrupt.py", "-n", "100")
    with kvmbind.Guest.create() as guest, kvmbind.Vcpu.create(guest) as vcpu:
        try:
            vcpu.stats()
        except kvmbind.NotSupportedError:
            assert "since Linux 5.14" in output
        else:
            assert {"irq_injections", "exits", "halt_wakeup"} <= figures(output).keys()


@pytest.mark.kvm
def test_the_demo_does_without_statistics_before_linux_5_14(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(vcpu: kvmbind.Vcpu) -> kvmbind.VcpuStats:
        raise kvmbind.NotSupportedError("KVM_GET_STATS_FD")

    monkeypatch.setattr(kvmbind.Vcpu, "stats", refuse)
    monkeypatch.setattr(sys, "argv", ["bind_interrupt.py", "-n", "10"])
    assert runpy.run_path(str(ROOT / "examples/bind_interrupt.py"))["main"]() == 0
    output = capsys.readouterr().out
    assert figures(output)["counted by the guest"] == "10"
    assert "vCPUs have them since Linux 5.14" in output


@pytest.mark.kvm
def test_the_demo_orders_its_percentiles() -> None:
    report = figures(run("bind_interrupt.py", "-n", "200"))
    times = [number(report[name]) for name in ("p50", "p90", "p99", "max")]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("injections", "sentence"),
    [
        (0, "posted by hardware (APICv, AVIC)"),
        (40, "posted by hardware (APICv, AVIC), but for these"),
        (100, "injected by software"),
        (103, "injected by software; 3 had to be repeated"),
    ],
)
def test_the_demo_says_what_irq_injections_means_for_100_interrupts(injections: int, sentence: str) -> None:
    assert runpy.run_path(str(ROOT / "examples/bind_interrupt.py"))["injected_by"](injections, 100) == sentence


def test_the_demo_refuses_to_trigger_less_than_once() -> None:
    done = subprocess.run(command("bind_interrupt.py", "-n", "0"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("error: -n must be at least 1\n")


@pytest.mark.kvm
def test_each_of_four_vcpus_counts_each_write_to_one_eventfd() -> None:
    rows = re.findall(r"^ +(\w+) +([\d,]+) +([\d,]+)$", run("distribute.py"), re.MULTILINE)
    assert rows == [*((str(vcpu), "1,000", "0") for vcpu in range(4)), ("all", "4,000", "0")]


@pytest.mark.kvm
def test_a_process_that_was_sent_the_eventfd_fires_the_guest() -> None:
    output = run("other_process.py")
    guest, other = re.findall(r"process (\d+)", output.splitlines()[0])
    assert guest != other
    assert figures(output) == {
        f"written by process {other}": "1,000",
        "counted by the guest": "1,000",
        "returns of KVM_RUN": "0",
    }


@pytest.mark.kvm
def test_a_vcpu_of_a_second_guest_is_refused_and_the_first_guest_counts_on() -> None:
    output = run("two_guests.py")
    assert "\n  first   OK\n  second  INVALID_ARGS (-10): it is bound to a VCPU of another guest\n" in output
    rows = re.findall(r"^  (first|second) +([\d,]+) +([\d,]+)$", output, re.MULTILINE)
    assert rows == [("first", "1,000", "0"), ("second", "0", "0")]


@pytest.mark.kvm
def test_two_guests_play_ping_pong_and_neither_vcpu_leaves_kvm_run() -> None:
    rows = re.findall(r"^  (left|right) +([\d,]+) +([\d,]+)$", run("doorbell.py", "-n", "2000"), re.MULTILINE)
    assert rows == [("left", "2,001", "0"), ("right", "2,000", "0")]


@pytest.mark.parametrize("rounds", ["0", "-1", "4294967296"])
def test_the_ping_pong_refuses_a_number_of_rounds_that_is_no_dword(rounds: str) -> None:
    done = subprocess.run(command("doorbell.py", "-n", rounds), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("error: -n must be 1 to 4294967295\n")


@pytest.mark.kvm
@pytest.mark.parametrize("name", EXAMPLES)
def test_ctrl_c_ends_an_example_with_status_130_and_no_traceback(name: str) -> None:
    with subprocess.Popen(
        command(name, "-n", "1000000000"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C goes to all of a process group
    ) as example:
        assert example.stdout is not None
        assert example.stdout.readline()
        os.killpg(example.pid, signal.SIGINT)
        try:
            _, errors = example.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(example.pid, signal.SIGKILL)
            raise
    assert (errors, example.returncode) == ("", 130)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_tells_what_it_shows(name: str) -> None:
    doc = (ROOT / "examples" / name).read_text(encoding="utf-8").split('"""')[1]
    assert doc.splitlines()[0] in run(name, "--help")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_needs_nothing_but_kvmbind_and_the_standard_library(name: str) -> None:
    source = (ROOT / "examples" / name).read_text(encoding="utf-8")
    imported = re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)
    assert set(imported) - {"kvmbind"} <= sys.stdlib_module_names
