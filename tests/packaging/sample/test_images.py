"""What a project does that has only installed kvmbind: no file of its source is on any path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kvmbind

if TYPE_CHECKING:
    from kvmbind.pytest_plugin import StartMachine

IMAGES = Path(__file__).parent / "images"


def test_hello_says_it_and_halts(kvm_machine: StartMachine) -> None:
    machine = kvm_machine(IMAGES / "hello.bin")
    machine.expect("Hello from real mode", timeout_s=60)
    assert machine.wait(timeout_s=60).reason == "halted"


def test_counter_counts_each_interrupt(kvm_machine: StartMachine) -> None:
    machine = kvm_machine(IMAGES / "counter.bin")
    irq = machine.interrupt(0x40)
    machine.expect("00000", timeout_s=60)
    for count in range(1, 4):
        irq.trigger()
        machine.expect(f"{count:05}", timeout_s=60)


@pytest.mark.kvm
def test_a_bound_interrupt_makes_no_exit(kvm_guest: kvmbind.Guest) -> None:
    kvm_guest.write(kvmbind.guests.COUNTER, 0x1000)
    with kvm_guest.start_vcpu(entry=0x1000) as vcpu, kvmbind.Interrupt.create(vector=0x40) as irq:
        irq.bind_vcpu(vcpu)
        irq.trigger()
        kvm_guest.wait_u32(0x8000, 1, timeout_s=60)
        assert vcpu.returns == 0
