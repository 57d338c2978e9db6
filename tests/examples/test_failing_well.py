"""What an example says when KVM cannot be had, or does not do what it should: one sentence, and exit status 1."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import kvmbind
from kvmbind.kvm.capabilities import REQUIRED, Capability

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
DEMO = str(ROOT / "examples/bind_interrupt.py")
NOBODY = 65534
KVM_CAP_IRQFD = 32

each_example = pytest.mark.parametrize("name", EXAMPLES)


def complaint(name: str, *misfortune: str) -> str:
    """Runs an example to its failure and returns its one line on stderr."""
    command = [sys.executable, "-W", "error", str(HERE / "unlucky.py"), f"examples/{name}", *misfortune]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1
    return done.stderr[:-1]


@each_example
def test_without_a_device_the_sentence_says_how_to_get_one(name: str, tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    assert complaint(name, "--device", str(device)) == (
        f"{device} does not exist: load kvm_intel or kvm_amd (sudo modprobe), switch virtualization on in the firmware "
        f"or in the outer hypervisor, or give a container --device {device}; kvmbind doctor tells which"
    )


@each_example
def test_without_permission_the_sentence_names_the_group_to_join(name: str, tmp_path: Path) -> None:
    """Root's child becomes nobody, and meets the real device where others may not open that."""
    device = Path("/dev/kvm")
    becomes_nobody = os.geteuid() == 0
    if not becomes_nobody or not device.exists() or device.stat().st_mode & 0o006:
        device = tmp_path / "kvm"
        device.touch(mode=0)
    user = ["--user", str(NOBODY)] if becomes_nobody else []
    assert complaint(name, "--device", str(device), *user) == (
        f"{device} may not be opened: join its group (sudo usermod -aG kvm $USER, then log in again); "
        "kvmbind doctor tells if it is something else"
    )


@each_example
def test_a_device_that_is_not_kvm_is_called_so(name: str) -> None:
    assert complaint(name, "--device", "/dev/null") == (
        "/dev/null is no KVM device: name the one that is, usually /dev/kvm"
    )


@pytest.mark.kvm
@each_example
def test_without_irqfd_the_sentence_says_what_is_lacking_and_what_to_use(name: str) -> None:
    assert complaint(name, "--without", str(KVM_CAP_IRQFD)) == (
        "/dev/kvm lacks KVM_CAP_IRQFD, needed to bind interrupts to VCPUs: "
        "use an x86-64 host with Linux 4.18 or newer and its own KVM"
    )


@pytest.mark.kvm
@pytest.mark.parametrize("missing", REQUIRED, ids=lambda missing: missing.name)
def test_whichever_needed_capability_is_lacking_is_named(missing: Capability) -> None:
    sentence = complaint("bind_interrupt.py", "--without", str(missing.number))
    assert f"lacks {missing.name}, needed {missing.purpose}: " in sentence


def demo_in_this_process(monkeypatch: pytest.MonkeyPatch) -> str | int | None:
    """Runs the demo's script and returns what it gave to sys.exit: a sentence is printed and is status 1."""
    monkeypatch.setattr(sys, "argv", [DEMO, "-n", "10"])
    with pytest.raises(SystemExit) as ending:
        runpy.run_path(DEMO, run_name="__main__")
    return ending.value.code


@pytest.mark.kvm
def test_the_demo_fails_when_the_guest_has_counted_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_more(guest: kvmbind.Guest, addr: int) -> int:
        return read_u32(guest, addr) + 1

    read_u32 = kvmbind.Guest.read_u32
    monkeypatch.setattr(kvmbind.Guest, "read_u32", one_more)
    assert demo_in_this_process(monkeypatch) == "the guest counted 11 interrupts of 10"


@pytest.mark.kvm
@pytest.mark.parametrize("counter", ["returns", "interrupted"])
def test_the_demo_fails_when_kvm_run_has_returned(monkeypatch: pytest.MonkeyPatch, counter: str) -> None:
    values = iter((5, 8))
    monkeypatch.setattr(kvmbind.Vcpu, counter, property(lambda vcpu: next(values)))
    assert demo_in_this_process(monkeypatch) == "KVM_RUN returned to user space 3 times"


@pytest.mark.kvm
def test_the_demo_fails_with_the_status_of_a_refused_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvmbind import zx

    monkeypatch.setattr(zx, "zx_interrupt_bind_vcpu", lambda interrupt, vcpu, options: zx.Status.NO_RESOURCES)
    assert demo_in_this_process(monkeypatch) == "zx_interrupt_bind_vcpu: NO_RESOURCES"


@pytest.mark.kvm
def test_the_demo_says_why_a_guest_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait_briefly(guest: kvmbind.Guest, addr: int, at_least: int, timeout_s: float | None = None) -> None:
        wait_u32(guest, addr, at_least, 0.1)

    wait_u32 = kvmbind.Guest.wait_u32
    monkeypatch.setattr(kvmbind.Guest, "wait_u32", wait_briefly)
    monkeypatch.setattr(kvmbind.guests, "COUNTER", bytes.fromhex("e680f4"))  # OUT 80h, AL; HLT
    sentence = str(demo_in_this_process(monkeypatch))
    assert sentence.startswith("Guest.wait_u32: TIMED_OUT (-21): the dword at 0x7000 is 0 after 0.1 s, not yet 1; ")
    assert "write of 1 byte (00) to I/O port 0x80" in sentence
