"""The interrupt's state machine, cell by cell: what each call answers in each state, and what is seen of it after."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.zircon import handles
from kvmbind.zircon.interrupt import InterruptDispatcher
from kvmbind.zx import ZX_INTERRUPT_BIND, ZX_INTERRUPT_UNBIND, ZX_PKT_TYPE_INTERRUPT, PortPacket, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.zx.conftest import Maker

    Cell = tuple[str, str, Status | int, Mapping[str, object]]

OK, CANCELED, BAD_STATE, NOT_FOUND = Status.OK, Status.CANCELED, Status.BAD_STATE, Status.NOT_FOUND
ALREADY_BOUND, TIMED_OUT = Status.ALREADY_BOUND, Status.TIMED_OUT
KEY = 0xFFFF_0000_1234_5678


class Bench:
    """An interrupt, the port that it may be bound to, and another one."""

    def __init__(self, make: Maker) -> None:
        self.interrupt = make.interrupt()
        self.port = make.port()
        self.other = make.port()

    def trigger(self, timestamp: int) -> Status:
        return zx.zx_interrupt_trigger(self.interrupt, 0, timestamp)

    def wait(self) -> int | Status:
        """What a wait gives that does not sleep: a timestamp or a status."""
        try:
            return kvmbind.Interrupt.borrow(self.interrupt).wait(timeout_s=0)
        except kvmbind.ZxError as error:
            return error.status

    def packets(self) -> list[int]:
        """The timestamps of the packets that wait in the port."""
        taken = []
        while (result := zx.zx_port_wait(self.port, 0))[0] is OK:
            packet = result[1]
            expected = PortPacket(key=KEY, type=ZX_PKT_TYPE_INTERRUPT)
            expected.interrupt.timestamp = packet.interrupt.timestamp
            assert packet == expected
            taken.append(packet.interrupt.timestamp)
        assert result == (TIMED_OUT, PortPacket())
        return taken

    def act(self, action: str) -> int | Status:
        """Does it by name; trigger's name has the timestamp."""
        match action.split():
            case ["trigger", timestamp]:
                return self.trigger(int(timestamp))
            case ["wait"]:
                return self.wait()
            case ["read"]:
                assert len(self.packets()) == 1
                return OK
            case ["ack"]:
                return zx.zx_interrupt_ack(self.interrupt)
            case ["bind"]:
                return zx.zx_interrupt_bind(self.interrupt, self.port, KEY, ZX_INTERRUPT_BIND)
            case ["bind-other"]:
                return zx.zx_interrupt_bind(self.interrupt, self.other, KEY, ZX_INTERRUPT_BIND)
            case ["unbind"]:
                return zx.zx_interrupt_bind(self.interrupt, self.port, 0, ZX_INTERRUPT_UNBIND)
            case ["unbind-other"]:
                return zx.zx_interrupt_bind(self.interrupt, self.other, 0, ZX_INTERRUPT_UNBIND)
            case ["destroy"]:
                return zx.zx_interrupt_destroy(self.interrupt)
        raise ValueError(action)


#: How each state is reached.
STATES = {
    "IDLE": [],
    "TRIGGERED": ["trigger 10"],
    "NEEDACK": ["trigger 10", "wait"],
    "NEEDACK+": ["trigger 10", "wait", "trigger 20"],
    "DESTROYED": ["destroy"],
    "bound IDLE": ["bind"],
    "bound QUEUED": ["bind", "trigger 10"],
    "bound READ": ["bind", "trigger 10", "read"],
    "bound READ+": ["bind", "trigger 10", "read", "trigger 20"],
    "bound QUEUED+": ["bind", "trigger 10", "trigger 20"],
    "bound ACKED": ["bind", "trigger 10", "ack"],
    "bound DESTROYED": ["bind", "destroy"],
}

#: State, call, its answer, and then the answers of further calls: "ports" is what waits in the port.
CELLS: list[Cell] = [
    # Triggers, unbound: the first timestamp is kept until a wait takes it.
    ("IDLE", "trigger 30", OK, {"wait": 30, "wait again": TIMED_OUT}),
    ("TRIGGERED", "trigger 30", OK, {"wait": 10, "wait again": TIMED_OUT}),
    ("NEEDACK", "trigger 30", OK, {"wait": 30, "wait again": TIMED_OUT}),
    ("NEEDACK+", "trigger 30", OK, {"wait": 20, "wait again": TIMED_OUT}),
    ("DESTROYED", "trigger 30", CANCELED, {"wait": CANCELED}),
    # Triggers, bound: one packet; those before the ack are one more, with the first one's timestamp.
    ("bound IDLE", "trigger 30", OK, {"packets": [30], "ack": OK, "packets again": []}),
    ("bound QUEUED", "trigger 30", OK, {"packets": [10], "ack": OK, "packets again": [30]}),
    ("bound READ", "trigger 30", OK, {"packets": [], "ack": OK, "packets again": [30]}),
    ("bound READ+", "trigger 30", OK, {"packets": [], "ack": OK, "packets again": [20]}),
    ("bound QUEUED+", "trigger 30", OK, {"packets": [10], "ack": OK, "packets again": [20]}),
    ("bound ACKED", "trigger 30", OK, {"packets": [10], "ack": OK, "packets again": []}),
    ("bound DESTROYED", "trigger 30", CANCELED, {"packets": []}),
    # Waits.
    ("IDLE", "wait", TIMED_OUT, {"trigger 30": OK, "wait": 30}),
    ("TRIGGERED", "wait", 10, {"wait": TIMED_OUT}),
    ("NEEDACK", "wait", TIMED_OUT, {"trigger 30": OK, "wait": 30}),
    ("NEEDACK+", "wait", 20, {"trigger 30": OK, "wait": 30, "wait again": TIMED_OUT}),
    ("DESTROYED", "wait", CANCELED, {}),
    ("bound IDLE", "wait", BAD_STATE, {"trigger 30": OK, "packets": [30]}),
    ("bound QUEUED", "wait", BAD_STATE, {"packets": [10]}),
    ("bound READ", "wait", BAD_STATE, {"packets": []}),
    ("bound DESTROYED", "wait", BAD_STATE, {}),
    # Acks.
    ("IDLE", "ack", BAD_STATE, {"wait": TIMED_OUT}),
    ("TRIGGERED", "ack", BAD_STATE, {"wait": 10}),
    ("NEEDACK", "ack", BAD_STATE, {"wait": TIMED_OUT}),
    ("NEEDACK+", "ack", BAD_STATE, {"wait": 20}),
    ("DESTROYED", "ack", BAD_STATE, {"wait": CANCELED}),
    ("bound IDLE", "ack", OK, {"packets": [], "trigger 30": OK, "packets again": [30]}),
    ("bound QUEUED", "ack", OK, {"packets": [10], "trigger 30": OK, "packets again": [30]}),
    ("bound READ", "ack", OK, {"packets": [], "trigger 30": OK, "packets again": [30]}),
    ("bound READ+", "ack", OK, {"packets": [20], "ack": OK, "packets again": []}),
    ("bound QUEUED+", "ack", BAD_STATE, {"packets": [10], "ack": OK, "packets again": []}),
    ("bound QUEUED+", "ack", BAD_STATE, {"packets": [10], "trigger 30": OK, "packets again": []}),
    ("bound ACKED", "ack", OK, {"packets": [10], "trigger 30": OK, "packets again": [30]}),
    ("bound DESTROYED", "ack", CANCELED, {}),
    # Binding to a port.
    ("IDLE", "bind", OK, {"packets": [], "trigger 30": OK, "packets again": [30]}),
    ("TRIGGERED", "bind", OK, {"packets": [10], "trigger 30": OK, "ack": OK, "packets again": [30]}),
    ("NEEDACK", "bind", OK, {"trigger 30": OK, "packets": [], "ack": OK, "packets again": [30]}),
    ("NEEDACK+", "bind", OK, {"packets": [], "trigger 30": OK, "ack": OK, "packets again": [20], "ack again": OK}),
    ("NEEDACK+", "bind", OK, {"unbind": OK, "wait": 20, "wait again": TIMED_OUT}),
    ("DESTROYED", "bind", CANCELED, {"wait": CANCELED}),
    *[
        (state, bind, ALREADY_BOUND, {"packets": packets})
        for bind in ("bind", "bind-other")
        for state, packets in [("bound IDLE", []), ("bound QUEUED", [10]), ("bound READ", []), ("bound ACKED", [10])]
    ],
    ("bound DESTROYED", "bind", CANCELED, {}),
    ("bound DESTROYED", "bind-other", CANCELED, {}),
    # Unbinding: the packet is taken back, the state stays.
    ("IDLE", "unbind", NOT_FOUND, {"wait": TIMED_OUT}),
    ("TRIGGERED", "unbind", NOT_FOUND, {"wait": 10}),
    ("DESTROYED", "unbind", NOT_FOUND, {}),
    ("bound IDLE", "unbind", OK, {"packets": [], "wait": TIMED_OUT, "trigger 30": OK, "wait again": 30}),
    ("bound QUEUED", "unbind", OK, {"packets": [], "wait": TIMED_OUT, "trigger 30": OK, "wait again": 30}),
    ("bound QUEUED", "unbind", OK, {"bind": OK, "trigger 30": OK, "packets": [], "ack": OK, "packets again": [30]}),
    ("bound READ", "unbind", OK, {"bind": OK, "trigger 30": OK, "packets": [], "ack": OK, "packets again": [30]}),
    ("bound READ+", "unbind", OK, {"wait": 20, "wait again": TIMED_OUT, "trigger 30": OK, "bind": OK, "packets": [30]}),
    ("bound READ+", "unbind", OK, {"trigger 30": OK, "wait": 20, "wait again": TIMED_OUT}),
    ("bound READ+", "unbind", OK, {"bind": OK, "packets": [], "ack": OK, "packets again": [20]}),
    ("bound QUEUED+", "unbind", OK, {"packets": [], "wait": 20, "wait again": TIMED_OUT}),
    ("bound ACKED", "unbind", OK, {"packets": [], "bind": OK, "trigger 30": OK, "packets again": [30]}),
    ("bound DESTROYED", "unbind", CANCELED, {"ack": CANCELED}),
    *[
        (state, "unbind-other", NOT_FOUND, {"packets": packets})
        for state, packets in [("bound IDLE", []), ("bound QUEUED", [10]), ("bound DESTROYED", [])]
    ],
    # Destroying: NOT_FOUND when the packet was read and not acknowledged; destroyed it is.
    *[
        (state, "destroy", OK, {"trigger 30": CANCELED, "wait": CANCELED, "bind": CANCELED, "destroy": OK})
        for state in ("IDLE", "TRIGGERED", "NEEDACK", "NEEDACK+", "DESTROYED")
    ],
    *[
        (state, "destroy", status, {"packets": [], "trigger 30": CANCELED, "ack": CANCELED, "wait": BAD_STATE,
                                    "bind": CANCELED, "unbind": CANCELED, "destroy": OK})
        for state, status in [("bound IDLE", OK), ("bound QUEUED", OK), ("bound READ", NOT_FOUND),
                              ("bound READ+", NOT_FOUND), ("bound QUEUED+", OK), ("bound ACKED", OK),
                              ("bound DESTROYED", OK)]
    ],
]  # fmt: skip


def words(cell: Cell) -> str:
    state, action, answer, after = cell
    return f"{state}-{action}-{answer}-{' '.join(after)}"


@pytest.mark.parametrize(("state", "action", "answer", "after"), CELLS, ids=map(words, CELLS))
def test_a_call_answers_so_in_this_state_and_is_followed_by_this(
    make: Maker, state: str, action: str, answer: Status | int, after: dict[str, object]
) -> None:
    bench = Bench(make)
    for step in STATES[state]:
        assert bench.act(step) in (OK, 10)
    assert bench.act(action) == answer
    for step, expected in after.items():
        name = step.removesuffix(" again")
        assert (bench.packets() if name == "packets" else bench.act(name)) == expected, step


@pytest.mark.parametrize("state", [state for state in STATES if state.startswith("bound")])
def test_closing_the_last_handle_takes_the_packet_back(make: Maker, state: str) -> None:
    bench = Bench(make)
    for step in STATES[state]:
        bench.act(step)
    assert zx.zx_handle_close(bench.interrupt) is OK
    assert bench.packets() == []


@pytest.mark.parametrize("timestamp", [-(1 << 63), -1, 0, 1, (1 << 63) - 1])
def test_any_timestamp_comes_through_zero_too(make: Maker, timestamp: int) -> None:
    bench = Bench(make)
    bench.trigger(timestamp)
    assert zx.zx_interrupt_wait(bench.interrupt) == (OK, timestamp)
    bench.act("bind")
    bench.trigger(timestamp)
    assert [bench.act("ack"), bench.packets()] == [OK, [timestamp]]


class Waiter:
    """A thread inside zx_interrupt_wait."""

    def __init__(self, interrupt: int) -> None:
        self.result: tuple[Status, int] | None = None
        self._obj = handles.find(interrupt, InterruptDispatcher)
        self._thread = threading.Thread(target=self._run, args=(interrupt,))
        self._thread.start()

    def _run(self, interrupt: int) -> None:
        self.result = zx.zx_interrupt_wait(interrupt)

    def is_inside(self) -> bool:
        return self._obj._waiter

    def ended(self) -> tuple[Status, int] | None:
        self._thread.join(60)
        return self.result


#: While a thread waits: the call, its answer, and how the wait ends by that (None: it goes on).
WHILE_WAITING = [
    ("trigger 30", OK, (OK, 30)),
    ("wait", BAD_STATE, None),
    ("ack", BAD_STATE, None),
    ("bind", BAD_STATE, None),
    ("unbind", NOT_FOUND, None),
    ("destroy", OK, (CANCELED, 0)),
]


@pytest.mark.parametrize(("action", "answer", "result"), WHILE_WAITING, ids=[row[0] for row in WHILE_WAITING])
@pytest.mark.parametrize("before", ["IDLE", "NEEDACK"])
def test_while_a_thread_waits(
    make: Maker, before: str, action: str, answer: Status, result: tuple[Status, int] | None
) -> None:
    bench = Bench(make)
    for step in STATES[before]:
        bench.act(step)
    waiter = Waiter(bench.interrupt)
    make.until(waiter.is_inside)
    assert bench.act(action) is answer
    if result is None:
        assert waiter.is_inside()
        bench.trigger(77)
        result = OK, 77
    assert waiter.ended() == result


def test_closing_the_last_handle_cancels_the_wait_and_closing_another_does_not(make: Maker) -> None:
    bench = Bench(make)
    other = make.with_rights(bench.interrupt, 0)
    waiter = Waiter(bench.interrupt)
    make.until(waiter.is_inside)
    zx.zx_handle_close(other)
    assert waiter.is_inside()
    zx.zx_handle_close(bench.interrupt)
    assert waiter.ended() == (CANCELED, 0)


def test_a_wait_is_woken_again_and_again_by_whatever_thread_triggers(make: Maker) -> None:
    bench = Bench(make)
    for timestamp in range(200):
        waiter = Waiter(bench.interrupt)
        make.elsewhere(partial(bench.trigger, timestamp))
        assert waiter.ended() == (OK, timestamp)
    assert bench.wait() is TIMED_OUT


@pytest.mark.kvm
def test_an_interrupt_that_is_bound_to_a_vcpu_has_no_other_use_before_and_after_its_end(make: Maker) -> None:
    bench = Bench(make)
    bench.interrupt = make.interrupt(0x40)
    assert zx.zx_interrupt_bind_vcpu(bench.interrupt, make.vcpu(make.guest().guest), 0) is OK
    expected = {"trigger 1": OK, "wait": BAD_STATE, "ack": BAD_STATE, "bind": ALREADY_BOUND, "unbind": NOT_FOUND}
    assert {action: bench.act(action) for action in expected} == expected
    expected = {"destroy": OK, "trigger 1": CANCELED, "wait": BAD_STATE, "ack": BAD_STATE, "bind": CANCELED,
                "unbind": NOT_FOUND}  # fmt: skip
    assert {action: bench.act(action) for action in expected} == expected
    assert bench.act("destroy") is OK
