"""`kvmbind doctor`, as its users see it: in children with the real device, without permission, and without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmbind.doctor.remedies import REMEDIES

NOBODY = 65534

# The interpreter may lie where only root may look: what the child needs is loaded before it becomes another user.
CHILD = """
import os, sys
import kvmbind.cli.doctor, kvmbind.doctor, json, pwd, grp
kvmbind.__version__
user, *arguments = sys.argv[1:]
if os.geteuid() == 0 and int(user):
    os.setgroups([])
    os.setresgid(int(user), int(user), int(user))
    os.setresuid(int(user), int(user), int(user))
from kvmbind.cli import main
sys.exit(main(["doctor", *arguments]))
"""


def doctor(*arguments: str, user: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", CHILD, str(user), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def forbidden_device() -> Iterator[str]:
    """A device that another user may not open: this machine's, if only root may, else a file."""
    device = Path("/dev/kvm")
    if os.geteuid() == 0 and device.exists() and not device.stat().st_mode & 0o006:
        yield str(device)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "kvm"
        path.touch(mode=0)
        yield str(path)


@pytest.mark.kvm
def test_where_guests_run_it_proves_it_and_ends_with_0() -> None:
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("kvmbind ")
    assert "100 of 100 counted by a guest, 0 returns from KVM_RUN" in done.stdout
    assert "\nGuests run here." in done.stdout
    assert "KVM_CAP_IRQFD, to bind interrupts to VCPUs" in done.stdout


def test_without_permission_it_says_who_may_and_what_to_do(forbidden_device: str) -> None:
    done = doctor("--device", forbidden_device, user=NOBODY)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"FAULT    device        {forbidden_device} may not be opened by " in done.stdout
    assert "its mode is 0" in done.stdout
    assert "skipped  interrupts" in done.stdout
    assert "\nGuests do not run here: owner-only." in done.stdout or "here: group." in done.stdout


def test_without_a_device_it_says_why_and_what_to_do(tmp_path: Path) -> None:
    done = doctor("--device", str(tmp_path / "kvm"))
    assert (done.returncode, done.stderr) == (1, "")
    assert f"FAULT    device        {tmp_path / 'kvm'} does not exist: " in done.stdout
    assert "\nGuests do not run here: no-" in done.stdout or "here: not-passed-in" in done.stdout


@pytest.mark.kvm
def test_json_is_one_document_with_every_finding() -> None:
    done = doctor("--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["guests_run"] is True
    assert report["place"]["kernel"] == os.uname().release
    interrupts = report["findings"][-1]
    assert (interrupts["topic"], interrupts["level"]) == ("interrupts", "ok")
    assert interrupts["facts"]["counted"] == 100
    assert {"topic", "level", "summary", "fault", "remedy", "facts"} == set(interrupts)


def test_json_of_a_fault_has_its_name_and_remedy_and_ends_with_1(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    done = doctor("--json", "--device", str(device))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["guests_run"] is False
    (fault,) = [finding for finding in report["findings"] if finding["level"] == "fault"]
    assert fault["fault"] in REMEDIES
    assert "$ kvmbind doctor --device /dev/kvm" in fault["remedy"]


@pytest.mark.kvm
def test_it_leaves_no_descriptor_open() -> None:
    from kvmbind import settle
    from kvmbind.cli import main

    before = os.listdir("/proc/self/fd")
    assert main(["doctor", "--json"]) == 0
    settle()
    assert os.listdir("/proc/self/fd") == before
