"""Interrupt: writes from outside to its eventfd, eventfds of others, waits with a timeout."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Interrupt, Port
from kvmbind.zircon import handles
from kvmbind.zircon.interrupt import InterruptDispatcher
from kvmbind.zx import ZX_RIGHT_READ, ZX_RIGHT_SIGNAL, ZX_RIGHT_WAIT, ZX_RIGHT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import WaitUntil

DEADLINE_S = 60
T0 = 1  # a trigger's own time, long ago


@pytest.fixture(params=[False, True], ids=["virtual", "physical"])
def interrupt(request: pytest.FixtureRequest) -> Iterator[Interrupt]:
    """An interrupt of either kind."""
    with Interrupt.create(0x40, physical=request.param) as interrupt:
        yield interrupt


@pytest.fixture
def virtual() -> Iterator[Interrupt]:
    with Interrupt.create() as interrupt:
        yield interrupt


@pytest.fixture
def port() -> Iterator[Port]:
    with Port.create(interrupts=True) as port:
        yield port


def write(interrupt: Interrupt, count: int = 1) -> None:
    os.eventfd_write(interrupt.fileno(), count)


def packets(port: Port) -> list[int]:
    """The timestamps of the packets that wait."""
    taken = []
    while True:
        try:
            taken.append(port.wait(0).interrupt.timestamp)
        except kvmbind.TimedOutError:
            return taken


def is_now(timestamp_ns: int, since_ns: int) -> bool:
    return since_ns <= timestamp_ns <= time.monotonic_ns()


def test_a_write_is_a_trigger_with_the_time_at_which_it_is_seen(interrupt: Interrupt) -> None:
    write(interrupt)
    seen_ns = time.monotonic_ns()
    assert is_now(interrupt.wait(0), seen_ns)
    with pytest.raises(kvmbind.TimedOutError, match="it was not triggered before the deadline"):
        interrupt.wait(0)


@pytest.mark.parametrize("counts", [[1, 1, 1], [5], [2**64 - 2]])
def test_writes_that_nobody_has_seen_are_one_trigger(interrupt: Interrupt, counts: list[int]) -> None:
    for count in counts:
        write(interrupt, count)
    interrupt.wait(0)
    with pytest.raises(kvmbind.TimedOutError):
        interrupt.wait(0)


def test_a_write_wakes_a_thread_that_waits(interrupt: Interrupt, wait_until: WaitUntil) -> None:
    results, obj = list[int](), handles.find(interrupt.handle, InterruptDispatcher)
    thread = threading.Thread(target=lambda: results.append(interrupt.wait()))
    thread.start()
    wait_until(lambda: obj._waiter)
    since_ns = time.monotonic_ns()
    write(interrupt)
    thread.join(DEADLINE_S)
    assert [is_now(result, since_ns) for result in results] == [True]


def test_a_trigger_and_a_write_that_nobody_has_seen_are_one_with_the_triggers_time(virtual: Interrupt) -> None:
    for order in ("trigger write", "write trigger"):
        for step in order.split():
            virtual.trigger(T0) if step == "trigger" else write(virtual)
        assert virtual.wait(0) == T0
        with pytest.raises(kvmbind.TimedOutError):
            virtual.wait(0)


def test_a_write_is_a_packet_when_a_port_is_bound_and_the_next_one_after_the_ack(
    interrupt: Interrupt, port: Port
) -> None:
    interrupt.bind(port, 3)
    since_ns = time.monotonic_ns()
    for _ in range(3):
        write(interrupt)
        (timestamp_ns,) = packets(port)
        assert is_now(timestamp_ns, since_ns)
        write(interrupt)
        write(interrupt)
        assert packets(port) == []
        interrupt.ack()
        (timestamp_ns,) = packets(port)
        assert is_now(timestamp_ns, since_ns)
        interrupt.ack()
        assert packets(port) == []


def test_a_write_before_the_bind_is_a_packet_of_the_bind(interrupt: Interrupt, port: Port) -> None:
    write(interrupt)
    interrupt.bind(port, 3)
    assert len(packets(port)) == 1
    with pytest.raises(kvmbind.NotFoundError):
        interrupt.destroy()


def test_a_write_while_a_packet_is_unread_is_kept_for_the_ack(virtual: Interrupt, port: Port) -> None:
    virtual.bind(port, 3)
    virtual.trigger(T0)
    write(virtual)
    assert packets(port) == [T0]
    virtual.ack()
    assert len(packets(port)) == 1


def test_an_ack_with_a_write_before_the_packet_is_read_is_bad_state_and_drops_the_write(
    virtual: Interrupt, port: Port
) -> None:
    virtual.bind(port, 3)
    virtual.trigger(T0)
    write(virtual)
    with pytest.raises(kvmbind.BadStateError, match="before the first packet was read"):
        virtual.ack()
    assert packets(port) == [T0]
    virtual.ack()
    assert packets(port) == []


def test_an_unseen_write_outlives_an_unbind(virtual: Interrupt, port: Port) -> None:
    virtual.bind(port, 3)
    virtual.trigger(T0)
    write(virtual)
    virtual.unbind(port)
    assert packets(port) == []
    since_ns = time.monotonic_ns()
    assert is_now(virtual.wait(0), since_ns)


@pytest.mark.parametrize("end", ["destroy", "close", "unbind"])
def test_a_write_to_a_duplicate_after_its_end_is_seen_by_nobody(virtual: Interrupt, port: Port, end: str) -> None:
    other = os.dup(virtual.fileno())
    virtual.bind(port, 3)
    virtual.unbind(port) if end == "unbind" else getattr(virtual, end)()
    os.eventfd_write(other, 1)
    assert packets(port) == []
    assert not select.select([port], [], [], 0)[0]
    os.close(other)


def test_a_physical_interrupt_is_not_triggered_by_a_call_alive_or_destroyed() -> None:
    with Interrupt.create(0x40, physical=True) as interrupt:
        for _ in range(2):
            with pytest.raises(kvmbind.BadStateError, match="fired by its eventfd only"):
                interrupt.trigger()
            interrupt.destroy()


def test_the_eventfd_is_readable_exactly_while_a_trigger_waits(virtual: Interrupt) -> None:
    def readable() -> bool:
        return bool(select.select([virtual], [], [], 0)[0])

    assert not readable()
    virtual.trigger()
    assert readable()
    virtual.wait(0)
    assert not readable()


# Eventfds of others


def test_an_eventfd_of_others_is_duplicated_and_theirs_stays_open_and_as_it_was() -> None:
    theirs = os.eventfd(0, 0)  # it blocks
    with Interrupt.from_eventfd(theirs, vector=0x41) as interrupt:
        assert interrupt.vector == 0x41
        assert interrupt.fileno() != theirs
        assert not os.get_inheritable(interrupt.fileno())
        with pytest.raises(kvmbind.TimedOutError):
            interrupt.wait(0)  # must not block in a read
        os.eventfd_write(theirs, 1)
        interrupt.wait(0)
        assert os.get_blocking(theirs)
        with pytest.raises(kvmbind.BadStateError):
            interrupt.trigger()
    os.eventfd_write(theirs, 3)
    assert os.eventfd_read(theirs) == 3
    os.close(theirs)


def test_one_that_was_written_before_has_a_trigger() -> None:
    theirs = os.eventfd(7, os.EFD_NONBLOCK)
    with Interrupt.from_eventfd(theirs, vector=0x40) as interrupt:
        interrupt.wait(0)
    os.close(theirs)


def test_what_is_no_eventfd_is_refused_by_what_it_is() -> None:
    semaphore, (reader, writer) = os.eventfd(0, os.EFD_SEMAPHORE), os.pipe()
    before = os.listdir("/proc/self/fd")
    for fd, error, hint in [
        (semaphore, kvmbind.NotSupportedError, "is an EFD_SEMAPHORE eventfd"),
        (reader, kvmbind.WrongTypeError, "is not an eventfd"),
    ]:
        with pytest.raises(error, match=rf"zx_interrupt_create: .* fd {fd} {hint}"):
            Interrupt.from_eventfd(fd, vector=0x40)
    for fd in (semaphore, reader, writer):
        os.close(fd)
    with pytest.raises(kvmbind.BadHandleError, match="Bad file descriptor") as caught:
        Interrupt.from_eventfd(reader, vector=0x40)
    assert isinstance(caught.value.__cause__, OSError)
    assert len(os.listdir("/proc/self/fd")) == len(before) - 3


@pytest.mark.parametrize("vector", [-1, 256, 1 << 40])
def test_a_vector_that_is_none_is_refused_and_leaves_no_fd(vector: int) -> None:
    fd = os.eventfd(0)
    before = os.listdir("/proc/self/fd")
    creates: list[Callable[[], object]] = [
        lambda: Interrupt.create(vector),
        lambda: Interrupt.from_eventfd(fd, vector=vector),
    ]
    for create in creates:
        with pytest.raises(kvmbind.InvalidArgsError, match=rf"vector {vector} is not in 0\.\.255"):
            create()
    assert os.listdir("/proc/self/fd") == before
    os.close(fd)


def test_a_delivery_that_is_none_is_refused() -> None:
    with pytest.raises(kvmbind.InvalidArgsError, match="delivery 'some' is not"):
        Interrupt.create(0x40, delivery="some")  # type: ignore[arg-type]


# Waits and triggers


@pytest.mark.parametrize("timeout_s", [-5, 0, 0.003])
def test_a_wait_times_out_no_earlier_than_asked_and_leaves_it_free(virtual: Interrupt, timeout_s: float) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        virtual.wait(timeout_s)
    assert time.monotonic() >= start + timeout_s
    virtual.trigger(T0)
    assert virtual.wait(math.inf) == T0


def test_a_trigger_without_a_time_has_that_of_its_call(virtual: Interrupt) -> None:
    since_ns = time.monotonic_ns()
    virtual.trigger()
    assert is_now(virtual.wait(0), since_ns)


@pytest.mark.parametrize("timestamp_ns", [1 << 63, -(1 << 63) - 1, 1 << 200])
def test_a_time_that_does_not_fit_is_refused_and_triggers_nothing(
    virtual: Interrupt, port: Port, timestamp_ns: int
) -> None:
    virtual.bind(port, 0)
    with pytest.raises(kvmbind.InvalidArgsError, match=r"^zx_interrupt_trigger: "):
        virtual.trigger(timestamp_ns)
    assert packets(port) == []


@pytest.mark.parametrize("key", [-1, 1 << 64])
def test_a_key_that_does_not_fit_is_refused_and_binds_nothing(virtual: Interrupt, port: Port, key: int) -> None:
    with pytest.raises(kvmbind.InvalidArgsError, match=r"^zx_interrupt_bind: "):
        virtual.bind(port, key)
    virtual.bind(port, (1 << 64) - 1)
    virtual.trigger(T0)
    assert port.wait(0).key == (1 << 64) - 1


#: Each use with the right that it needs and the call that errors name.
USES: list[tuple[str, int, Callable[[Interrupt, Port], object]]] = [
    ("zx_interrupt_bind", ZX_RIGHT_READ, lambda interrupt, port: interrupt.bind(port, 0)),
    ("zx_interrupt_bind", ZX_RIGHT_READ, lambda interrupt, port: interrupt.unbind(port)),
    ("zx_interrupt_wait", ZX_RIGHT_WAIT, lambda interrupt, port: interrupt.wait(0)),
    ("zx_interrupt_ack", ZX_RIGHT_WRITE, lambda interrupt, port: interrupt.ack()),
    ("zx_interrupt_trigger", ZX_RIGHT_SIGNAL, lambda interrupt, port: interrupt.trigger()),
    ("zx_interrupt_destroy", 0, lambda interrupt, port: interrupt.destroy()),
]


@pytest.mark.parametrize(("call", "right", "use"), USES)
def test_a_use_needs_its_right_and_an_open_interrupt_and_its_error_names_the_call(
    virtual: Interrupt, port: Port, call: str, right: int, use: Callable[[Interrupt, Port], object]
) -> None:
    with virtual.duplicate(virtual.rights & ~right) as less:
        if right:
            with pytest.raises(kvmbind.AccessDeniedError) as caught:
                use(less, port)
            assert (caught.value.call, bool(caught.value.hint)) == (call, True)
        less.close()
        with pytest.raises(kvmbind.BadHandleError) as closed:
            use(less, port)
        assert (closed.value.call, closed.value.hint) == (call, "the Interrupt is closed")


def test_a_port_needs_the_right_to_write_and_to_take_interrupts(virtual: Interrupt, port: Port) -> None:
    with port.duplicate(port.rights & ~ZX_RIGHT_WRITE) as less, pytest.raises(kvmbind.AccessDeniedError):
        virtual.bind(less, 0)
    with Port.create() as plain, pytest.raises(kvmbind.WrongTypeError, match="ZX_PORT_BIND_TO_INTERRUPT"):
        virtual.bind(plain, 0)


#: State, use, the error's class and what its hint says.
ERRORS: list[tuple[str, Callable[[Interrupt, Port], object], type[kvmbind.ZxError], str]] = [
    ("destroyed", lambda interrupt, port: interrupt.trigger(), kvmbind.CanceledError, "destroyed"),
    ("destroyed", lambda interrupt, port: interrupt.wait(), kvmbind.CanceledError, "destroyed"),
    ("destroyed", lambda interrupt, port: interrupt.bind(port, 0), kvmbind.CanceledError, "destroyed"),
    ("new", lambda interrupt, port: interrupt.ack(), kvmbind.BadStateError, "not bound to a port"),
    ("new", lambda interrupt, port: interrupt.unbind(port), kvmbind.NotFoundError, "not bound to this port"),
    ("bound", lambda interrupt, port: interrupt.bind(port, 0), kvmbind.AlreadyBoundError, "bound to a port"),
    ("bound", lambda interrupt, port: interrupt.wait(), kvmbind.BadStateError, "its packets"),
]


@pytest.mark.parametrize(("state", "use", "error", "hint"), ERRORS)
def test_a_refusal_says_why(
    virtual: Interrupt,
    port: Port,
    state: str,
    use: Callable[[Interrupt, Port], object],
    error: type[kvmbind.ZxError],
    hint: str,
) -> None:
    match state:
        case "destroyed":
            virtual.destroy()
        case "bound":
            virtual.bind(port, 1)
    with pytest.raises(error, match=hint) as caught:
        use(virtual, port)
    assert caught.value.call.startswith("zx_interrupt_")
