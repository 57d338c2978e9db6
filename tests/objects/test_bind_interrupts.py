"""Guest.bind_interrupts: thousands of interrupts by one update of the kernel's table, all of them or none."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import guests

if TYPE_CHECKING:
    from kvmbind import Interrupt, Vcpu
    from tests.conftest import Boot, MakeInterrupt, Running

pytestmark = pytest.mark.kvm

VECTORS = range(0x20, 0x100)
GSIS = 4096  # KVM_CAP_IRQ_ROUTING, on every KVM since Linux 4.18
SPARE_FDS = 256  # what the process has open beside the interrupts


@pytest.fixture
def make_many(opened: contextlib.ExitStack, fd_limit: Callable[[int], None]) -> Callable[[int], list[Interrupt]]:
    """Makes so many interrupts, their vectors spread over VECTORS."""

    def make(count: int) -> list[Interrupt]:
        fd_limit(count + SPARE_FDS)
        return [opened.enter_context(kvmbind.Interrupt.create(VECTORS[index % len(VECTORS)])) for index in range(count)]

    return make


MakeMany = Callable[[int], list["Interrupt"]]


def fire_each(running: Running, interrupts: Sequence[Interrupt]) -> None:
    """Fires each once and waits until the guest has counted its vector."""
    expected = Counter({vector: running.count(vector) for vector in VECTORS})
    for irq in interrupts:
        irq.trigger()
        expected[irq.vector] += 1
        running.wait(expected[irq.vector], irq.vector)
    assert {vector: running.count(vector) for vector in VECTORS} == expected


def is_bound(irq: Interrupt) -> bool:
    """Tells by a wait, which a bound interrupt refuses."""
    try:
        irq.wait(timeout_s=0)
    except kvmbind.BadStateError:
        return True
    except kvmbind.TimedOutError:
        return False
    raise AssertionError("somebody has triggered it")


def test_4000_interrupts_are_bound_by_one_table_update_and_each_is_delivered(
    boot: Boot, make_many: MakeMany, table_updates: Sequence[int]
) -> None:
    running, interrupts = boot(guests.VECTORS), make_many(4000)
    running.guest.bind_interrupts([(irq, running.vcpu) for irq in interrupts])
    assert table_updates == [4000]
    fire_each(running, interrupts)
    assert sum(running.count(vector) for vector in VECTORS) == 4000
    assert running.returns == 0


def test_the_first_interrupt_past_the_guests_gsis_answers_no_resources_and_breaks_nothing(
    boot: Boot, make_many: MakeMany, table_updates: Sequence[int]
) -> None:
    running = boot(guests.VECTORS)
    *interrupts, one_more = make_many(GSIS + 1)
    running.guest.bind_interrupts([(irq, running.vcpu) for irq in interrupts])
    with pytest.raises(kvmbind.NoResourcesError, match="the guest's GSIs are used up"):
        one_more.bind_vcpu(running.vcpu)
    with pytest.raises(kvmbind.NoResourcesError, match="the guest's GSIs are used up"):
        running.guest.bind_interrupts([(one_more, running.vcpu)])
    assert table_updates == [GSIS]
    assert not is_bound(one_more)
    fire_each(running, interrupts)

    interrupts.pop(1000).close()
    one_more.bind_vcpu(running.vcpu)
    fire_each(running, [interrupts[0], interrupts[-1], one_more])


def test_a_batch_that_needs_one_gsi_too_many_binds_none_of_it(
    boot: Boot, make_many: MakeMany, table_updates: Sequence[int], count_fds: Callable[[], int]
) -> None:
    running, interrupts = boot(guests.VECTORS), make_many(GSIS + 1)
    fds = count_fds()
    with pytest.raises(kvmbind.NoResourcesError, match="the guest's GSIs are used up"):
        running.guest.bind_interrupts([(irq, running.vcpu) for irq in interrupts])
    assert (count_fds(), table_updates) == (fds, [])
    assert not any(is_bound(irq) for irq in interrupts[:: GSIS // 8])
    running.guest.bind_interrupts([(irq, running.vcpu) for irq in interrupts[:16]])
    fire_each(running, interrupts[:16])


def test_a_batch_that_runs_out_of_fds_binds_none_of_it_and_says_so(
    boot: Boot,
    make_interrupt: MakeInterrupt,
    fd_limit: Callable[[int], None],
    table_updates: Sequence[int],
    count_fds: Callable[[], int],
) -> None:
    running = boot(guests.VECTORS, vcpus=17)  # in two clusters: each interrupt needs a second eventfd
    interrupts = [make_interrupt(vector) for vector in VECTORS[:8]]
    pairs = [(irq, vcpu) for irq in interrupts for vcpu in (running.vcpus[0], running.vcpus[16])]
    fds = count_fds()
    fd_limit(first_free_fd() + 5)
    with pytest.raises(kvmbind.NoResourcesError, match="no fd left"):
        running.guest.bind_interrupts(pairs)
    fd_limit(-1)
    assert (count_fds(), table_updates) == (fds, [])
    assert not any(is_bound(irq) for irq in interrupts)
    running.guest.bind_interrupts(pairs)
    for irq in interrupts:
        irq.trigger()
        running.wait(2, irq.vector)


def first_free_fd() -> int:
    fd = os.dup(0)
    os.close(fd)
    return fd


def test_making_an_interrupt_past_the_fd_limit_answers_no_resources_and_breaks_nothing(
    boot: Boot, make_interrupt: MakeInterrupt, fd_limit: Callable[[int], None]
) -> None:
    running, irq = boot(guests.VECTORS), make_interrupt(0x40)
    fd_limit(first_free_fd())
    with pytest.raises(kvmbind.NoResourcesError, match="no fd left"):
        make_interrupt(0x41)
    running.guest.bind_interrupts([(irq, running.vcpu)])  # the first cluster takes no fd
    fd_limit(-1)
    fire_each(running, [irq, make_bound(make_interrupt(0x41), running.vcpu)])


def make_bound(irq: Interrupt, vcpu: Vcpu) -> Interrupt:
    irq.bind_vcpu(vcpu)
    return irq


# A pair that fails, in the middle

Spoil = Callable[["Interrupt", "Running", contextlib.ExitStack], tuple["Interrupt", "Vcpu"]]


def its_interrupt_was_destroyed(
    irq: Interrupt, running: Running, opened: contextlib.ExitStack
) -> tuple[Interrupt, Vcpu]:
    irq.destroy()
    return irq, running.vcpu


def its_vcpu_is_of_another_guest(
    irq: Interrupt, running: Running, opened: contextlib.ExitStack
) -> tuple[Interrupt, Vcpu]:
    return irq, another_guests_vcpu(opened)


def its_interrupt_is_bound_to_another_guest(
    irq: Interrupt, running: Running, opened: contextlib.ExitStack
) -> tuple[Interrupt, Vcpu]:
    irq.bind_vcpu(another_guests_vcpu(opened))
    return irq, running.vcpu


def its_eventfd_is_bound_by_another(
    irq: Interrupt, running: Running, opened: contextlib.ExitStack
) -> tuple[Interrupt, Vcpu]:
    irq.bind_vcpu(running.vcpu)  # an older KVM refuses this within one guest only
    shares = opened.enter_context(kvmbind.Interrupt.from_eventfd(irq.fileno(), vector=irq.vector))
    return shares, running.vcpu


def its_vector_is_too_low(irq: Interrupt, running: Running, opened: contextlib.ExitStack) -> tuple[Interrupt, Vcpu]:
    return opened.enter_context(kvmbind.Interrupt.create(15)), running.vcpu


def it_is_bound_to_a_port(irq: Interrupt, running: Running, opened: contextlib.ExitStack) -> tuple[Interrupt, Vcpu]:
    irq.bind(opened.enter_context(kvmbind.Port.create(interrupts=True)), key=1)
    return irq, running.vcpu


def its_vcpu_may_not_be_written(
    irq: Interrupt, running: Running, opened: contextlib.ExitStack
) -> tuple[Interrupt, Vcpu]:
    return irq, opened.enter_context(running.vcpu.duplicate(kvmbind.zx.ZX_RIGHT_READ))


def another_guests_vcpu(opened: contextlib.ExitStack) -> Vcpu:
    return opened.enter_context(kvmbind.Vcpu.create(opened.enter_context(kvmbind.Guest.create())))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (its_interrupt_was_destroyed, kvmbind.CanceledError),
        (its_vcpu_is_of_another_guest, kvmbind.InvalidArgsError),
        (its_interrupt_is_bound_to_another_guest, kvmbind.InvalidArgsError),
        (its_eventfd_is_bound_by_another, kvmbind.AlreadyBoundError),
        (its_vector_is_too_low, kvmbind.InvalidArgsError),
        (it_is_bound_to_a_port, kvmbind.AlreadyBoundError),
        (its_vcpu_may_not_be_written, kvmbind.AccessDeniedError),
    ],
    ids=lambda value: value.__name__,
)
def test_a_pair_in_the_middle_that_fails_leaves_all_unbound_and_nothing_open(
    spoil: Spoil,
    error: type[kvmbind.ZxError],
    boot: Boot,
    make_interrupt: MakeInterrupt,
    opened: contextlib.ExitStack,
    table_updates: Sequence[int],
    count_fds: Callable[[], int],
) -> None:
    running = boot(guests.VECTORS)
    interrupts = [make_interrupt(vector) for vector in VECTORS[:9]]
    middle = spoil(interrupts[4], running, opened)
    others = interrupts[:4] + interrupts[5:]
    pairs = [(irq, running.vcpu) for irq in others]
    fds, updates, bound = count_fds(), len(table_updates), int(spoil is its_eventfd_is_bound_by_another)
    with pytest.raises(error):
        running.guest.bind_interrupts([*pairs[:4], middle, *pairs[4:]])
    assert count_fds() == fds
    assert table_updates[updates:] in ([], [9 + bound, bound])
    assert not any(is_bound(irq) for irq in others)
    running.guest.bind_interrupts(pairs)
    fire_each(running, others)


def test_a_batch_that_failed_keeps_nothing_alive(count_fds: Callable[[], int]) -> None:
    fds = count_fds()
    with (
        kvmbind.Guest.create() as guest,
        kvmbind.Vcpu.create(guest) as vcpu,
        kvmbind.Interrupt.create(0x40) as good,
        kvmbind.Interrupt.create(0x41) as bad,
    ):
        bad.destroy()
        with pytest.raises(kvmbind.CanceledError):
            guest.bind_interrupts([(good, vcpu), (bad, vcpu)])
    kvmbind.settle()
    assert count_fds() == fds


# One batch, and what is bound already


def test_an_interrupt_may_come_several_times_and_be_bound_already(
    boot: Boot, make_interrupt: MakeInterrupt, table_updates: Sequence[int]
) -> None:
    running, first, second = boot(guests.VECTORS, vcpus=3), make_interrupt(0x30), make_interrupt(0x31)
    first.bind_vcpu(running.vcpus[0])
    running.guest.bind_interrupts([(irq, vcpu) for irq in (first, second, first) for vcpu in running.vcpus])
    assert table_updates == [1, 2]
    for irq in (first, second):
        irq.trigger()
        running.wait(3, irq.vector)
    assert (running.count(0x30), running.count(0x31)) == (3, 3)


def test_a_failed_batch_leaves_what_was_bound_before_bound_as_it_was(
    boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    running, bound, barrier = boot(guests.VECTORS, vcpus=2), make_interrupt(0x80), make_interrupt(0x30)
    bound.bind_vcpu(running.vcpus[0])
    running.guest.bind_interrupts([(barrier, vcpu) for vcpu in running.vcpus])
    bad = its_eventfd_is_bound_by_another(make_interrupt(0x40), running, opened)
    with pytest.raises(kvmbind.AlreadyBoundError):
        running.guest.bind_interrupts([(bound, running.vcpus[1]), bad])
    bound.trigger()
    running.wait(1, 0x80)
    barrier.trigger()
    running.wait(2, 0x30)
    assert running.count(0x80) == 1  # one VCPU has it, not two


@pytest.mark.parametrize("again", [False, True], ids=["nothing", "what is bound already"])
def test_a_batch_that_changes_nothing_updates_no_table(
    again: bool, boot: Boot, make_interrupt: MakeInterrupt, table_updates: Sequence[int]
) -> None:
    running, irq = boot(guests.VECTORS), make_interrupt(0x30)
    irq.bind_vcpu(running.vcpu)
    running.guest.bind_interrupts([(irq, running.vcpu)] if again else [])
    assert table_updates == [1]
    fire_each(running, [irq])
