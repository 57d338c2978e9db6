"""zx_object_wait_async: which packet comes when an object has a signal."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zircon import handles
from kvmbind.zircon.packets import PENDING_MAX, WAITS_MAX
from kvmbind.zx import (
    ZX_PKT_TYPE_SIGNAL_ONE,
    ZX_RIGHT_WAIT,
    ZX_TIME_INFINITE,
    ZX_USER_SIGNAL_0,
    ZX_USER_SIGNAL_1,
    ZX_USER_SIGNAL_2,
    ZX_VMO_ZERO_CHILDREN,
    ZX_WAIT_ASYNC_EDGE,
    ZX_WAIT_ASYNC_ONCE,
    ZX_WAIT_ASYNC_TIMESTAMP,
    PortPacket,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, INVALID_ARGS, ACCESS_DENIED, BAD_HANDLE = Status.OK, Status.INVALID_ARGS, Status.ACCESS_DENIED, Status.BAD_HANDLE
NOTHING = (Status.TIMED_OUT, PortPacket())
ALWAYS = ZX_VMO_ZERO_CHILDREN
KEY = 0xFFFF_0000_1234_5678
EDGES = ZX_WAIT_ASYNC_EDGE, ZX_WAIT_ASYNC_EDGE | ZX_WAIT_ASYNC_TIMESTAMP


def signal(handle: int, clear: int, set_: int) -> None:
    assert zx.zx_object_signal(handle, clear, set_) is OK


def wait_async(
    handle: int, port: int, *, key: int = KEY, signals: int = ZX_USER_SIGNAL_0, options: int = ZX_WAIT_ASYNC_ONCE
) -> None:
    assert zx.zx_object_wait_async(handle, port, key, signals, options) is OK


def expected(trigger: int, observed: int, *, key: int = KEY) -> PortPacket:
    packet = PortPacket(key=key, type=ZX_PKT_TYPE_SIGNAL_ONE)
    packet.signal.trigger, packet.signal.observed, packet.signal.count = trigger, observed, 1
    return packet


def test_a_signal_that_is_there_sends_the_packet_at_once_and_only_one(make: Maker) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    signal(vmo, 0, ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_2)
    wanted = ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_1
    wait_async(vmo, port, signals=wanted)
    signal(vmo, ZX_USER_SIGNAL_0, 0)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    packet = expected(wanted, ALWAYS | ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_2)
    assert zx.zx_port_wait(port, 0) == (OK, packet)
    assert zx.zx_port_wait(port, 0) == NOTHING


def test_a_signal_that_comes_sends_the_packet_then(make: Maker) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    wait_async(vmo, port)
    signal(vmo, 0, ZX_USER_SIGNAL_1)
    assert zx.zx_port_wait(port, 0) == NOTHING
    signal(vmo, ZX_USER_SIGNAL_1, ZX_USER_SIGNAL_0)
    assert zx.zx_port_wait(port, 0) == (OK, expected(ZX_USER_SIGNAL_0, ALWAYS | ZX_USER_SIGNAL_0))


def test_a_thread_that_sleeps_on_the_port_is_woken(make: Maker) -> None:
    vmo, port, taken = make.vmo(4096), make.port(), list[tuple[Status, PortPacket]]()
    wait_async(vmo, port)
    thread = threading.Thread(target=lambda: taken.append(zx.zx_port_wait(port, ZX_TIME_INFINITE)))
    thread.start()
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    thread.join(60)
    assert taken == [(OK, expected(ZX_USER_SIGNAL_0, ALWAYS | ZX_USER_SIGNAL_0))]


def test_no_signal_at_all_is_never_there(make: Maker) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    wait_async(vmo, port, signals=0)
    signal(vmo, 0, 0xFF000000)
    assert zx.zx_port_wait(port, 0) == NOTHING


@pytest.mark.parametrize("options", EDGES)
def test_by_edge_a_signal_that_is_there_counts_only_when_it_comes_again(make: Maker, options: int) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    wait_async(vmo, port, options=options)
    signal(vmo, 0, ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_1)
    signal(vmo, ZX_USER_SIGNAL_0, ZX_USER_SIGNAL_0)
    signal(vmo, ZX_USER_SIGNAL_0, 0)
    assert zx.zx_port_wait(port, 0) == NOTHING
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    status, packet = zx.zx_port_wait(port, 0)
    assert (status, packet.signal.observed) == (OK, ALWAYS | ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_1)


@pytest.mark.parametrize("options", [ZX_WAIT_ASYNC_TIMESTAMP, ZX_WAIT_ASYNC_TIMESTAMP | ZX_WAIT_ASYNC_EDGE])
def test_with_timestamp_the_packet_says_when_the_signal_came(make: Maker, options: int) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    wait_async(vmo, port, options=options)
    before = zx.zx_clock_get_monotonic()
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    after = zx.zx_clock_get_monotonic()
    status, packet = zx.zx_port_wait(port, 0)
    assert status is OK
    assert before <= packet.signal.timestamp <= after


def test_packets_of_signals_and_of_users_come_in_their_order(make: Maker) -> None:
    vmo, port, other = make.vmo(4096), make.port(), make.vmo(4096)
    wait_async(vmo, port, key=3)
    wait_async(other, port, key=1)
    signal(other, 0, ZX_USER_SIGNAL_0)
    zx.zx_port_queue(port, PortPacket(key=2))
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert [zx.zx_port_wait(port, 0)[1].key for _ in range(3)] == [1, 2, 3]


def test_each_wait_of_an_object_sends_its_own_packet_to_its_own_port(make: Maker) -> None:
    vmo, ports = make.vmo(4096), [make.port(0), make.port(0)]
    for port in ports:
        for key in (1, 1, 2):
            wait_async(vmo, port, key=key)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    for port in ports:
        assert [zx.zx_port_wait(port, 0)[1].key for _ in range(3)] == [1, 1, 2]
        assert zx.zx_port_wait(port, 0) == NOTHING


def test_closing_the_handle_ends_the_wait_and_closing_another_does_not(make: Maker) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    watched, other = make.with_rights(vmo, ZX_RIGHT_WAIT), make.with_rights(vmo, ZX_RIGHT_WAIT)
    wait_async(watched, port, key=1)
    wait_async(other, port, key=2)
    assert zx.zx_handle_close(watched) is OK
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert zx.zx_port_wait(port, 0)[1].key == 2
    assert zx.zx_port_wait(port, 0) == NOTHING


def test_a_packet_in_the_port_outlives_the_handle_and_the_object(make: Maker) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    wait_async(vmo, port)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert zx.zx_handle_close(vmo) is OK
    assert zx.zx_port_wait(port, 0) == (OK, expected(ZX_USER_SIGNAL_0, ALWAYS | ZX_USER_SIGNAL_0))


def test_closing_the_port_ends_its_waits(make: Maker) -> None:
    vmo, port, kept = make.vmo(4096), make.port(0), make.port(0)
    for queue in (port, kept):
        wait_async(vmo, queue)
    assert zx.zx_handle_close(port) is OK
    assert len(handles.find_any(vmo).signals._observers) == 1
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert zx.zx_port_wait(kept, 0)[0] is OK


def test_a_packet_that_was_promised_comes_into_a_full_port_and_then_counts(make: Maker) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    wait_async(vmo, port)
    for _ in range(PENDING_MAX + 1):
        assert zx.zx_port_queue(port, PortPacket(key=1)) is OK
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert zx.zx_port_wait(port, 0)[1].key == 1
    assert zx.zx_port_queue(port, PortPacket(key=1)) is Status.SHOULD_WAIT
    keys = [zx.zx_port_wait(port, 0)[1].key for _ in range(PENDING_MAX + 1)]
    assert keys == [1] * PENDING_MAX + [KEY]


def test_a_port_takes_16384_waits_until_their_packets_are_read(make: Maker) -> None:
    vmo, port = make.vmo(4096), make.port(0)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    for number in range(WAITS_MAX):
        wait_async(vmo, port, signals=ZX_USER_SIGNAL_0 << number % 2)
    assert WAITS_MAX == 16384
    assert zx.zx_object_wait_async(vmo, port, 0, ZX_USER_SIGNAL_0, 0) is Status.NO_MEMORY
    assert zx.zx_port_wait(port, 0)[0] is OK
    wait_async(vmo, port)
