"""ZX_VIRTUAL_INTERRUPT_UNTRIGGERED: when a virtual interrupt has the signal, and when it is only strobed."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.zx import (
    ZX_INTERRUPT_BIND,
    ZX_INTERRUPT_UNBIND,
    ZX_TIME_INFINITE,
    ZX_USER_SIGNAL_0,
    ZX_VIRTUAL_INTERRUPT_UNTRIGGERED,
    ZX_WAIT_ASYNC_EDGE,
    PortPacket,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zx.conftest import Maker

OK = Status.OK
UNTRIGGERED = ZX_VIRTUAL_INTERRUPT_UNTRIGGERED


class Bench:
    """A virtual interrupt, and a port for it and for its signal."""

    def __init__(self, make: Maker) -> None:
        self.interrupt = make.interrupt(0x40)
        self.port = make.port()
        self.signals = make.port()

    def trigger(self) -> None:
        assert zx.zx_interrupt_trigger(self.interrupt, 0, 1) is OK

    def write(self) -> None:
        """Fires it from outside."""
        os.eventfd_write(kvmbind.Interrupt.borrow(self.interrupt).fileno(), 1)

    def bind(self) -> None:
        assert zx.zx_interrupt_bind(self.interrupt, self.port, 1, ZX_INTERRUPT_BIND) is OK

    def unbind(self) -> None:
        assert zx.zx_interrupt_bind(self.interrupt, self.port, 1, ZX_INTERRUPT_UNBIND) is OK

    def wait(self) -> None:
        assert zx.zx_interrupt_wait(self.interrupt)[0] is OK

    def wait_for_nothing(self) -> None:
        """A wait that sleeps."""
        with pytest.raises(kvmbind.TimedOutError):
            kvmbind.Interrupt.borrow(self.interrupt).wait(0)

    def read(self) -> None:
        assert zx.zx_port_wait(self.port, 0)[0] is OK

    def ack(self) -> None:
        assert zx.zx_interrupt_ack(self.interrupt) is OK

    def destroy(self) -> None:
        zx.zx_interrupt_destroy(self.interrupt)

    def is_untriggered(self) -> bool:
        return bool(zx.zx_object_wait_one(self.interrupt, 0, 0)[1] & UNTRIGGERED)


def names(steps: list[tuple[str, bool]]) -> str:
    return " ".join(step for step, _ in steps)


#: Calls one after the other, and whether the signal is there behind each.
STORIES = [
    [("trigger", False), ("trigger", False), ("wait", False), ("wait_for_nothing", True), ("trigger", False)],
    [("wait_for_nothing", True), ("trigger", False), ("wait", False)],
    [("trigger", False), ("wait", False), ("trigger", False), ("wait", False), ("wait_for_nothing", True)],
    [("bind", True), ("trigger", False), ("read", False), ("ack", True), ("trigger", False)],
    [("bind", True), ("trigger", False), ("ack", True), ("read", True), ("ack", True)],
    [("bind", True), ("trigger", False), ("read", False), ("trigger", False), ("ack", False), ("read", False),
     ("ack", True)],
    [("trigger", False), ("bind", False), ("read", False), ("ack", True)],
    [("bind", True), ("trigger", False), ("unbind", False), ("wait_for_nothing", True)],
    [("destroy", True)],
    [("trigger", False), ("destroy", True)],
    [("bind", True), ("trigger", False), ("read", False), ("destroy", True)],
    # A write to its eventfd is a trigger when it is seen.
    [("write", True), ("wait", False), ("wait_for_nothing", True)],
    [("bind", True), ("write", True), ("read", False), ("ack", True)],
]  # fmt: skip


@pytest.mark.parametrize("story", STORIES, ids=map(names, STORIES))
def test_it_is_there_while_no_trigger_waits_to_be_taken_or_acknowledged(
    make: Maker, story: list[tuple[str, bool]]
) -> None:
    bench = Bench(make)
    assert bench.is_untriggered()
    for step, expected in story:
        action: Callable[[], None] = getattr(bench, step)
        action()
        assert bench.is_untriggered() is expected, step


def test_closing_the_last_handle_destroys_it_and_so_sets_the_signal(make: Maker) -> None:
    interrupt = kvmbind.Interrupt.create()
    obj = interrupt._object("")
    interrupt.trigger()
    with obj:
        interrupt.close()
        assert obj.signals.value == UNTRIGGERED


def test_a_deferred_trigger_that_an_ack_sends_strobes_it(make: Maker) -> None:
    bench = Bench(make)
    bench.bind()
    bench.trigger()
    bench.read()
    bench.trigger()
    for options in (0, ZX_WAIT_ASYNC_EDGE):
        assert zx.zx_object_wait_async(bench.interrupt, bench.signals, options, UNTRIGGERED, options) is OK
    assert zx.zx_port_wait(bench.signals, 0) == (Status.TIMED_OUT, PortPacket())
    bench.ack()
    assert not bench.is_untriggered()
    taken = [zx.zx_port_wait(bench.signals, 0)[1] for _ in range(2)]
    assert [(packet.key, packet.signal.observed) for packet in taken] == [(0, UNTRIGGERED), (2, UNTRIGGERED)]


def test_a_thread_that_waits_for_it_is_woken_by_a_strobe(make: Maker) -> None:
    bench, seen = Bench(make), list[tuple[Status, int]]()
    bench.bind()
    bench.trigger()
    bench.read()
    bench.trigger()
    thread = threading.Thread(
        target=lambda: seen.append(zx.zx_object_wait_one(bench.interrupt, UNTRIGGERED, ZX_TIME_INFINITE))
    )
    thread.start()
    obj = kvmbind.Interrupt.borrow(bench.interrupt)._object("")
    make.until(lambda: len(obj.signals._observers) == 1)
    bench.ack()
    thread.join(60)
    assert seen == [(OK, UNTRIGGERED)]


def test_a_packet_about_an_interrupt_may_go_to_the_port_that_it_is_bound_to(make: Maker) -> None:
    bench = Bench(make)
    bench.bind()
    bench.trigger()
    assert zx.zx_object_wait_async(bench.interrupt, bench.port, 2, UNTRIGGERED, 0) is OK
    bench.read()
    bench.ack()
    assert zx.zx_port_wait(bench.port, 0)[1].key == 2


def test_the_signals_of_users_beside_it_stay_as_they_are(make: Maker) -> None:
    bench = Bench(make)
    assert zx.zx_object_signal(bench.interrupt, 0, ZX_USER_SIGNAL_0) is OK
    bench.trigger()
    assert zx.zx_object_wait_one(bench.interrupt, ZX_USER_SIGNAL_0, 0) == (OK, ZX_USER_SIGNAL_0)
    bench.destroy()
    assert zx.zx_object_wait_one(bench.interrupt, ZX_USER_SIGNAL_0, 0) == (OK, ZX_USER_SIGNAL_0 | UNTRIGGERED)


@pytest.mark.kvm
def test_bound_to_a_vcpu_it_is_there_for_good_since_each_trigger_is_taken_at_once(make: Maker) -> None:
    bench = Bench(make)
    bench.trigger()
    assert not bench.is_untriggered()
    assert zx.zx_interrupt_bind_vcpu(bench.interrupt, make.vcpu(make.guest().guest), 0) is OK
    assert bench.is_untriggered()
    bench.trigger()
    assert bench.is_untriggered()
    bench.destroy()
    assert bench.is_untriggered()


@pytest.mark.kvm
def test_a_physical_interrupt_does_not_have_it(make: Maker) -> None:
    interrupt = make.keep(zx.zx_interrupt_create(make.resource(), 0x40, 0))
    assert zx.zx_object_wait_one(interrupt, UNTRIGGERED, 0) == (Status.TIMED_OUT, 0)
    assert zx.zx_interrupt_destroy(interrupt) is OK
    assert zx.zx_object_wait_one(interrupt, UNTRIGGERED, 0) == (Status.TIMED_OUT, 0)
