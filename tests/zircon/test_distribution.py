"""One interrupt, many VCPUs: 16 share an eventfd and a GSI; all of them get each trigger, or one by priority."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import guests

if TYPE_CHECKING:
    from kvmbind import Interrupt
    from tests.conftest import Boot, MakeInterrupt, Running

pytestmark = pytest.mark.kvm

CLUSTER = 16


def bind_all(irq: Interrupt, running: Running) -> None:
    for vcpu in running.vcpus:
        irq.bind_vcpu(vcpu)


@pytest.mark.parametrize("vcpus", [1, 2, 15, 16, 17, 40])
def test_every_bound_vcpu_counts_each_trigger(vcpus: int, boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER, vcpus), make_interrupt()
    bind_all(irq, running)
    running.answer(irq.trigger, 25, range(vcpus))
    assert (running.counts(), running.returns) == ([25] * vcpus, 0)


@pytest.mark.parametrize("vcpus", [1, 2, 15, 16])
@pytest.mark.parametrize("physical", [False, True], ids=["virtual", "physical"])
def test_up_to_16_vcpus_are_reached_by_one_eventfd_and_one_gsi(
    physical: bool, vcpus: int, boot: Boot, make_interrupt: MakeInterrupt, table_updates: Sequence[int]
) -> None:
    running, irq = boot(guests.COUNTER, vcpus), make_interrupt(physical=physical)
    bind_all(irq, running)
    running.answer(functools.partial(os.eventfd_write, irq.fileno(), 1), 25, range(vcpus))
    assert (running.counts(), table_updates[-1]) == ([25] * vcpus, 1)


@pytest.mark.parametrize(("vcpus", "gsis"), [(16, 1), (17, 2), (32, 2), (40, 3)])
def test_each_further_16_vcpus_take_another_gsi(
    vcpus: int, gsis: int, boot: Boot, make_interrupt: MakeInterrupt, table_updates: Sequence[int]
) -> None:
    running, irq = boot(guests.COUNTER, vcpus), make_interrupt()
    bind_all(irq, running)
    assert table_updates[-1] == gsis
    irq.destroy()
    assert table_updates[-1] == 0


def test_any_vcpus_of_one_cluster_share_an_eventfd(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER, vcpus=20), make_interrupt(physical=True)
    for index in (16, 17, 19):
        irq.bind_vcpu(running.vcpus[index])
    running.answer(functools.partial(os.eventfd_write, irq.fileno(), 1), 25, (16, 17, 19))
    assert running.counts() == [0] * 16 + [25, 25, 0, 25]


def test_a_physical_interrupt_reaches_no_second_cluster_and_refusing_changes_nothing(
    boot: Boot, make_interrupt: MakeInterrupt, table_updates: Sequence[int], count_fds: Callable[[], int]
) -> None:
    running, irq = boot(guests.COUNTER, vcpus=17), make_interrupt(physical=True)
    irq.bind_vcpu(running.vcpus[0])
    before = list(table_updates), count_fds()
    with pytest.raises(kvmbind.NotSupportedError, match="physical"):
        irq.bind_vcpu(running.vcpus[CLUSTER])
    assert (table_updates, count_fds()) == before
    irq.bind_vcpu(running.vcpus[1])
    running.answer(functools.partial(os.eventfd_write, irq.fileno(), 1), 25, (0, 1))
    assert running.counts() == [25, 25] + [0] * 15


@pytest.mark.parametrize("options", [{"physical": True}, {"lowest_priority": True}], ids=["physical", "lowest"])
def test_such_an_interrupt_is_bound_to_no_vcpu_when_asked_for_two_clusters_at_once(
    options: dict[str, bool],
    boot: Boot,
    make_interrupt: MakeInterrupt,
    table_updates: Sequence[int],
    count_fds: Callable[[], int],
) -> None:
    running, irq = boot(guests.COUNTER, vcpus=17), make_interrupt(**options)
    before = list(table_updates), count_fds()
    with pytest.raises(kvmbind.NotSupportedError):
        running.guest.bind_interrupts([(irq, vcpu) for vcpu in running.vcpus])
    assert (table_updates, count_fds()) == before
    irq.bind_vcpu(running.vcpus[CLUSTER])  # so it is not bound to one of the others
    running.answer(functools.partial(os.eventfd_write, irq.fileno(), 1), 5, [CLUSTER])
    assert running.counts() == [0] * 16 + [5]


def test_lowest_priority_delivers_each_trigger_to_exactly_one_of_the_bound_vcpus(
    boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    running, to_one, to_all = (
        boot(guests.VECTORS, vcpus=4),
        make_interrupt(0x80, lowest_priority=True),
        make_interrupt(0x30),
    )
    bind_all(to_one, running)
    bind_all(to_all, running)
    running.answer(to_one.trigger, 50, [0x80])
    to_all.trigger()  # the lower vector: whoever counts it has counted the higher one before
    running.wait(4, 0x30)
    assert (running.count(0x80), running.count(0x30)) == (50, 4)


def test_lowest_priority_reaches_no_vcpu_that_is_not_bound(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER, vcpus=4), make_interrupt(lowest_priority=True)
    irq.bind_vcpu(running.vcpus[1])
    running.answer(irq.trigger, 20, [1])
    assert running.counts() == [0, 20, 0, 0]


@pytest.mark.parametrize("outside", [False, True], ids=["trigger", "eventfd_write"])
def test_binding_more_vcpus_while_the_first_is_fired_at_loses_nothing(
    outside: bool, boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    vcpus = CLUSTER if outside else 34
    running, irq, over = boot(guests.COUNTER, vcpus), make_interrupt(), threading.Event()
    irq.bind_vcpu(running.vcpus[0])
    fire: Callable[[], object] = functools.partial(os.eventfd_write, irq.fileno(), 1) if outside else irq.trigger

    def fire_and_wait() -> int:
        fired = 0
        while not over.is_set():
            running.answer(fire, 1)
            fired += 1
        return fired

    with ThreadPoolExecutor(1) as another_thread:
        firing = another_thread.submit(fire_and_wait)
        try:
            for vcpu in running.vcpus[1:]:
                irq.bind_vcpu(vcpu)
                running.wait(running.count() + 20)
                running.wait(1, vcpu.apic_id)
        finally:
            over.set()
        fired = firing.result()
        assert running.count() == fired
    assert running.returns == 0


def test_a_trigger_before_one_bind_of_several_clusters_reaches_every_vcpu_once(
    boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    running, irq = boot(guests.COUNTER, vcpus=33), make_interrupt()
    irq.trigger()
    running.guest.bind_interrupts([(irq, vcpu) for vcpu in running.vcpus])
    for apic_id in range(33):
        running.wait(1, apic_id)
    running.answer(irq.trigger, 5, range(33))
    assert running.counts() == [6] * 33


def test_the_vcpus_of_every_cluster_get_nothing_after_destroy(
    boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    running, irq, barrier = boot(guests.VECTORS, vcpus=17), make_interrupt(0x80), make_interrupt(0x30)
    bind_all(irq, running)
    bind_all(barrier, running)
    irq.trigger()
    running.wait(17, 0x80)
    irq.destroy()
    with pytest.raises(kvmbind.CanceledError):
        irq.trigger()
    barrier.trigger()
    running.wait(17, 0x30)
    assert running.count(0x80) == 17
