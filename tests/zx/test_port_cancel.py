"""zx_port_cancel: which waits and packets it takes back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kvmbind import zx
from kvmbind.zx import (
    ZX_RIGHT_SAME_RIGHTS,
    ZX_TIME_INFINITE,
    ZX_USER_SIGNAL_0,
    ZX_USER_SIGNAL_1,
    PortPacket,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, NOT_FOUND, ACCESS_DENIED, BAD_HANDLE = Status.OK, Status.NOT_FOUND, Status.ACCESS_DENIED, Status.BAD_HANDLE
NOTHING = (Status.TIMED_OUT, PortPacket())
KEY = 0xFFFF_0000_1234_5678


def signal(handle: int, clear: int, set_: int) -> None:
    assert zx.zx_object_signal(handle, clear, set_) is OK


def wait_async(handle: int, port: int, *, key: int = KEY, signals: int = ZX_USER_SIGNAL_0) -> None:
    assert zx.zx_object_wait_async(handle, port, key, signals, 0) is OK


class Bench:
    """A VMO and a port whose waits are canceled."""

    def __init__(self, make: Maker) -> None:
        self.vmo = make.vmo(4096)
        self.other = make.with_rights(self.vmo, ZX_RIGHT_SAME_RIGHTS)
        self.port = make.port()

    def keys(self) -> list[int]:
        keys = []
        while (result := zx.zx_port_wait(self.port, 0)) != NOTHING:
            keys.append(result[1].key)
        return keys


def test_it_ends_the_waits_of_one_handle_with_one_key(make: Maker) -> None:
    bench = Bench(make)
    for handle, key in [(bench.vmo, 1), (bench.vmo, 2), (bench.vmo, 1), (bench.other, 1)]:
        wait_async(handle, bench.port, key=key)
    assert zx.zx_port_cancel(bench.port, bench.vmo, 1) is OK
    assert zx.zx_port_cancel(bench.port, bench.vmo, 1) is NOT_FOUND
    signal(bench.vmo, 0, ZX_USER_SIGNAL_0)
    assert bench.keys() == [2, 1]


def test_it_takes_packets_back_and_leaves_those_of_users_and_interrupts(make: Maker) -> None:
    bench = Bench(make)
    interrupt = make.interrupt()
    assert zx.zx_interrupt_bind(interrupt, bench.port, 1, 0) is OK
    zx.zx_interrupt_trigger(interrupt, 0, 0)
    signal(bench.vmo, 0, ZX_USER_SIGNAL_0)
    wait_async(bench.vmo, bench.port, key=1)
    zx.zx_port_queue(bench.port, PortPacket(key=1))
    wait_async(bench.vmo, bench.port, key=5)
    wait_async(bench.other, bench.port, key=1, signals=ZX_USER_SIGNAL_1)
    assert zx.zx_port_cancel(bench.port, bench.vmo, 1) is OK
    assert zx.zx_port_cancel(bench.port, interrupt, 1) is NOT_FOUND
    assert bench.keys() == [1, 1, 5]
    assert zx.zx_port_cancel(bench.port, bench.other, 1) is OK


def test_it_leaves_the_waits_to_another_port(make: Maker) -> None:
    bench, port = Bench(make), make.port()
    wait_async(bench.vmo, bench.port)
    assert zx.zx_port_cancel(port, bench.vmo, KEY) is NOT_FOUND
    signal(bench.vmo, 0, ZX_USER_SIGNAL_0)
    assert bench.keys() == [KEY]


def test_a_packet_that_was_read_cannot_be_canceled(make: Maker) -> None:
    bench = Bench(make)
    signal(bench.vmo, 0, ZX_USER_SIGNAL_0)
    wait_async(bench.vmo, bench.port)
    assert bench.keys() == [KEY]
    assert zx.zx_port_cancel(bench.port, bench.vmo, KEY) is NOT_FOUND


def test_packets_that_are_sent_and_canceled_at_once_are_each_read_or_canceled(make: Maker) -> None:
    bench, rounds = Bench(make), 500
    keys = list[int]()
    canceled = set[int]()

    def read() -> None:
        while (packet := zx.zx_port_wait(bench.port, ZX_TIME_INFINITE)[1]).key != rounds:
            keys.append(packet.key)

    def flip() -> None:
        for _ in range(4 * rounds):
            signal(bench.vmo, 0, ZX_USER_SIGNAL_0)
            signal(bench.vmo, ZX_USER_SIGNAL_0, 0)

    threads = [threading.Thread(target=read), threading.Thread(target=flip)]
    for thread in threads:
        thread.start()
    for key in range(rounds):
        wait_async(bench.vmo, bench.port, key=key)
        if zx.zx_port_cancel(bench.port, bench.vmo, key) is OK:
            canceled.add(key)
    threads[1].join(60)
    zx.zx_port_queue(bench.port, PortPacket(key=rounds))
    threads[0].join(60)
    assert sorted([*keys, *canceled]) == list(range(rounds))
