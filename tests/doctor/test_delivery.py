"""The proof that guests run: on real KVM, and what is said where they do not."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kvmbind
from kvmbind.doctor import Level, Place, delivery

WITHOUT_SHIM = """
import sys
sys.modules["kvmbind._shim"] = None
from kvmbind.doctor import Place, delivery
(finding,) = delivery.examine(-1, "/dev/kvm", Place("6.1", family="debian"))
print(finding.level, finding.fault, finding.remedy[1])
"""


@pytest.mark.kvm
def test_a_guest_counts_what_reaches_it_without_an_exit(debian: Place) -> None:
    (finding,) = delivery.examine(-1, "/dev/kvm", debian)
    assert finding.level is Level.OK, finding
    assert (finding.facts["counted"], finding.facts["returns"]) == (100, 0)


@pytest.mark.kvm
def test_a_guest_that_misses_interrupts_is_a_fault(monkeypatch: pytest.MonkeyPatch, debian: Place) -> None:
    monkeypatch.setattr(delivery, "_DEADLINE_S", 0.2)
    monkeypatch.setattr(kvmbind.Interrupt, "trigger", lambda irq: None)
    monkeypatch.setattr(kvmbind.guests, "COUNTER", bytes.fromhex("c606007001f4"))  # MOV BYTE [7000h], 1; HLT
    (finding,) = delivery.examine(-1, "/dev/kvm", debian)
    assert (finding.level, finding.fault, finding.facts["counted"]) == (Level.FAULT, "interrupts", 0)


@pytest.mark.kvm
def test_a_guest_that_does_not_run_is_a_fault_with_the_reason(monkeypatch: pytest.MonkeyPatch, debian: Place) -> None:
    monkeypatch.setattr(kvmbind.guests, "COUNTER", bytes.fromhex("e680f4"))  # OUT 80h, AL; HLT
    monkeypatch.setattr(delivery, "_DEADLINE_S", 0.2)
    (finding,) = delivery.examine(-1, "/dev/kvm", debian)
    assert (finding.level, finding.fault) == (Level.FAULT, "guest")
    assert "TIMED_OUT" in finding.summary


def test_a_device_that_is_none_is_a_fault_with_the_reason(debian: Place) -> None:
    (finding,) = delivery.examine(-1, "/dev/kvm-of-nowhere", debian)
    assert (finding.fault, finding.level) == ("guest", Level.FAULT)
    assert "/dev/kvm-of-nowhere does not exist" in finding.summary


def test_a_broken_build_is_a_fault_with_the_command_that_builds_it_again() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_SHIM], capture_output=True, text=True, check=True)
    command = f"$ {sys.executable} -m pip install --force-reinstall --no-deps kvmbind"
    assert done.stdout == f"fault shim {command}\n"
