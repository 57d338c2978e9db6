"""What a local APIC holds back until the guest ends an interrupt, and what it keeps pending."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import guests

if TYPE_CHECKING:
    from tests.conftest import Boot, MakeInterrupt, Running

pytestmark = pytest.mark.kvm

GATE = 0x7100
ROUTINE = 0x5000
ROUTINE_COUNT = 0x8100
# lock incl ROUTINE_COUNT; iret: it does not end its interrupt
ROUTINE_CODE = b"\xf0\x66\xff\x06" + ROUTINE_COUNT.to_bytes(2, "little") + b"\xcf"


def install(running: Running, vector: int) -> None:
    """Gives a guest a routine for one more vector."""
    running.guest.write(ROUTINE_CODE, ROUTINE)
    running.guest.write(ROUTINE.to_bytes(2, "little") + b"\0\0", 4 * vector)


def test_a_handler_that_ends_its_interrupt_takes_all(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    running.answer(irq.trigger, 100)
    assert running.count() == 100


@pytest.mark.faithful_apic
def test_a_handler_that_does_not_end_its_interrupt_takes_exactly_one(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.FORGETFUL), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    running.answer(irq.trigger)
    for taken, vector in enumerate((0x50, 0x60, 0x70, 0x80), start=1):
        install(running, vector)
        higher = make_interrupt(vector)
        higher.bind_vcpu(running.vcpu)
        irq.trigger()
        higher.trigger()  # a higher class gets in, so the guest lives and could have taken the other
        running.guest.wait_u32(ROUTINE_COUNT, taken, timeout_s=60)
    assert running.count() == 1


@pytest.mark.faithful_apic
def test_an_interrupt_in_service_holds_back_lower_vectors_and_not_higher_ones(
    boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    running, irq = boot(guests.FORGETFUL), make_interrupt()
    lower, same_class, higher = make_interrupt(0x30), make_interrupt(0x4F), make_interrupt(0x50)
    for interrupt in (irq, lower, same_class, higher):
        interrupt.bind_vcpu(running.vcpu)
    for vector in (0x30, 0x4F, 0x50):
        install(running, vector)
    running.answer(irq.trigger)
    lower.trigger()
    same_class.trigger()
    higher.trigger()
    running.guest.wait_u32(ROUTINE_COUNT, 1, timeout_s=60)
    for taken, vector in enumerate((0x60, 0x70, 0x80), start=2):
        install(running, vector)
        running.vcpu.interrupt(vector)
        running.guest.wait_u32(ROUTINE_COUNT, taken, timeout_s=60)
    assert running.guest.read_u32(ROUTINE_COUNT) == 4  # 50h, 60h, 70h, 80h: neither 30h nor 4Fh


def test_a_vector_that_is_pending_stays_pending_after_destroy(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq, other = boot(guests.MASKED), make_interrupt(), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    irq.trigger()
    irq.destroy()
    assert running.count() == 0
    running.guest.write(b"\1\0\0\0", GATE)
    running.wait(1)
    other.bind_vcpu(running.vcpu)
    running.answer(other.trigger)
    assert running.count() == 2
