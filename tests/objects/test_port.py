"""Port: packets, timeouts and its fd."""

from __future__ import annotations

import math
import select
import threading
import time
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Port, PortPacket
from kvmbind.zx import ZX_RIGHT_READ, ZX_RIGHT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def port() -> Iterator[Port]:
    with Port.create() as port:
        yield port


def test_packets_come_in_their_order(port: Port) -> None:
    for key in range(5):
        port.queue(PortPacket(key=key))
    assert [port.wait(0).key for _ in range(5)] == list(range(5))


@pytest.mark.parametrize("timeout_s", [-1, 0, 0.003])
def test_a_wait_times_out_no_earlier_than_asked(port: Port, timeout_s: float) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^zx_port_wait: TIMED_OUT"):
        port.wait(timeout_s)
    assert time.monotonic() >= start + timeout_s


@pytest.mark.parametrize("timeout_s", [None, math.inf, 1e300, 1e9])
def test_a_wait_for_very_long_is_one_for_ever(port: Port, timeout_s: float | None) -> None:
    taken = list[int]()
    thread = threading.Thread(target=lambda: taken.append(port.wait(timeout_s).key))
    thread.start()
    port.queue(PortPacket(key=4))
    thread.join(60)
    assert taken == [4]


def test_it_works_in_a_poll_of_the_callers_own(port: Port) -> None:
    poll = select.poll()
    poll.register(port, select.POLLIN)
    assert poll.poll(0) == []
    port.queue(PortPacket(key=1))
    assert poll.poll(0) == [(port.fileno(), select.POLLIN)]
    port.wait(0)
    assert poll.poll(0) == []


def test_a_full_port_says_so(port: Port) -> None:
    for _ in range(2049):
        port.queue(PortPacket())
    with pytest.raises(BlockingIOError, match="2049 packets wait: take some first"):
        port.queue(PortPacket())


def test_closing_it_cancels_who_waits(port: Port) -> None:
    errors, entered = list[str](), threading.Event()

    def wait() -> None:
        with port.duplicate() as own:
            entered.set()
            port.close()
            other = threading.Thread(target=own.close)
            other.start()
            try:
                own.wait(60)
            except (kvmbind.CanceledError, kvmbind.BadHandleError) as error:
                errors.append(error.call)
            other.join(60)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(120)
    assert entered.is_set()
    assert len(errors) == 1


USES: list[tuple[str, int, Callable[[Port], object]]] = [
    ("zx_port_wait", ZX_RIGHT_READ, lambda port: port.wait(0)),
    ("zx_port_queue", ZX_RIGHT_WRITE, lambda port: port.queue(PortPacket())),
]


@pytest.mark.parametrize(("call", "right", "use"), USES)
def test_a_use_needs_its_right_and_an_open_port(
    port: Port, call: str, right: int, use: Callable[[Port], object]
) -> None:
    with port.duplicate(port.rights & ~right) as less, pytest.raises(kvmbind.AccessDeniedError, match=f"^{call}: "):
        use(less)
    port.close()
    with pytest.raises(kvmbind.BadHandleError, match=f"^{call}: .*the Port is closed"):
        use(port)
