"""zx_interrupt_bind_vcpu, by the rows of its page: description, rights and errors."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import guests, zx
from kvmbind.zx import Status

if TYPE_CHECKING:
    from kvmbind import Interrupt, Vcpu
    from tests.conftest import Boot, MakeInterrupt, Running, WaitUntil

pytestmark = pytest.mark.kvm

MakeWaiter = Callable[["Interrupt"], "Waiter"]
MakeHandle = Callable[[int, int], int]

bind_vcpu = zx.zx_interrupt_bind_vcpu


class Waiter:
    """A thread inside zx_interrupt_wait."""

    def __init__(self, irq: Interrupt, wait_until: WaitUntil) -> None:
        """Returns when the thread is inside."""
        self._irq = irq
        self._handle = irq.handle
        self._status = Status.BAD_STATE
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()
        wait_until(self._is_inside)

    def _wait(self) -> None:
        while self._status is Status.BAD_STATE:  # the main thread has just looked whether this one is inside
            self._status, _ = zx.zx_interrupt_wait(self._handle)

    def _is_inside(self) -> bool:
        try:
            self._irq.wait(timeout_s=0)
        except kvmbind.BadStateError:
            return True
        except kvmbind.TimedOutError:
            return False
        raise AssertionError("nobody has triggered it")

    def result(self) -> Status:
        """What zx_interrupt_wait has returned, once it has."""
        self._thread.join()
        return self._status


@pytest.fixture
def make_waiter(opened: contextlib.ExitStack, wait_until: WaitUntil) -> MakeWaiter:
    """Puts a thread into zx_interrupt_wait; after the test the interrupt is destroyed and the thread joined."""

    def make(irq: Interrupt) -> Waiter:
        waiter = Waiter(irq, wait_until)
        opened.callback(waiter.result)
        opened.callback(irq.destroy)
        return waiter

    return make


@pytest.fixture
def with_rights(opened: contextlib.ExitStack) -> MakeHandle:
    """Makes another handle to an object, with these rights only."""

    def make(handle: int, rights: int) -> int:
        status, other = zx.zx_handle_duplicate(handle, rights)
        assert status is Status.OK
        opened.callback(zx.zx_handle_close, other)
        return other

    return make


@pytest.fixture
def closed_handle() -> int:
    """A value that was a handle."""
    _, handle = zx.zx_port_create(0)
    zx.zx_handle_close(handle)
    return handle


@pytest.fixture
def of_another_type(opened: contextlib.ExitStack) -> int:
    """A handle with every right that the call asks for, to neither an interrupt nor a VCPU."""
    return opened.enter_context(kvmbind.Port.create()).handle


def rights_of(handle: int) -> int:
    status, info = zx.zx_object_get_info(handle, zx.ZX_INFO_HANDLE_BASIC)
    assert status is Status.OK
    return info.rights


def trigger(irq: Interrupt) -> Callable[[], None]:
    def fire() -> None:
        assert zx.zx_interrupt_trigger(irq.handle, 0, 0) is Status.OK

    return fire


def assert_bind_works(irq: Interrupt, running: Running, vcpu: Vcpu | None = None) -> None:
    """Binds, and has each of some triggers counted once."""
    vcpu = vcpu or running.vcpu
    before = running.count(vcpu.apic_id)
    assert bind_vcpu(irq.handle, vcpu.handle, 0) is Status.OK
    running.answer(trigger(irq), 5, [vcpu.apic_id])
    assert running.count(vcpu.apic_id) == before + 5


# Description


def test_a_trigger_is_processed_by_the_guest_with_no_host_intervention(
    boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    assert bind_vcpu(irq.handle, running.vcpu.handle, 0) is Status.OK
    running.answer(trigger(irq), 1000)
    assert (running.count(), running.returns) == (1000, 0)


def test_an_interrupt_bound_to_multiple_vcpus_reaches_each_of_them(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER, vcpus=4), make_interrupt()
    for vcpu in running.vcpus:
        assert bind_vcpu(irq.handle, vcpu.handle, 0) is Status.OK
    running.answer(trigger(irq), 200, range(4))
    assert (running.counts(), running.returns) == ([200] * 4, 0)


def test_a_vcpu_that_is_not_bound_gets_nothing(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq, barrier = boot(guests.COUNTER, vcpus=3), make_interrupt(), make_interrupt()
    for vcpu in (running.vcpus[0], running.vcpus[2]):
        assert bind_vcpu(irq.handle, vcpu.handle, 0) is Status.OK
    running.answer(trigger(irq), 20, (0, 2))
    assert_bind_works(barrier, running, running.vcpus[1])
    assert running.counts() == [20, 5, 20]


def test_all_vcpus_must_belong_to_a_single_guest(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, other, irq = boot(guests.COUNTER, vcpus=2), boot(guests.COUNTER), make_interrupt()
    assert_bind_works(irq, running)
    assert bind_vcpu(irq.handle, other.vcpu.handle, 0) is Status.INVALID_ARGS
    assert bind_vcpu(irq.handle, running.vcpus[1].handle, 0) is Status.OK
    running.answer(trigger(irq), 5, range(2))
    assert_bind_works(make_interrupt(), other)
    assert (running.counts(), other.counts()) == ([10, 5], [5])


def test_several_interrupts_may_be_bound_to_one_vcpu(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, first, second = boot(guests.COUNTER), make_interrupt(), make_interrupt()
    assert_bind_works(first, running)
    assert_bind_works(second, running)
    running.answer(trigger(first), 5)
    assert running.count() == 15


def test_binding_to_the_same_vcpu_again_is_ok_and_changes_nothing(
    boot: Boot,
    make_interrupt: MakeInterrupt,
    table_updates: Sequence[int],
    count_fds: Callable[[], int],
    with_rights: MakeHandle,
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    assert_bind_works(irq, running)
    other_handle = with_rights(running.vcpu.handle, zx.ZX_RIGHT_SAME_RIGHTS)
    before = len(table_updates), count_fds()
    for vcpu in (running.vcpu.handle, other_handle):
        assert bind_vcpu(irq.handle, vcpu, 0) is Status.OK
    assert (len(table_updates), count_fds()) == before
    running.answer(trigger(irq), 100)
    assert running.count() == 105


def test_a_bind_may_come_from_a_thread_that_did_not_create_the_vcpu(make_interrupt: MakeInterrupt) -> None:
    irq = make_interrupt()
    with (
        kvmbind.Guest.create(memory=1 << 20) as guest,
        kvmbind.Vcpu.create(guest, 0x1000) as vcpu,
        ThreadPoolExecutor(1) as another_thread,
    ):
        guest.write(guests.COUNTER, 0x1000)
        bound = another_thread.submit(bind_vcpu, irq.handle, vcpu.handle, 0)
        assert bound.result() is Status.OK
        trigger(irq)()
        another_thread.submit(guest.wait_u32, 0x8000, 1, 60).add_done_callback(lambda _: vcpu.kick())
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter()
        assert guest.read_u32(0x8000) == 1


# Rights


def test_handle_must_have_right_read_and_needs_no_other(
    boot: Boot, make_interrupt: MakeInterrupt, with_rights: MakeHandle
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    without = with_rights(irq.handle, rights_of(irq.handle) & ~zx.ZX_RIGHT_READ)
    only = with_rights(irq.handle, zx.ZX_RIGHT_READ)
    assert bind_vcpu(without, running.vcpu.handle, 0) is Status.ACCESS_DENIED
    assert bind_vcpu(only, running.vcpu.handle, 0) is Status.OK
    running.answer(trigger(irq), 5)
    assert running.count() == 5


def test_vcpu_must_have_right_write_and_needs_no_other(
    boot: Boot, make_interrupt: MakeInterrupt, with_rights: MakeHandle
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    without = with_rights(running.vcpu.handle, rights_of(running.vcpu.handle) & ~zx.ZX_RIGHT_WRITE)
    only = with_rights(running.vcpu.handle, zx.ZX_RIGHT_WRITE)
    assert bind_vcpu(irq.handle, without, 0) is Status.ACCESS_DENIED
    assert bind_vcpu(irq.handle, only, 0) is Status.OK
    running.answer(trigger(irq), 5)
    assert running.count() == 5


# Errors

NO_HANDLES = [0, 1, -1, 1 << 31, 1 << 32, 1 << 64]


@pytest.mark.parametrize("value", NO_HANDLES)
def test_bad_handle_if_handle_is_not_a_valid_handle(value: int, boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running = boot(guests.COUNTER)
    assert bind_vcpu(value, running.vcpu.handle, 0) is Status.BAD_HANDLE
    assert_bind_works(make_interrupt(), running)


@pytest.mark.parametrize("value", NO_HANDLES)
def test_bad_handle_if_vcpu_is_not_a_valid_handle(value: int, boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    assert bind_vcpu(irq.handle, value, 0) is Status.BAD_HANDLE
    assert_bind_works(irq, running)


def test_bad_handle_if_either_was_closed(boot: Boot, make_interrupt: MakeInterrupt, closed_handle: int) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    assert bind_vcpu(closed_handle, running.vcpu.handle, 0) is Status.BAD_HANDLE
    assert bind_vcpu(irq.handle, closed_handle, 0) is Status.BAD_HANDLE
    assert_bind_works(irq, running)


def test_wrong_type_if_handle_is_not_an_interrupt(
    boot: Boot, make_interrupt: MakeInterrupt, of_another_type: int
) -> None:
    running = boot(guests.COUNTER)
    for handle in (of_another_type, running.vcpu.handle, running.guest.handle):
        assert bind_vcpu(handle, running.vcpu.handle, 0) is Status.WRONG_TYPE
    assert_bind_works(make_interrupt(), running)


def test_wrong_type_if_vcpu_is_not_a_vcpu(boot: Boot, make_interrupt: MakeInterrupt, of_another_type: int) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    for handle in (of_another_type, irq.handle, running.guest.handle):
        assert bind_vcpu(irq.handle, handle, 0) is Status.WRONG_TYPE
    assert_bind_works(irq, running)


def test_canceled_if_interrupt_destroy_was_called(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    assert zx.zx_interrupt_destroy(irq.handle) is Status.OK
    assert bind_vcpu(irq.handle, running.vcpu.handle, 0) is Status.CANCELED
    assert zx.zx_interrupt_trigger(irq.handle, 0, 0) is Status.CANCELED
    assert_bind_works(make_interrupt(), running)
    assert running.count() == 5


def test_bad_state_while_a_thread_is_waiting_with_interrupt_wait(
    boot: Boot, make_interrupt: MakeInterrupt, make_waiter: MakeWaiter
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    waiter = make_waiter(irq)
    assert bind_vcpu(irq.handle, running.vcpu.handle, 0) is Status.BAD_STATE
    trigger(irq)()
    assert waiter.result() is Status.OK
    assert_bind_works(irq, running)
    assert running.count() == 5


def test_access_denied_if_handle_lacks_right_read(
    boot: Boot, make_interrupt: MakeInterrupt, with_rights: MakeHandle
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    handle = with_rights(irq.handle, rights_of(irq.handle) & ~zx.ZX_RIGHT_READ)
    assert bind_vcpu(handle, running.vcpu.handle, 0) is Status.ACCESS_DENIED
    assert_bind_works(irq, running)


def test_access_denied_if_vcpu_lacks_right_write(
    boot: Boot, make_interrupt: MakeInterrupt, with_rights: MakeHandle
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    handle = with_rights(running.vcpu.handle, rights_of(running.vcpu.handle) & ~zx.ZX_RIGHT_WRITE)
    assert bind_vcpu(irq.handle, handle, 0) is Status.ACCESS_DENIED
    assert_bind_works(irq, running)


def test_already_bound_if_handle_is_bound_to_a_port(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    with kvmbind.Port.create(interrupts=True) as port:
        irq.bind(port, key=7)
        assert bind_vcpu(irq.handle, running.vcpu.handle, 0) is Status.ALREADY_BOUND
        trigger(irq)()
        assert port.wait(timeout_s=60).key == 7
        irq.unbind(port)
    assert_bind_works(irq, running)
    assert running.count() == 5


def test_already_bound_if_another_interrupt_has_the_eventfd_bound(
    boot: Boot,
    make_interrupt: MakeInterrupt,
    opened: contextlib.ExitStack,
    table_updates: Sequence[int],
    count_fds: Callable[[], int],
) -> None:
    running = boot(guests.COUNTER, 2)
    here, other = running.vcpus
    first = make_interrupt()
    second = opened.enter_context(kvmbind.Interrupt.from_eventfd(first.fileno(), vector=0x40))
    first.bind_vcpu(other)
    fds = count_fds()
    assert bind_vcpu(second.handle, here.handle, 0) is Status.ALREADY_BOUND
    assert (count_fds(), table_updates[-1]) == (fds, 1)
    running.answer(trigger(first), 5, [1])
    first.destroy()
    assert bind_vcpu(second.handle, here.handle, 0) is Status.OK
    running.answer(lambda: os.eventfd_write(second.fileno(), 1), 5)
    assert running.counts() == [5, 5]


def test_invalid_args_if_vcpu_belongs_to_a_different_guest(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, other, irq = boot(guests.COUNTER), boot(guests.COUNTER), make_interrupt()
    assert_bind_works(irq, running)
    assert bind_vcpu(irq.handle, other.vcpu.handle, 0) is Status.INVALID_ARGS
    assert_bind_works(irq, running)
    assert_bind_works(make_interrupt(), other)
    assert (running.count(), other.count()) == (10, 5)


@pytest.mark.parametrize("options", [1, 2, -1, 1 << 31, 1 << 32])
def test_invalid_args_if_options_is_non_zero(options: int, boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    assert bind_vcpu(irq.handle, running.vcpu.handle, options) is Status.INVALID_ARGS
    assert_bind_works(irq, running)


@pytest.mark.parametrize("vector", [0, 2, 15])
def test_invalid_args_for_a_vector_that_no_local_apic_takes(
    vector: int, boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt(vector)
    assert bind_vcpu(irq.handle, running.vcpu.handle, 0) is Status.INVALID_ARGS
    trigger(irq)()
    assert zx.zx_interrupt_wait(irq.handle)[0] is Status.OK  # it is not bound
    assert_bind_works(make_interrupt(), running)


@pytest.mark.parametrize("vector", [16, 255])
def test_the_first_and_the_last_vector_of_a_local_apic_are_ok(
    vector: int, boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    assert bind_vcpu(make_interrupt(vector).handle, boot(guests.COUNTER).vcpu.handle, 0) is Status.OK


# The order of the checks


# After a refusal nothing has changed: the errors' own tests bind again. What no count of the guest shows is here.
