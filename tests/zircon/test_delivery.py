"""What reaches a VCPU that an interrupt is bound to: whoever fires, in whichever state it is, once, until the end."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import guests, zx
from kvmbind.zx import Status

if TYPE_CHECKING:
    from kvmbind import Guest, Interrupt, Vcpu
    from tests.conftest import Boot, MakeInterrupt, Running, WaitUntil

pytestmark = pytest.mark.kvm

GATE = 0x7100
HIGH, LOW = 0x80, 0x30  # a local APIC delivers the higher vector first

Fire = Callable[[], None]


# Who fires


def by_zx_call(irq: Interrupt, opened: contextlib.ExitStack) -> Fire:
    def fire() -> None:
        assert zx.zx_interrupt_trigger(irq.handle, 0, zx.zx_clock_get_monotonic()) is Status.OK

    return fire


def by_method(irq: Interrupt, opened: contextlib.ExitStack) -> Fire:
    return irq.trigger


def by_eventfd_write(irq: Interrupt, opened: contextlib.ExitStack) -> Fire:
    return functools.partial(os.eventfd_write, irq.fileno(), 1)


def by_another_thread(irq: Interrupt, opened: contextlib.ExitStack) -> Fire:
    thread = opened.enter_context(ThreadPoolExecutor(1))
    return lambda: thread.submit(irq.trigger).result()


INHERITS = """
import os, sys
fd = int(sys.argv[1])
while os.read(0, 1):
    os.eventfd_write(fd, 1)
"""

IS_SENT = """
import os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as connection:
    _, (fd,), _, _ = socket.recv_fds(connection, 1, 1)
    while connection.recv(1):
        os.eventfd_write(fd, 1)
"""


def by_a_process_that_inherits_the_eventfd(irq: Interrupt, opened: contextlib.ExitStack) -> Fire:
    command = [sys.executable, "-I", "-S", "-c", INHERITS, str(irq.fileno())]
    child = opened.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, pass_fds=[irq.fileno()]))
    assert child.stdin is not None
    orders = child.stdin.fileno()
    return functools.partial(write_byte, orders)


def by_a_process_that_is_sent_the_eventfd(irq: Interrupt, opened: contextlib.ExitStack) -> Fire:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-I", "-S", "-c", IS_SENT, str(theirs.fileno())]
        opened.enter_context(subprocess.Popen(command, pass_fds=[theirs.fileno()]))
    opened.enter_context(ours)
    socket.send_fds(ours, [b"1"], [irq.fileno()])
    return lambda: ours.sendall(b"1")


def write_byte(fd: int) -> None:
    assert os.write(fd, b"1") == 1


by_anyone = pytest.mark.parametrize(
    "who",
    [
        by_zx_call,
        by_method,
        by_eventfd_write,
        by_another_thread,
        by_a_process_that_inherits_the_eventfd,
        by_a_process_that_is_sent_the_eventfd,
    ],
    ids=lambda who: who.__name__,
)

Who = Callable[["Interrupt", contextlib.ExitStack], Fire]


# In which state the VCPU is


@by_anyone
def test_a_halted_guest_counts_each_trigger_once(
    who: Who, boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    running.answer(who(irq, opened), 200)
    assert (running.count(), running.returns) == (200, 0)


@by_anyone
def test_a_spinning_guest_counts_each_trigger_once(
    who: Who, boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    running, irq = boot(guests.SPINNER), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    running.answer(who(irq, opened), 20)
    assert (running.count(), running.returns) == (20, 0)


@by_anyone
def test_a_guest_with_interrupts_disabled_gets_it_on_sti(
    who: Who, boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    running, irq = boot(guests.MASKED), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    fire = who(irq, opened)
    fire()
    assert running.count() == 0
    running.guest.write(b"\1\0\0\0", GATE)
    running.wait(1)
    running.answer(fire, 5)
    assert (running.count(), running.returns) == (6, 0)


@by_anyone
def test_a_vcpu_that_has_not_run_yet_gets_it_when_it_runs(
    who: Who, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    irq = make_interrupt()
    guest = opened.enter_context(kvmbind.Guest.create(memory=1 << 20))
    guest.write(guests.COUNTER, 0x1000)
    vcpu = opened.enter_context(kvmbind.Vcpu.create(guest, 0x1000))
    irq.bind_vcpu(vcpu)
    fire = who(irq, opened)
    fire()
    assert run_until_counted(guest, vcpu, 1) == 1
    fire()
    assert run_until_counted(guest, vcpu, 2) == 2


def run_until_counted(guest: Guest, vcpu: Vcpu, count: int) -> int:
    """Runs a VCPU of this thread until its guest has counted so many; returns how many it has."""

    def kick() -> None:
        try:
            guest.wait_u32(0x8000, count, timeout_s=60)
        finally:
            vcpu.kick()

    with ThreadPoolExecutor(1) as another_thread:
        kicked = another_thread.submit(kick)
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter()
        kicked.result()
    return guest.read_u32(0x8000)


def test_triggers_that_the_guest_has_not_taken_yet_merge(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.MASKED), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    for _ in range(10):
        irq.trigger()
    running.guest.write(b"\1\0\0\0", GATE)
    running.wait(1)
    running.answer(irq.trigger)
    assert running.count() == 2


# Every trigger that waits for its answer


def test_every_trigger_that_waits_for_its_answer_is_counted(
    boot: Boot, make_interrupt: MakeInterrupt, rounds: int
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    running.answer(irq.trigger, rounds)
    assert (running.count(), running.returns) == (rounds, 0)


def test_every_trigger_by_zx_call_that_waits_for_its_answer_is_counted(
    boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack, rounds: int
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    running.answer(by_zx_call(irq, opened), rounds)
    assert (running.count(), running.returns) == (rounds, 0)


def test_every_write_to_the_eventfd_that_waits_for_its_answer_is_counted(
    boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack, rounds: int
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt(physical=True)
    irq.bind_vcpu(running.vcpu)
    running.answer(by_eventfd_write(irq, opened), rounds)
    assert (running.count(), running.returns) == (rounds, 0)


def test_every_trigger_of_four_threads_with_an_interrupt_each_is_counted(
    boot: Boot, make_interrupt: MakeInterrupt, rounds: int
) -> None:
    vectors, each = range(0x40, 0x80, 0x10), rounds // 4
    running = boot(guests.VECTORS)
    interrupts = [make_interrupt(vector) for vector in vectors]
    for irq in interrupts:
        irq.bind_vcpu(running.vcpu)
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(running.answer, irq.trigger, each, [irq.vector]) for irq in interrupts]
    for future in done:
        future.result()
    assert [running.count(vector) for vector in vectors] == [each] * 4
    assert running.returns == 0


# A trigger that comes before the bind


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("who", [by_method, by_eventfd_write])
def test_triggers_before_the_bind_arrive_once(
    who: Who, times: int, boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    fire = who(irq, opened)
    for _ in range(times):
        fire()
    irq.bind_vcpu(running.vcpu)
    running.wait(1)
    running.answer(fire, 5)
    assert running.count() == 6


def test_a_write_to_a_physical_interrupt_before_the_bind_arrives(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt(physical=True)
    os.eventfd_write(irq.fileno(), 1)
    irq.bind_vcpu(running.vcpu)
    running.wait(1)
    assert running.count() == 1


def test_a_trigger_that_a_wait_has_taken_does_not_arrive_by_the_bind(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    irq.trigger()
    irq.wait(timeout_s=60)
    irq.bind_vcpu(running.vcpu)
    running.answer(irq.trigger)
    assert running.count() == 1


@pytest.mark.parametrize("by", ["wait", "port"])
def test_a_trigger_that_came_behind_one_that_is_not_acknowledged_arrives_by_the_bind(
    by: str, boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    irq.trigger()
    if by == "wait":
        irq.wait(timeout_s=60)
        irq.trigger()
    else:
        port = opened.enter_context(kvmbind.Port.create(interrupts=True))
        irq.bind(port, key=1)
        port.wait(60)
        irq.trigger()
        irq.unbind(port)
    irq.bind_vcpu(running.vcpu)
    running.wait(1)
    running.answer(irq.trigger)
    assert running.count() == 2


def test_no_trigger_is_lost_while_the_interrupt_is_being_bound(boot: Boot, make_interrupt: MakeInterrupt) -> None:
    running, together = boot(guests.COUNTER), threading.Barrier(2)

    def fire(irq: Interrupt) -> None:
        together.wait()
        irq.trigger()

    with ThreadPoolExecutor(1) as another_thread:
        for count in range(1, 201):
            with kvmbind.Interrupt.create(0x40) as irq:
                fired = another_thread.submit(fire, irq)
                together.wait()
                irq.bind_vcpu(running.vcpu)
                fired.result()
                running.wait(count)
    assert running.count() == 200


# The end


@pytest.fixture
def barrier(make_interrupt: MakeInterrupt) -> Callable[[Running], None]:
    """Returns when the guest, which runs VECTORS, has taken what was injected before: it takes LOW last."""
    irq = make_interrupt(LOW)

    def wait(running: Running) -> None:
        irq.bind_vcpu(running.vcpu)
        running.answer(irq.trigger, 1, [LOW])

    return wait


Barrier = Callable[["Running"], None]


@pytest.fixture
def outside_fd(opened: contextlib.ExitStack) -> Callable[[Interrupt], int]:
    """Makes a duplicate of an interrupt's eventfd, as another process would have."""

    def make(irq: Interrupt) -> int:
        fd = os.dup(irq.fileno())
        opened.callback(os.close, fd)
        return fd

    return make


def test_a_trigger_after_destroy_is_canceled_and_injects_nothing(
    boot: Boot, make_interrupt: MakeInterrupt, barrier: Barrier
) -> None:
    running, irq = boot(guests.VECTORS), make_interrupt(HIGH)
    irq.bind_vcpu(running.vcpu)
    running.answer(irq.trigger, 1, [HIGH])
    assert zx.zx_interrupt_destroy(irq.handle) is Status.OK
    assert zx.zx_interrupt_trigger(irq.handle, 0, 0) is Status.CANCELED
    with pytest.raises(kvmbind.CanceledError):
        irq.trigger()
    barrier(running)
    assert running.count(HIGH) == 1


def test_a_trigger_after_the_last_handles_close_is_bad_handle_and_injects_nothing(
    boot: Boot, make_interrupt: MakeInterrupt, barrier: Barrier
) -> None:
    running, irq = boot(guests.VECTORS), make_interrupt(HIGH)
    irq.bind_vcpu(running.vcpu)
    running.answer(irq.trigger, 1, [HIGH])
    handle = irq.handle
    assert zx.zx_handle_close(handle) is Status.OK
    assert zx.zx_interrupt_trigger(handle, 0, 0) is Status.BAD_HANDLE
    with pytest.raises(kvmbind.BadHandleError):
        irq.trigger()
    barrier(running)
    assert running.count(HIGH) == 1


def test_an_interrupt_lives_as_long_as_one_of_its_handles(
    boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    other = opened.enter_context(irq.duplicate())
    irq.close()
    running.answer(other.trigger, 5)
    assert running.count() == 5


@pytest.mark.parametrize("end", ["destroy", "close"])
def test_a_write_to_the_eventfd_after_the_end_injects_nothing(
    end: str, boot: Boot, make_interrupt: MakeInterrupt, barrier: Barrier, outside_fd: Callable[[Interrupt], int]
) -> None:
    running, irq = boot(guests.VECTORS), make_interrupt(HIGH)
    irq.bind_vcpu(running.vcpu)
    fd = outside_fd(irq)
    running.answer(lambda: os.eventfd_write(fd, 1), 1, [HIGH])
    getattr(irq, end)()
    os.eventfd_write(fd, 1)
    barrier(running)
    assert running.count(HIGH) == 1
    assert os.eventfd_read(fd) == 1  # KVM no longer takes what is written


@pytest.mark.parametrize("end", ["destroy", "close"])
def test_when_the_end_returns_no_trigger_of_another_thread_is_on_its_way(
    end: str, boot: Boot, barrier: Barrier
) -> None:
    running = boot(guests.VECTORS)

    def trigger_until_refused(irq: Interrupt) -> type[Exception]:
        while True:
            try:
                irq.trigger()
            except kvmbind.ZxError as error:
                return type(error)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(30):
            with kvmbind.Interrupt.create(HIGH) as irq:
                irq.bind_vcpu(running.vcpu)
                before = running.count(HIGH)
                refused = [threads.submit(trigger_until_refused, irq) for _ in range(2)]
                running.wait(before + 10, HIGH)
                getattr(irq, end)()
                barrier(running)
                after = running.count(HIGH)
                errors = {future.result() for future in refused}
                barrier(running)
                assert running.count(HIGH) == after
            assert errors <= {kvmbind.CanceledError} | ({kvmbind.BadHandleError} if end == "close" else set())


def test_a_destroy_stops_a_thread_that_writes_the_eventfd(
    boot: Boot, barrier: Barrier, outside_fd: Callable[[Interrupt], int], wait_until: WaitUntil
) -> None:
    running, over = boot(guests.VECTORS), threading.Event()
    written = [0]

    def write(fd: int) -> None:
        while not over.is_set():
            os.eventfd_write(fd, 1)
            written[0] += 1

    with ThreadPoolExecutor(1) as thread, kvmbind.Interrupt.create(HIGH) as irq:
        irq.bind_vcpu(running.vcpu)
        writing = thread.submit(write, outside_fd(irq))
        try:
            running.wait(10, HIGH)
            irq.destroy()
            barrier(running)
            after, start = running.count(HIGH), written[0]
            wait_until(lambda: written[0] > start + 100)
            barrier(running)
            assert running.count(HIGH) == after
        finally:
            over.set()
        writing.result()


def test_a_bound_interrupt_keeps_its_vcpu_and_guest_when_their_handles_are_closed(
    make_interrupt: MakeInterrupt, count_fds: Callable[[], int]
) -> None:
    irq = make_interrupt()
    fds = count_fds()
    guest = kvmbind.Guest.create()
    vcpu = kvmbind.Vcpu.create(guest)
    irq.bind_vcpu(vcpu)
    vcpu.close()
    guest.close()
    irq.trigger()  # reaches the local APIC of a VCPU that nobody can enter any more
    assert count_fds() > fds
    irq.destroy()
    kvmbind.settle()
    assert count_fds() == fds
