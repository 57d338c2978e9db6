"""Level interrupts: an IOAPIC input, whose end of interrupt is the device's cue to fire again."""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest, Interrupt, Port, Vcpu
from kvmbind.guests import COUNTER, FORGETFUL, MASKED, VECTORS
from kvmbind.kvm.vm import Vm

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from tests.conftest import WaitUntil

pytestmark = pytest.mark.kvm

ENTRY, READY, GATE, COUNT = 0x1000, 0x7000, 0x7100, 0x8000
VECTOR = 0x40
INPUTS = 8
DEADLINE_S = 60


@pytest.fixture
def guest(opened: contextlib.ExitStack) -> Guest:
    """A guest with an IOAPIC and 1 MiB of memory."""
    return opened.enter_context(Guest.create(memory=1 << 20, irqchip="pc"))


@pytest.fixture
def make_level(opened: contextlib.ExitStack) -> Callable[..., Interrupt]:
    """Makes level interrupts, which end with the test."""
    return lambda vector=VECTOR, **kinds: opened.enter_context(Interrupt.create(vector, level=True, **kinds))


def boot(guest: Guest, image: bytes, *interrupts: Interrupt) -> Vcpu:
    """Starts an image on a VCPU to which interrupts are bound."""
    guest.write(image, ENTRY)
    vcpu = guest.start_vcpu(ENTRY, interrupts=interrupts)
    guest.wait_u32(READY, 1, timeout_s=DEADLINE_S)
    return vcpu


def cue(interrupt: Interrupt, timeout_s: float = DEADLINE_S) -> int:
    """Waits for an end of interrupt; returns how many there were."""
    ready, _, _ = select.select([interrupt.eoi_fileno()], [], [], timeout_s)
    return os.eventfd_read(interrupt.eoi_fileno()) if ready else 0


def test_each_fire_is_counted_and_each_end_of_interrupt_is_one_cue(
    guest: Guest, make_level: Callable[..., Interrupt]
) -> None:
    irq = make_level()
    vcpu = boot(guest, COUNTER, irq)
    for count in range(1, 101):
        irq.trigger()
        guest.wait_u32(COUNT, count, timeout_s=DEADLINE_S)
        assert cue(irq) == 1
    assert vcpu.returns == 0


def test_a_device_that_still_asserts_its_line_fires_again_at_each_cue(
    guest: Guest, make_level: Callable[..., Interrupt]
) -> None:
    irq = make_level()
    boot(guest, COUNTER, irq)
    os.eventfd_write(irq.fileno(), 1)
    for _ in range(50):
        assert cue(irq) == 1
        os.eventfd_write(irq.fileno(), 1)
    assert cue(irq) == 1
    guest.wait_u32(COUNT, 51, timeout_s=DEADLINE_S)
    assert (cue(irq, 0), guest.read_u32(COUNT)) == (0, 51)


@pytest.mark.faithful_apic
def test_a_guest_that_does_not_end_it_gives_no_cue_and_gets_no_second(
    guest: Guest, make_level: Callable[..., Interrupt]
) -> None:
    irq, higher = make_level(), make_level(0x50)
    vcpu = boot(guest, FORGETFUL, irq, higher)
    routine, routine_count = 0x5000, 0x8100
    guest.write(b"\xf0\x66\xff\x06" + routine_count.to_bytes(2, "little") + b"\xcf", routine)  # lock incl; iret
    guest.write(routine.to_bytes(2, "little") + b"\0\0", 4 * 0x50)
    irq.trigger()
    guest.wait_u32(COUNT, 1, timeout_s=DEADLINE_S)
    irq.trigger()
    higher.trigger()  # a higher class gets in, so the guest lives and could have ended or taken the other
    guest.wait_u32(routine_count, 1, timeout_s=DEADLINE_S)
    assert (cue(irq, 0), cue(higher, 0), guest.read_u32(COUNT), vcpu.returns) == (0, 0, 1, 0)


def test_fires_merge_until_the_guest_takes_one_and_each_that_it_takes_has_one_cue(
    guest: Guest, make_level: Callable[..., Interrupt], wait_until: WaitUntil
) -> None:
    irq, cues = make_level(), 0
    boot(guest, MASKED, irq)
    for _ in range(3):
        irq.trigger()
    assert (cue(irq, 0), guest.read_u32(COUNT)) == (0, 0)
    guest.write(b"\1\0\0\0", GATE)

    def as_many_as_counted() -> bool:
        nonlocal cues
        cues += cue(irq, 0)
        return 0 < cues == guest.read_u32(COUNT)

    wait_until(as_many_as_counted)
    assert cues <= 3


def test_eight_reach_the_guest_at_once_each_with_its_own_vector_and_cue(
    guest: Guest, make_level: Callable[..., Interrupt]
) -> None:
    interrupts = [make_level(0x20 + 0x10 * number) for number in range(INPUTS)]
    boot(guest, VECTORS, *interrupts)
    for count in range(1, 11):
        for irq in interrupts:
            irq.trigger()
        for irq in interrupts:
            guest.wait_u32(COUNT + 4 * irq.vector, count, timeout_s=DEADLINE_S)
            assert cue(irq) == 1


def test_the_ninth_is_refused_and_closing_one_makes_room(guest: Guest, make_level: Callable[..., Interrupt]) -> None:
    interrupts = [make_level() for _ in range(INPUTS)]
    ninth = make_level(0x50)
    guest.write(VECTORS, ENTRY)
    with Vcpu.create(guest, ENTRY) as vcpu:
        guest.bind_interrupts([(irq, vcpu) for irq in interrupts])
        with pytest.raises(kvmbind.NoResourcesError, match="inputs 16 to 23 are in use"):
            ninth.bind_vcpu(vcpu)
        interrupts[3].close()
        ninth.bind_vcpu(vcpu)
        ninth.trigger()
        while not guest.read_u32(COUNT + 4 * 0x50):
            with pytest.raises(kvmbind.TimedOutError):
                vcpu.enter(0.05)
        assert cue(ninth) == 1


def test_a_bind_of_nine_at_once_leaves_all_unbound(guest: Guest, make_level: Callable[..., Interrupt]) -> None:
    interrupts = [make_level() for _ in range(INPUTS + 1)]
    with Vcpu.create(guest) as vcpu:
        with pytest.raises(kvmbind.NoResourcesError):
            guest.bind_interrupts([(irq, vcpu) for irq in interrupts])
        for irq in interrupts[1:]:
            irq.bind_vcpu(vcpu)
        with pytest.raises(kvmbind.TimedOutError):
            interrupts[0].wait(0)


@pytest.mark.parametrize("failing", ["KVM_IRQFD", "KVM_SET_GSI_ROUTING"])
def test_a_bind_that_the_kernel_refuses_leaves_all_unbound(
    guest: Guest, make_level: Callable[..., Interrupt], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "no memory")

    level, edge = make_level(), Interrupt.create(0x50)
    with edge, Vcpu.create(guest) as vcpu:
        with monkeypatch.context() as broken:
            broken.setattr(Vm, "assign_irqfd" if failing == "KVM_IRQFD" else "set_gsi_routing", refuse)
            with pytest.raises(kvmbind.NoMemoryError):
                guest.bind_interrupts([(level, vcpu), (edge, vcpu)])
        guest.bind_interrupts([(level, vcpu), (edge, vcpu)])
        others = [make_level() for _ in range(INPUTS - 1)]
        guest.bind_interrupts([(irq, vcpu) for irq in others])


def test_a_trigger_that_came_before_the_bind_is_delivered(guest: Guest, make_level: Callable[..., Interrupt]) -> None:
    irq = make_level()
    irq.trigger()
    boot(guest, COUNTER, irq)
    guest.wait_u32(COUNT, 1, timeout_s=DEADLINE_S)
    assert cue(irq) == 1


def test_a_given_eventfd_may_be_level_triggered(guest: Guest) -> None:
    fd = os.eventfd(0)
    try:
        with Interrupt.from_eventfd(fd, vector=VECTOR, level=True) as irq:
            boot(guest, COUNTER, irq)
            os.eventfd_write(fd, 1)
            guest.wait_u32(COUNT, 1, timeout_s=DEADLINE_S)
            assert cue(irq) == 1
    finally:
        os.close(fd)


def test_binding_the_same_vcpu_again_is_nothing_and_a_second_is_not_supported(
    guest: Guest, make_level: Callable[..., Interrupt]
) -> None:
    irq, both = make_level(), make_level()
    with Vcpu.create(guest) as first, Vcpu.create(guest) as second:
        irq.bind_vcpu(first)
        irq.bind_vcpu(first)
        with pytest.raises(kvmbind.NotSupportedError, match="has one VCPU"):
            irq.bind_vcpu(second)
        with pytest.raises(kvmbind.NotSupportedError, match="has one VCPU"):
            guest.bind_interrupts([(both, first), (both, second)])
        both.bind_vcpu(second)


def test_without_an_ioapic_it_is_not_supported(kvm_guest: Guest, make_level: Callable[..., Interrupt]) -> None:
    irq = make_level()
    with Vcpu.create(kvm_guest) as vcpu, pytest.raises(kvmbind.NotSupportedError, match='irqchip="pc"'):
        irq.bind_vcpu(vcpu)


def test_once_a_vcpu_of_the_guest_has_been_entered_it_is_bad_state(
    guest: Guest, make_level: Callable[..., Interrupt]
) -> None:
    early, late = make_level(), make_level(0x50)
    with Vcpu.create(guest) as other:
        boot(guest, COUNTER, early)
        with pytest.raises(kvmbind.BadStateError, match="bind level interrupts before"):
            late.bind_vcpu(other)
    with pytest.raises(kvmbind.BadStateError, match="bind level interrupts before"):
        guest.start_vcpu(ENTRY, interrupts=[late])


def test_the_vector_is_looked_at_first(kvm_guest: Guest, make_level: Callable[..., Interrupt]) -> None:
    irq = make_level(15)
    with Vcpu.create(kvm_guest) as vcpu, pytest.raises(kvmbind.InvalidArgsError):
        irq.bind_vcpu(vcpu)


def test_after_destroy_no_write_reaches_the_guest(guest: Guest, make_level: Callable[..., Interrupt]) -> None:
    irq, other = make_level(), make_level(0x50)
    boot(guest, VECTORS, irq, other)
    irq.trigger()
    guest.wait_u32(COUNT + 4 * VECTOR, 1, timeout_s=DEADLINE_S)
    assert cue(irq) == 1
    irq.destroy()
    os.eventfd_write(irq.fileno(), 1)
    other.trigger()
    assert cue(other) == 1
    assert guest.read_u32(COUNT + 4 * VECTOR) == 1


def test_its_fds_are_closed_with_it(count_fds: Callable[[], int]) -> None:
    kvmbind.settle()
    before = count_fds()
    with Guest.create(irqchip="pc") as guest, Vcpu.create(guest) as vcpu:
        for _ in range(3):
            with Interrupt.create(VECTOR, level=True) as irq:
                irq.bind_vcpu(vcpu)
    kvmbind.settle()
    assert count_fds() == before


def test_a_bound_one_keeps_its_vcpu_and_guest_and_ends_last(count_fds: Callable[[], int]) -> None:
    kvmbind.settle()
    before = count_fds()
    with Interrupt.create(VECTOR, level=True) as irq:
        with Guest.create(irqchip="pc") as guest, Vcpu.create(guest) as vcpu:
            irq.bind_vcpu(vcpu)
        os.eventfd_write(irq.fileno(), 1)
        assert count_fds() > before + 3
    kvmbind.settle()
    assert count_fds() == before


def test_it_is_never_lowest_priority_and_an_edge_has_no_cue() -> None:
    with pytest.raises(kvmbind.InvalidArgsError):
        Interrupt.create(VECTOR, level=True, delivery="lowest-priority")
    with Interrupt.create(VECTOR) as edge, pytest.raises(kvmbind.BadStateError, match="edge-triggered"):
        edge.eoi_fileno()


# With a port, and with a wait


def test_with_a_port_the_ack_is_the_cue(make_level: Callable[..., Interrupt]) -> None:
    irq = make_level(physical=True)
    with Port.create(interrupts=True) as port:
        irq.bind(port, 5)
        os.eventfd_write(irq.fileno(), 1)
        for _ in range(10):
            assert port.wait(DEADLINE_S).key == 5
            assert cue(irq, 0) == 0
            irq.ack()
            assert cue(irq) == 1
            os.eventfd_write(irq.fileno(), 1)  # still asserted
        port.wait(DEADLINE_S)
        irq.ack()
        irq.ack()
        assert cue(irq) == 1


def test_with_a_wait_the_next_one_that_sleeps_is_the_cue(make_level: Callable[..., Interrupt]) -> None:
    irq = make_level(physical=True)
    with pytest.raises(kvmbind.TimedOutError):
        irq.wait(0)
    assert cue(irq, 0) == 0
    os.eventfd_write(irq.fileno(), 1)
    irq.wait(DEADLINE_S)
    assert cue(irq, 0) == 0
    with pytest.raises(kvmbind.TimedOutError):
        irq.wait(0)
    assert cue(irq) == 1


def test_a_device_that_still_asserts_fires_again_at_the_cue_of_a_wait(make_level: Callable[..., Interrupt]) -> None:
    irq = make_level(physical=True)

    def device() -> None:
        for _ in range(20):
            if not cue(irq):
                return
            os.eventfd_write(irq.fileno(), 1)

    thread = threading.Thread(target=device)
    thread.start()
    os.eventfd_write(irq.fileno(), 1)
    for _ in range(21):
        irq.wait(DEADLINE_S)
    thread.join()
