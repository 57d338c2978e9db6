"""/dev/kvm: what keeps a device from serving is said in one sentence, with the remedy."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvmbind.kvm import system as system_module
from kvmbind.kvm.capabilities import REQUIRED, Capability
from kvmbind.kvm.system import IRQ_ROUTING, NR_MEMSLOTS, NR_VCPUS_MAX, System


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


class Refusing:
    """A shim whose kb_system_open fails."""

    def __init__(self, error: int) -> None:
        self._error = error

    def kb_system_open(self, fd: object, path: bytes) -> int:
        return -self._error


def test_no_device_is_an_error_that_names_the_module_to_load(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing does not exist: load kvm_intel or kvm_amd") as caught:
        System(str(tmp_path / "nothing"))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("device", ["/dev/null", __file__])
def test_what_is_no_kvm_device_is_told_so(device: str) -> None:
    before = open_fds()
    with pytest.raises(OSError, match=r"is no KVM device: name the one that is, usually /dev/kvm") as caught:
        System(device)
    assert caught.value.errno == errno.ENOTTY
    assert device in str(caught.value)
    assert open_fds() == before


def test_a_directory_cannot_be_opened_and_the_kernels_reason_is_given(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"cannot be opened: Is a directory"):
        System(str(tmp_path))


NOBODY = """
import os, sys
from kvmbind.kvm.system import System
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    System(sys.argv[1])
except PermissionError as error:
    print(error)
"""


def test_no_permission_is_an_error_that_names_the_group_to_join(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch(mode=0)
    done = subprocess.run([sys.executable, "-c", NOBODY, str(device)], capture_output=True, text=True, check=True)
    assert f"{device} may not be opened: join its group (sudo usermod -aG kvm $USER" in done.stdout


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (errno.ENODEV, "load kvm_intel or kvm_amd"),
        (errno.ENXIO, "load kvm_intel or kvm_amd"),
        (errno.EPERM, "may not be opened in this container: start it with --device /dev/somewhere"),
        (errno.EPROTO, "does not speak version 12 of KVM's API: use Linux's own KVM"),
        (errno.EMFILE, f"cannot be opened: {os.strerror(errno.EMFILE)}: close files, or raise the limit (ulimit -n"),
        (errno.EIO, f"cannot be opened: {os.strerror(errno.EIO)}: kvmbind doctor looks into it"),
    ],
    ids=errno.errorcode.get,
)
def test_every_failure_to_open_has_its_remedy(monkeypatch: pytest.MonkeyPatch, error: int, remedy: str) -> None:
    monkeypatch.setattr(system_module, "lib", Refusing(error))
    with pytest.raises(OSError, match="/dev/somewhere") as caught:
        System("/dev/somewhere")
    assert caught.value.errno == error
    assert remedy in str(caught.value)


@pytest.mark.kvm
@pytest.mark.parametrize("missing", REQUIRED, ids=lambda missing: missing.name)
def test_a_missing_capability_is_named_with_its_use_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, missing: Capability
) -> None:
    real = System.capability
    monkeypatch.setattr(System, "capability", lambda self, asked: 0 if asked == missing.number else real(self, asked))
    before = open_fds()
    sentence = f"/dev/kvm lacks {missing.name}, needed {missing.purpose}: use an x86-64 host"
    with pytest.raises(OSError, match=sentence) as caught:
        System()
    assert caught.value.errno == errno.EOPNOTSUPP
    assert open_fds() == before


@pytest.mark.kvm
def test_the_device_says_what_it_can_do(system: System) -> None:
    assert system.capability(NR_VCPUS_MAX) >= 16
    assert system.capability(NR_MEMSLOTS) >= 32
    assert system.capability(IRQ_ROUTING) >= 1024
    assert system.run_size >= 4096
    assert 36 <= system.address_bits <= 52
    assert os.get_inheritable(system.fd) is False


@pytest.mark.kvm
def test_closing_the_device_closes_its_fd() -> None:
    before = open_fds()
    System().close()
    assert open_fds() == before
