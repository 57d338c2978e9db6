"""zx_port_*: which packet comes when, to whom, and how long one waits for it."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.zircon import handles
from kvmbind.zircon.packets import PENDING_MAX
from kvmbind.zircon.port import PortDispatcher
from kvmbind.zx import (
    ZX_INTERRUPT_BIND,
    ZX_INTERRUPT_UNBIND,
    ZX_PKT_TYPE_GUEST_IO,
    ZX_PKT_TYPE_INTERRUPT,
    ZX_PKT_TYPE_USER,
    ZX_PORT_BIND_TO_INTERRUPT,
    ZX_TIME_INFINITE,
    ZX_TIME_INFINITE_PAST,
    PortPacket,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, TIMED_OUT = Status.OK, Status.TIMED_OUT
NOTHING = (TIMED_OUT, PortPacket())
PAYLOAD = bytes(range(1, 33))


def user(key: int) -> PortPacket:
    return PortPacket(key=key)


def queue(port: int, key: int) -> None:
    assert zx.zx_port_queue(port, user(key)) is OK


def next_key(port: int) -> int:
    """The key of the packet that waits; its type must be that of a user or an interrupt."""
    status, packet = zx.zx_port_wait(port, ZX_TIME_INFINITE_PAST)
    assert status is OK
    return packet.key


def bound(make: Maker, port: int, key: int) -> int:
    interrupt = make.interrupt()
    assert zx.zx_interrupt_bind(interrupt, port, key, ZX_INTERRUPT_BIND) is OK
    return interrupt


def readable(port: int) -> bool:
    return bool(select.select([kvmbind.Port.borrow(port)], [], [], 0)[0])


@pytest.mark.parametrize("options", [0, ZX_PORT_BIND_TO_INTERRUPT])
def test_packets_of_users_come_in_their_order(make: Maker, options: int) -> None:
    port = make.port(options)
    for key in range(100):
        queue(port, key)
    assert [next_key(port) for _ in range(100)] == list(range(100))
    assert zx.zx_port_wait(port, 0) == NOTHING


@pytest.mark.parametrize("kind", [ZX_PKT_TYPE_USER, ZX_PKT_TYPE_INTERRUPT, ZX_PKT_TYPE_GUEST_IO, 0xFFFFFFFF])
def test_a_packet_keeps_its_key_status_and_payload_and_becomes_one_of_a_user(make: Maker, kind: int) -> None:
    port = make.port()
    packet = PortPacket(key=(1 << 64) - 2, type=kind, status=-7)
    packet.user.c8[:] = PAYLOAD
    assert zx.zx_port_queue(port, packet) is OK
    packet.key = packet.status = 0  # a copy was queued
    packet.user.c8[:] = bytes(32)
    status, taken = zx.zx_port_wait(port, 0)
    assert (status, taken.key, taken.type, taken.status) == (OK, (1 << 64) - 2, ZX_PKT_TYPE_USER, -7)
    assert bytes(taken)[16:] == PAYLOAD


def test_2049_packets_fit_and_one_more_should_wait(make: Maker) -> None:
    port = make.port()
    for key in range(PENDING_MAX + 1):
        queue(port, key)
    assert PENDING_MAX == 2048
    for _ in range(2):
        assert zx.zx_port_queue(port, user(9999)) is Status.SHOULD_WAIT
    assert next_key(port) == 0
    queue(port, 5000)
    assert zx.zx_port_queue(port, user(9999)) is Status.SHOULD_WAIT
    assert [next_key(port) for _ in range(PENDING_MAX + 1)] == [*range(1, PENDING_MAX + 1), 5000]
    assert zx.zx_port_wait(port, 0) == NOTHING


def test_interrupts_come_first_and_in_the_order_of_their_triggers(make: Maker) -> None:
    port = make.port()
    interrupts = [bound(make, port, 100 + number) for number in range(4)]
    queue(port, 1)
    for number in (2, 0, 3):
        assert zx.zx_interrupt_trigger(interrupts[number], 0, 0) is OK
    queue(port, 2)
    zx.zx_interrupt_trigger(interrupts[1], 0, 0)
    assert [next_key(port) for _ in range(6)] == [102, 100, 103, 101, 1, 2]


def test_a_full_port_still_takes_interrupts(make: Maker) -> None:
    port = make.port()
    interrupt = bound(make, port, 77)
    for key in range(PENDING_MAX + 1):
        queue(port, key)
    zx.zx_interrupt_trigger(interrupt, 0, 0)
    assert next_key(port) == 77


@pytest.mark.parametrize("deadline", [ZX_TIME_INFINITE_PAST, -1, 0, 1])
def test_a_deadline_that_has_passed_gives_the_packet_that_is_there_or_times_out(make: Maker, deadline: int) -> None:
    port = make.port()
    assert zx.zx_port_wait(port, deadline) == NOTHING
    queue(port, 5)
    assert zx.zx_port_wait(port, deadline) == (OK, user(5))


def test_a_wait_does_not_end_before_its_deadline(make: Maker) -> None:
    port = make.port()
    deadline = zx.zx_deadline_after(3_000_000)
    assert zx.zx_port_wait(port, deadline) == NOTHING
    assert zx.zx_clock_get_monotonic() >= deadline


@pytest.mark.parametrize("source", ["user", "interrupt", "bind"])
def test_a_sleeping_wait_is_woken_by_each_kind_of_packet(make: Maker, source: str) -> None:
    port = make.port()
    interrupt = make.interrupt()
    if source == "interrupt":
        zx.zx_interrupt_bind(interrupt, port, 9, 0)
    elif source == "bind":
        zx.zx_interrupt_trigger(interrupt, 0, 5)
    taken = list[tuple[Status, PortPacket]]()
    thread = threading.Thread(target=lambda: taken.append(zx.zx_port_wait(port, ZX_TIME_INFINITE)))
    thread.start()
    match source:
        case "user":
            queue(port, 9)
        case "interrupt":
            zx.zx_interrupt_trigger(interrupt, 0, 5)
        case "bind":
            zx.zx_interrupt_bind(interrupt, port, 9, 0)
    thread.join(60)
    assert [(status, packet.key) for status, packet in taken] == [(OK, 9)]


def test_several_waiters_share_the_packets_and_each_goes_to_one(make: Maker) -> None:
    port, keys, lock = make.port(), list[int](), threading.Lock()
    interrupts = [bound(make, port, 10_000 + number) for number in range(8)]

    def run() -> None:
        while True:
            status, packet = zx.zx_port_wait(port, ZX_TIME_INFINITE)
            assert status is OK
            if packet.key == 0:
                return
            with lock:
                keys.append(packet.key)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for key in range(1, 1001):
        while zx.zx_port_queue(port, user(key)) is not OK:
            pass
        if key % 125 == 0:
            zx.zx_interrupt_trigger(interrupts[key // 125 - 1], 0, 0)
    make.until(lambda: len(keys) == 1008)
    for _ in threads:
        queue(port, 0)
    for thread in threads:
        thread.join(60)
    assert sorted(keys) == [*range(1, 1001), *range(10_000, 10_008)]


def test_closing_the_last_handle_drops_the_packets_and_cancels_who_waits(make: Maker) -> None:
    port, results = make.port(), list[tuple[Status, PortPacket]]()
    obj = handles.find(port, PortDispatcher)
    threads = [
        threading.Thread(target=lambda: results.append(zx.zx_port_wait(port, ZX_TIME_INFINITE))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    make.until(lambda: obj.sleepers == 3)
    zx.zx_handle_close(port)
    for thread in threads:
        thread.join(60)
    assert results == [(Status.CANCELED, PortPacket())] * 3


def test_closing_one_of_two_handles_keeps_the_packets(make: Maker) -> None:
    port = make.port()
    queue(port, 4)
    zx.zx_handle_close(make.with_rights(port, 0))
    assert next_key(port) == 4


@pytest.mark.parametrize(("triggers", "end"), [(0, OK), (1, Status.NOT_FOUND), (2, Status.NOT_FOUND)])
def test_closing_a_port_drops_the_packet_of_an_interrupt_too(make: Maker, triggers: int, end: Status) -> None:
    port = make.port()
    interrupt = bound(make, port, 1)
    for timestamp in range(triggers):
        assert zx.zx_interrupt_trigger(interrupt, 0, timestamp) is OK
    assert zx.zx_handle_close(port) is OK
    assert zx.zx_interrupt_trigger(interrupt, 0, 9) is OK
    assert zx.zx_interrupt_destroy(interrupt) is end
    assert zx.zx_interrupt_destroy(interrupt) is OK


def test_its_fd_is_readable_exactly_while_a_packet_waits(make: Maker) -> None:
    port = make.port()
    interrupt = bound(make, port, 9)
    seen = []

    def see(expected: bool) -> None:
        seen.append((readable(port), expected))

    see(False)
    queue(port, 1)
    queue(port, 2)
    see(True)
    next_key(port)
    see(True)
    next_key(port)
    see(False)
    zx.zx_interrupt_trigger(interrupt, 0, 1)
    see(True)
    next_key(port)
    see(False)
    zx.zx_interrupt_trigger(interrupt, 0, 2)  # kept back until the ack
    see(False)
    zx.zx_interrupt_ack(interrupt)
    see(True)
    next_key(port)
    zx.zx_interrupt_ack(interrupt)
    see(False)
    zx.zx_interrupt_trigger(interrupt, 0, 3)
    zx.zx_interrupt_bind(interrupt, port, 0, ZX_INTERRUPT_UNBIND)
    see(False)
    zx.zx_interrupt_trigger(interrupt, 0, 4)
    see(False)
    zx.zx_interrupt_bind(interrupt, port, 9, ZX_INTERRUPT_BIND)
    see(False)  # the trigger before the unbind has not been acknowledged
    zx.zx_interrupt_ack(interrupt)
    see(True)
    zx.zx_interrupt_destroy(interrupt)
    see(False)
    assert [place for place, (is_readable, expected) in enumerate(seen) if is_readable != expected] == []


def test_its_fd_is_not_readable_for_a_trigger_that_waits_for_its_ack_since_before_the_bind(make: Maker) -> None:
    port, interrupt = make.port(), make.interrupt()
    zx.zx_interrupt_trigger(interrupt, 0, 1)
    assert zx.zx_interrupt_wait(interrupt) == (OK, 1)  # NEEDACK from here on
    zx.zx_interrupt_bind(interrupt, port, 9, ZX_INTERRUPT_BIND)
    zx.zx_interrupt_trigger(interrupt, 0, 2)
    assert not readable(port)
    zx.zx_interrupt_ack(interrupt)
    assert readable(port)
    assert next_key(port) == 9
