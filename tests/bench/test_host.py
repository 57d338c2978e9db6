"""The facts of a machine that decide what a time means, and how quiet it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.bench.host import Noise, read_host, read_noise
from kvmbind.doctor.place import Files

if TYPE_CHECKING:
    from pathlib import Path

CPUINFO = "processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\nmodel name\t: Another\n"


def machine(root: Path, *, flags: str = "", **parameters: str) -> Files:
    """A machine with these files below /sys/module; "kvm_amd__avic" is kvm_amd/parameters/avic."""
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(CPUINFO.format(flags=flags))
    for name, value in parameters.items():
        module, _, parameter = name.partition("__")
        path = root / "sys/module" / module / "parameters"
        path.mkdir(parents=True, exist_ok=True)
        (path / parameter).write_text(f"{value}\n")
    return Files(str(root))


def test_hardware_that_posts_interrupts_is_known_by_the_modules_parameter(tmp_path: Path) -> None:
    host = read_host(machine(tmp_path, flags="svm", kvm_amd__avic="Y", kvm__halt_poll_ns="200000"))
    assert (host.cpu, host.kvm_module, host.posted_interrupts, host.halt_poll_ns) == (
        "A Processor", "kvm_amd", True, 200_000,
    )  # fmt: skip
    assert (host.in_software, host.nested) == (False, False)


def test_hardware_that_posts_none_is_known_too(tmp_path: Path) -> None:
    assert read_host(machine(tmp_path, flags="vmx hypervisor", kvm_intel__enable_apicv="N")).posted_interrupts is False


def test_a_kvm_without_vmx_and_svm_is_one_in_software(tmp_path: Path) -> None:
    host = read_host(machine(tmp_path, flags="hypervisor", kvm_other__parameter="1"))
    assert (host.kvm_module, host.in_software, host.nested) == ("kvm_other", True, True)


def test_what_the_machine_does_not_tell_is_none(tmp_path: Path) -> None:
    host = read_host(machine(tmp_path))
    assert (host.posted_interrupts, host.halt_poll_ns, host.governor) == (None, None, None)


def test_noise_is_what_has_come_since_a_snapshot_and_the_load_is_that_before() -> None:
    before = Noise(steal_ticks=10, all_ticks=1000, involuntary_switches=5, load=1.5)
    after = Noise(steal_ticks=20, all_ticks=1200, involuntary_switches=8, load=4.0)
    noise = after.since(before)
    assert noise == Noise(10, 200, 3, 1.5)
    assert noise.steal == pytest.approx(0.05)


def test_in_no_time_nothing_is_stolen() -> None:
    assert Noise(0, 0, 0, 0.0).steal == 0


def test_this_machine_has_run_for_some_ticks() -> None:
    assert read_noise().all_ticks > 0
