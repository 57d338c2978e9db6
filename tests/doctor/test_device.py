"""Why a device does not open, and what to do about it, by what its file and the machine look like."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kvmbind.doctor import Level, Place, device
from kvmbind.doctor.device import Node

if TYPE_CHECKING:
    from tests.doctor.conftest import MakeFiles

NODE = Node("/dev/kvm", 0o660, 0, 104, "kvm", (), "ann", (1000, 27))
UDEV_RULE = 'KERNEL=="kvm", GROUP="kvm", MODE="{}"'


def refused(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/dev/kvm")


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        (NODE, "group"),
        (NODE._replace(members=("bob", "ann")), "login-again"),
        (NODE._replace(groups=(1000, 104)), "security-module"),
        (NODE._replace(mode=0o666), "security-module"),
        (NODE._replace(mode=0o600), "owner-only"),
        (NODE._replace(gid=0, group="root"), "owner-only"),
    ],
)
def test_a_denied_device_is_explained_by_its_files_mode_and_the_users_groups(
    make_files: MakeFiles, debian: Place, node: Node, fault: str
) -> None:
    finding = device.refusal(refused(errno.EACCES), node, debian, make_files())
    assert (finding.topic, finding.level, finding.fault) == ("device", Level.FAULT, fault)
    assert finding.summary.startswith("/dev/kvm may not be opened by ann: its mode is 0")
    assert finding.facts["group"] == node.group


@pytest.mark.parametrize(
    ("facts", "modules", "fault", "remedy"),
    [
        ({}, [], "no-module", "$ sudo modprobe kvm_intel"),
        ({}, ["kvm_intel"], "no-node", "$ sudo mknod -m 660 /dev/kvm c 10 232"),
        ({"container": "docker"}, ["kvm_intel"], "not-passed-in", "$ docker run --device /dev/kvm ..."),
        ({"container": "podman"}, ["kvm_intel"], "not-passed-in", "--group-add keep-groups"),
        ({"container": "other"}, ["kvm_intel"], "not-passed-in", "Let whoever starts this container give it"),
        ({"ci": "gitlab", "container": "docker"}, ["kvm_intel"], "not-passed-in", 'devices = ["/dev/kvm"]'),
        ({"ci": "github", "container": "docker"}, ["kvm_intel"], "not-passed-in", "options: --device /dev/kvm}"),
        ({"virtualization": False}, [], "no-virtualization", "VT-x"),
        ({"virtualization": False, "hypervisor": True}, [], "no-nesting", "--nested-hw-virt on"),
        ({"virtualization": False, "hypervisor": True, "wsl": True}, [], "no-nesting", "nestedVirtualization=true"),
        ({"virtualization": False, "hypervisor": True, "ci": "github"}, [], "no-nesting", "runs-on: ubuntu-24.04"),
        ({"virtualization": False, "hypervisor": True, "ci": "gitlab"}, [], "no-nesting", "Register it|own runners"),
    ],
)
def test_a_missing_device_is_explained_by_the_module_the_cpu_and_the_place(
    make_files: MakeFiles, debian: Place, facts: dict[str, Any], modules: list[str], fault: str, remedy: str
) -> None:
    files = make_files(**{f"sys__module__{name}__refcnt": "0" for name in modules})
    finding = device.refusal(refused(errno.ENOENT), None, debian._replace(**facts), files)
    assert finding.fault == fault
    assert any(part in line for line in finding.remedy for part in remedy.split("|")), finding.remedy
    assert finding.summary.startswith("/dev/kvm does not exist: ")


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENXIO])
def test_a_device_without_its_driver_is_as_one_that_is_missing(
    make_files: MakeFiles, debian: Place, number: int
) -> None:
    finding = device.refusal(refused(number), NODE, debian, make_files())
    assert (finding.fault, finding.summary) == ("no-module", "/dev/kvm has no driver: no module of KVM is loaded")


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.EPERM, "device-rule"),
        (errno.EMFILE, "no-fds"),
        (errno.ENFILE, "no-fds"),
        (errno.EACCES, "security-module"),
        (errno.EIO, "device-error"),
    ],
)
def test_what_else_keeps_it_from_opening_has_its_fault(
    make_files: MakeFiles, debian: Place, number: int, fault: str
) -> None:
    finding = device.refusal(refused(number), None, debian, make_files())
    assert finding.fault == fault
    assert finding.summary.endswith(f"({errno.errorcode[number]})")
    assert finding.remedy


def test_a_forbidden_device_in_a_systemd_unit_is_allowed_there(make_files: MakeFiles, debian: Place) -> None:
    finding = device.refusal(refused(errno.EPERM), NODE, debian, make_files())
    assert "    DeviceAllow=/dev/kvm rw" in finding.remedy


@pytest.mark.parametrize(
    ("facts", "mode", "step"),
    [
        ({}, 0o600, "$ sudo apt-get install udev"),
        ({"family": "fedora"}, 0o600, "$ sudo dnf install systemd-udev"),
        ({"family": "other"}, 0o600, UDEV_RULE.format("0660")),
        ({"ci": "github"}, 0o660, UDEV_RULE.format("0666")),
        ({"wsl": True}, 0o660, "    command = /bin/sh -c 'chgrp kvm /dev/kvm && chmod 660 /dev/kvm'"),
        ({"container": "docker"}, 0o660, "$ docker run --device /dev/kvm --group-add 104 ..."),
        ({"ci": "gitlab"}, 0o660, '    group_add = ["104"]'),
        ({}, 0o660, "$ sudo usermod -aG kvm $USER"),
    ],
)
def test_each_place_has_its_own_way_to_give_permission(
    make_files: MakeFiles, debian: Place, facts: dict[str, Any], mode: int, step: str
) -> None:
    node = NODE._replace(mode=mode)
    finding = device.refusal(refused(errno.EACCES), node, debian._replace(**facts), make_files())
    assert any(step in line for line in finding.remedy), finding.remedy


def test_a_file_is_looked_at_with_its_group_and_the_asking_user(tmp_path: Path) -> None:
    path = tmp_path / "kvm"
    path.touch(mode=0o640)
    node = Node.look(str(path))
    assert node is not None
    assert (node.mode, node.gid) == (0o640, path.stat().st_gid)
    assert os.getegid() in node.groups
    assert Node.look(str(tmp_path / "none")) is None


def test_a_user_and_a_group_without_a_name_are_called_by_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    import grp
    import pwd

    monkeypatch.setattr(grp, "getgrgid", unknown)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    node = Node.look(str(tmp_path))
    assert node is not None
    assert (node.group, node.user) == (str(tmp_path.stat().st_gid), f"uid {os.geteuid()}")


def test_a_file_that_is_no_device_is_not_kvm(tmp_path: Path, debian: Place) -> None:
    path = tmp_path / "kvm"
    path.touch()
    with device.opened(str(path)) as (fd, os_error):
        assert os_error is None
        (finding,) = device.examine(fd, str(path), debian)
    assert (finding.fault, finding.level) == ("not-kvm", Level.FAULT)


def test_what_was_opened_is_closed(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with device.opened(os.devnull), device.opened(str(tmp_path / "none")) as (fd, os_error):
        assert (fd, type(os_error)) == (-1, FileNotFoundError)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.kvm
def test_the_device_of_this_machine_makes_a_virtual_machine(debian: Place) -> None:
    with device.opened("/dev/kvm") as (fd, os_error):
        assert os_error is None
        findings = list(device.examine(fd, "/dev/kvm", debian))
    assert [(finding.topic, finding.level) for finding in findings] == [("api", Level.OK), ("vm", Level.OK)]
