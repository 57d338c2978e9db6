"""Handles, virtual interrupts and ports do what a small model of them does, whatever is called in whatever order.

About 3,000 calls, the same ones each time; KVMBIND_MODEL_STEPS asks for so many others.
"""

from __future__ import annotations

import os
import select
from typing import NamedTuple, TypeVar

from hypothesis import HealthCheck, settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, multiple, precondition, rule

import kvmbind
from kvmbind import zx
from kvmbind.zx import PortPacket, Status

OK, BAD_STATE, CANCELED, NOT_FOUND = Status.OK, Status.BAD_STATE, Status.CANCELED, Status.NOT_FOUND
BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED = Status.BAD_HANDLE, Status.WRONG_TYPE, Status.ACCESS_DENIED
READ, WRITE, WAIT, SIGNAL = zx.ZX_RIGHT_READ, zx.ZX_RIGHT_WRITE, zx.ZX_RIGHT_WAIT, zx.ZX_RIGHT_SIGNAL
DUPLICATE = zx.ZX_RIGHT_DUPLICATE
STEPS_PER_RUN = 50

UNTRIGGERED = zx.ZX_VIRTUAL_INTERRUPT_UNTRIGGERED

#: What a packet shows: type, key, timestamp or the signals that were observed.
Shown = tuple[int, int, int]


class ModelWait(NamedTuple):
    """An async wait that has not sent its packet, or whose packet waits."""

    port: ModelPort
    handle: int
    key: int
    signals: int
    edge: bool


class ModelPacket(NamedTuple):
    """What waits in a port: a packet of a user, or of a wait."""

    shown: Shown
    wait: ModelWait | None = None


class ModelPort:
    """What waits: interrupts first, then what users and signals have queued."""

    rights = zx.ZX_DEFAULT_PORT_RIGHTS

    def __init__(self, *, takes_interrupts: bool) -> None:
        self.takes_interrupts = takes_interrupts
        self.interrupts: list[ModelInterrupt] = []
        self.packets: list[ModelPacket] = []
        self.is_closed = False

    def wait(self) -> Shown | Status:
        if self.interrupts:
            interrupt = self.interrupts.pop(0)
            timestamp, interrupt.packet = interrupt.packet, None
            assert timestamp is not None
            return zx.ZX_PKT_TYPE_INTERRUPT, interrupt.key, timestamp
        return self.packets.pop(0).shown if self.packets else Status.TIMED_OUT

    def last_handle_closed(self) -> None:
        self.is_closed = True
        for interrupt in self.interrupts:
            interrupt.packet = None
        self.interrupts.clear()


class ModelInterrupt:
    """Its states, and its signals. `first` is the time of the first trigger that no wait or packet has taken."""

    rights = zx.ZX_DEFAULT_INTERRUPT_RIGHTS

    def __init__(self) -> None:
        self.state = "IDLE"
        self.first: int | None = None
        self.packet: int | None = None
        self.port: ModelPort | None = None
        self.key = 0
        self.signals = UNTRIGGERED
        self.waits: list[ModelWait] = []

    def change(self, clear: int, set_: int) -> None:
        """Changes signals, and sends the packets of the waits that this ends."""
        before, self.signals = self.signals, self.signals & ~clear | set_
        self.show(self.signals, self.signals & ~before)

    def show(self, signals: int, risen: int) -> None:
        for wait in list(self.waits):
            if (risen if wait.edge else signals) & wait.signals:
                self.waits.remove(wait)
                if not wait.port.is_closed:
                    shown = zx.ZX_PKT_TYPE_SIGNAL_ONE, wait.key, signals
                    wait.port.packets.append(ModelPacket(shown, wait))

    def wait_async(self, wait: ModelWait) -> None:
        self.waits.append(wait)
        self.show(self.signals, 0)

    def cancel(self, port: ModelPort, handle: int, key: int) -> Status:
        def is_meant(wait: ModelWait | None) -> bool:
            return wait is not None and (wait.port, wait.handle, wait.key) == (port, handle, key)

        found = any(map(is_meant, self.waits)) or any(is_meant(packet.wait) for packet in port.packets)
        self.waits = [wait for wait in self.waits if not is_meant(wait)]
        port.packets = [packet for packet in port.packets if not is_meant(packet.wait)]
        return OK if found else NOT_FOUND

    def handle_closed(self, handle: int) -> None:
        self.waits = [wait for wait in self.waits if wait.handle != handle]

    def trigger(self, timestamp: int) -> Status:
        if self.state == "DESTROYED":
            return CANCELED
        self.change(UNTRIGGERED, 0)
        if self.first is None:
            self.first = timestamp
        if self.port is None and self.state != "NEEDACK":
            self.state = "TRIGGERED"
        elif self.port is not None and self.state != "NEEDACK":
            self._queue()
        return OK

    def _queue(self) -> bool:
        """Queues its packet, unless the last one is still there: then this one is lost."""
        assert self.port is not None
        timestamp, self.first = self.first, None
        self.state = "NEEDACK"
        if self.packet is not None:
            return False
        self.packet = timestamp
        self.port.interrupts.append(self)
        return True

    def _take_back(self) -> bool:
        if self.port is None or self.packet is None:
            return False
        self.packet = None
        if self in self.port.interrupts:  # a closed port has forgotten it
            self.port.interrupts.remove(self)
        return True

    def wait(self) -> int | Status:
        if self.port is not None:
            return BAD_STATE
        if self.state == "DESTROYED":
            return CANCELED
        if self.first is not None:
            timestamp, self.first = self.first, None
            self.state = "NEEDACK"
            return timestamp
        self.state = "IDLE"  # it was WAITING meanwhile
        self.change(0, UNTRIGGERED)
        return Status.TIMED_OUT

    def ack(self) -> Status:
        if self.port is None:
            return BAD_STATE
        if self.state == "DESTROYED":
            return CANCELED
        if self.state == "NEEDACK":
            if self.first is None:
                self.state = "IDLE"
                self.change(0, UNTRIGGERED)
            elif not self._queue():
                return BAD_STATE
            else:
                self.show(self.signals | UNTRIGGERED, UNTRIGGERED)
        return OK

    def bind(self, port: ModelPort, key: int) -> Status:
        if not port.takes_interrupts:
            return WRONG_TYPE
        if self.state == "DESTROYED":
            return CANCELED
        if self.port is not None:
            return Status.ALREADY_BOUND
        self.port, self.key = port, key
        if self.state == "TRIGGERED":
            self._queue()
        return OK

    def unbind(self, port: ModelPort) -> Status:
        if self.port is not port:
            return NOT_FOUND
        if self.state == "DESTROYED":
            return CANCELED
        self._take_back()
        self.port = None
        return OK

    def destroy(self) -> Status:
        if self.state == "DESTROYED":
            return OK
        owed = self.port is not None and self.state == "NEEDACK" and not self._take_back()
        self._take_back()
        self.state = "DESTROYED"
        self.change(0, UNTRIGGERED)
        return NOT_FOUND if owed else OK

    def last_handle_closed(self) -> None:
        self.destroy()


class ModelHandle(NamedTuple):
    """An open handle."""

    object: ModelInterrupt | ModelPort
    rights: int


T = TypeVar("T", ModelInterrupt, ModelPort)


def wait_without_sleep(handle: int) -> int | Status:
    try:
        return kvmbind.Interrupt.borrow(handle).wait(timeout_s=0)
    except kvmbind.ZxError as error:
        return error.status


def show(result: tuple[Status, PortPacket]) -> Shown | Status:
    status, packet = result
    if status is not OK:
        assert packet == PortPacket()
        return status
    is_signal = packet.type == zx.ZX_PKT_TYPE_SIGNAL_ONE
    return packet.type, packet.key, packet.signal.observed if is_signal else packet.interrupt.timestamp


KEYS = st.sampled_from([0, 1, 2, (1 << 64) - 1])
TIMES = st.sampled_from([-(1 << 63), -1, 0, 1, 2, 3, (1 << 63) - 1])
#: What a handle gives up, and what it would like to have: a right that no handle here has.
LOST = st.sampled_from([0, 0, 0, DUPLICATE, READ, WRITE, WAIT, SIGNAL])
#: Two signals of users, and the interrupt's own.
USERS = st.sampled_from([0, zx.ZX_USER_SIGNAL_0, zx.ZX_USER_SIGNAL_7, zx.ZX_USER_SIGNAL_0 | zx.ZX_USER_SIGNAL_7])
SIGNALS = st.sampled_from([zx.ZX_USER_SIGNAL_0, zx.ZX_USER_SIGNAL_7, UNTRIGGERED, UNTRIGGERED | zx.ZX_USER_SIGNAL_0])
GAINED = st.sampled_from([0, 0, 0, 0, 1 << 20])


class HandlesInterruptsAndPorts(RuleBasedStateMachine):
    """Each rule makes a call, and asks the model what it must answer."""

    interrupts: Bundle[int] = Bundle("interrupts")
    ports: Bundle[int] = Bundle("ports")

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[int, ModelHandle] = {}
        self.closed: list[int] = []
        self.koids: dict[ModelInterrupt | ModelPort, int] = {}

    # Handles

    def opened(self, handle: int, obj: ModelInterrupt | ModelPort, rights: int) -> int:
        assert handle not in [*self.open, *self.closed], "a value came again"
        self.open[handle] = ModelHandle(obj, rights)
        return handle

    def gone(self, handle: int) -> None:
        obj = self.open.pop(handle).object
        self.closed.append(handle)
        if isinstance(obj, ModelInterrupt):
            obj.handle_closed(handle)
        if all(other.object is not obj for other in self.open.values()):
            obj.last_handle_closed()

    def wanted(self, handle: int, lost: int, gained: int) -> tuple[int, int]:
        """The rights to ask for, and those to expect."""
        had = self.open[handle].rights
        return (had & ~lost | gained, had & ~lost) if lost or gained else (zx.ZX_RIGHT_SAME_RIGHTS, had)

    def duplicate(self, handle: int, lost: int, gained: int) -> int | MultipleResults[int]:
        asked, expected = self.wanted(handle, lost, gained)
        status, duplicate = zx.zx_handle_duplicate(handle, asked)
        if not self.open[handle].rights & DUPLICATE:
            assert (status, duplicate) == (ACCESS_DENIED, 0)
        elif gained:
            assert (status, duplicate) == (Status.INVALID_ARGS, 0)
        else:
            assert status is OK
            return self.opened(duplicate, self.open[handle].object, expected)
        return multiple()

    def replace(self, handle: int, lost: int, gained: int) -> int | MultipleResults[int]:
        asked, expected = self.wanted(handle, lost, gained)
        status, replacement = zx.zx_handle_replace(handle, asked)
        if gained:
            assert (status, replacement) == (Status.INVALID_ARGS, 0)
            self.gone(handle)
            return multiple()
        assert status is OK
        self.opened(replacement, self.open[handle].object, expected)
        self.gone(handle)
        return replacement

    @rule(target=interrupts, handle=interrupts, lost=LOST, gained=GAINED)
    def duplicate_interrupt(self, handle: int, lost: int, gained: int) -> int | MultipleResults[int]:
        return self.duplicate(handle, lost, gained)

    @rule(target=ports, handle=ports, lost=LOST, gained=GAINED)
    def duplicate_port(self, handle: int, lost: int, gained: int) -> int | MultipleResults[int]:
        return self.duplicate(handle, lost, gained)

    @rule(target=interrupts, handle=consumes(interrupts), lost=LOST, gained=GAINED)
    def replace_interrupt(self, handle: int, lost: int, gained: int) -> int | MultipleResults[int]:
        return self.replace(handle, lost, gained)

    @rule(target=ports, handle=consumes(ports), lost=LOST, gained=GAINED)
    def replace_port(self, handle: int, lost: int, gained: int) -> int | MultipleResults[int]:
        return self.replace(handle, lost, gained)

    @rule(handle=st.one_of(consumes(interrupts), consumes(ports)))
    def close(self, handle: int) -> None:
        assert zx.zx_handle_close(handle) is OK
        self.gone(handle)

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def use_a_closed_handle(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.closed))
        assert zx.zx_handle_close(handle) is BAD_HANDLE
        assert zx.zx_handle_duplicate(handle, zx.ZX_RIGHT_SAME_RIGHTS) == (BAD_HANDLE, 0)
        assert zx.zx_handle_replace(handle, zx.ZX_RIGHT_SAME_RIGHTS) == (BAD_HANDLE, 0)
        assert zx.zx_interrupt_trigger(handle, 0, 0) is BAD_HANDLE
        assert zx.zx_interrupt_destroy(handle) is BAD_HANDLE
        assert zx.zx_port_wait(handle, 0) == (BAD_HANDLE, PortPacket())

    @rule(interrupt=interrupts, port=ports)
    def take_one_for_the_other(self, interrupt: int, port: int) -> None:
        assert zx.zx_interrupt_trigger(port, 0, 0) is WRONG_TYPE
        assert zx.zx_interrupt_destroy(port) is WRONG_TYPE
        assert zx.zx_port_wait(interrupt, 0) == (WRONG_TYPE, PortPacket())
        assert zx.zx_port_queue(interrupt, PortPacket()) is WRONG_TYPE

    @rule(handle=st.one_of(interrupts, ports))
    def ask_for_rights_and_koid(self, handle: int) -> None:
        status, info = zx.zx_object_get_info(handle, zx.ZX_INFO_HANDLE_BASIC)
        assert (status, info.rights) == (OK, self.open[handle].rights)
        koid = self.koids.setdefault(self.open[handle].object, info.koid)
        assert koid == info.koid
        assert len(set(self.koids.values())) == len(self.koids)

    # Interrupts

    @stateful.initialize(target=interrupts)
    def first_interrupt(self) -> int | MultipleResults[int]:
        return self.create_interrupt()

    @stateful.initialize(target=ports)
    def first_port(self) -> int | MultipleResults[int]:
        return self.create_port(takes_interrupts=True)

    @rule(target=interrupts)
    def create_interrupt(self) -> int:
        status, handle = zx.zx_interrupt_create(0, 0, zx.ZX_INTERRUPT_VIRTUAL)
        assert status is OK
        return self.opened(handle, ModelInterrupt(), ModelInterrupt.rights)

    def find(self, handle: int, kind: type[T], right: int = 0) -> T | None:
        """The object, or None if the handle lacks the right."""
        found = self.open[handle]
        assert isinstance(found.object, kind)
        return found.object if found.rights & right == right else None

    @rule(handle=interrupts, timestamp=TIMES)
    def trigger(self, handle: int, timestamp: int) -> None:
        interrupt = self.find(handle, ModelInterrupt, SIGNAL)
        expected = interrupt.trigger(timestamp) if interrupt else ACCESS_DENIED
        assert zx.zx_interrupt_trigger(handle, 0, timestamp) is expected

    @rule(handle=interrupts)
    def wait(self, handle: int) -> None:
        interrupt = self.find(handle, ModelInterrupt, WAIT)
        expected = interrupt.wait() if interrupt else ACCESS_DENIED
        assert wait_without_sleep(handle) == expected

    @rule(handle=interrupts)
    def ack(self, handle: int) -> None:
        interrupt = self.find(handle, ModelInterrupt, WRITE)
        assert zx.zx_interrupt_ack(handle) is (interrupt.ack() if interrupt else ACCESS_DENIED)

    @rule(handle=interrupts, port=ports, key=KEYS)
    def bind(self, handle: int, port: int, key: int) -> None:
        interrupt, queue = self.find(handle, ModelInterrupt, READ), self.find(port, ModelPort, WRITE)
        expected = interrupt.bind(queue, key) if interrupt and queue else ACCESS_DENIED
        assert zx.zx_interrupt_bind(handle, port, key, zx.ZX_INTERRUPT_BIND) is expected

    @rule(handle=interrupts, port=ports)
    def unbind(self, handle: int, port: int) -> None:
        interrupt, queue = self.find(handle, ModelInterrupt, READ), self.find(port, ModelPort, WRITE)
        expected = interrupt.unbind(queue) if interrupt and queue else ACCESS_DENIED
        assert zx.zx_interrupt_bind(handle, port, 0, zx.ZX_INTERRUPT_UNBIND) is expected

    @rule(handle=interrupts)
    def destroy(self, handle: int) -> None:
        interrupt = self.find(handle, ModelInterrupt)
        assert interrupt is not None
        assert zx.zx_interrupt_destroy(handle) is interrupt.destroy()

    # Signals

    @rule(handle=interrupts, clear=USERS, set_=USERS)
    def signal(self, handle: int, clear: int, set_: int) -> None:
        interrupt = self.find(handle, ModelInterrupt, SIGNAL)
        assert zx.zx_object_signal(handle, clear, set_) is (OK if interrupt else ACCESS_DENIED)
        if interrupt:
            interrupt.change(clear, set_)

    @rule(handle=interrupts, signals=SIGNALS)
    def wait_one(self, handle: int, signals: int) -> None:
        interrupt = self.find(handle, ModelInterrupt, WAIT)
        status = OK if interrupt and interrupt.signals & signals else Status.TIMED_OUT
        expected = (status, interrupt.signals) if interrupt else (ACCESS_DENIED, 0)
        assert zx.zx_object_wait_one(handle, signals, 0) == expected

    @rule(handle=interrupts, port=ports, key=KEYS, signals=SIGNALS, edge=st.booleans())
    def wait_async(self, handle: int, port: int, key: int, signals: int, edge: bool) -> None:
        queue, interrupt = self.find(port, ModelPort, WRITE), self.find(handle, ModelInterrupt, WAIT)
        options = zx.ZX_WAIT_ASYNC_EDGE if edge else zx.ZX_WAIT_ASYNC_ONCE
        status = zx.zx_object_wait_async(handle, port, key, signals, options)
        assert status is (OK if queue and interrupt else ACCESS_DENIED)
        if queue and interrupt:
            interrupt.wait_async(ModelWait(queue, handle, key, signals, edge))

    @rule(handle=interrupts, port=ports, key=KEYS)
    def cancel(self, handle: int, port: int, key: int) -> None:
        queue, interrupt = self.find(port, ModelPort, WRITE), self.find(handle, ModelInterrupt, WAIT)
        expected = interrupt.cancel(queue, handle, key) if queue and interrupt else ACCESS_DENIED
        assert zx.zx_port_cancel(port, handle, key) is expected

    # Ports

    @rule(target=ports, takes_interrupts=st.booleans())
    def create_port(self, takes_interrupts: bool) -> int:
        status, handle = zx.zx_port_create(zx.ZX_PORT_BIND_TO_INTERRUPT if takes_interrupts else 0)
        assert status is OK
        return self.opened(handle, ModelPort(takes_interrupts=takes_interrupts), ModelPort.rights)

    @rule(handle=ports, key=KEYS)
    def queue(self, handle: int, key: int) -> None:
        port = self.find(handle, ModelPort, WRITE)
        assert zx.zx_port_queue(handle, PortPacket(key=key)) is (OK if port else ACCESS_DENIED)
        if port:
            port.packets.append(ModelPacket((zx.ZX_PKT_TYPE_USER, key, 0)))

    @rule(handle=ports)
    def take_packet(self, handle: int) -> None:
        port = self.find(handle, ModelPort, READ)
        assert show(zx.zx_port_wait(handle, 0)) == (port.wait() if port else ACCESS_DENIED)

    @stateful.invariant()
    def a_ports_fd_is_readable_exactly_while_a_packet_waits(self) -> None:
        for handle, found in self.open.items():
            if isinstance(found.object, ModelPort):
                poll = select.poll()
                poll.register(kvmbind.Port.borrow(handle), select.POLLIN)
                assert bool(poll.poll(0)) == bool(found.object.interrupts or found.object.packets)

    def teardown(self) -> None:
        assert zx.zx_handle_close_many(list(self.open)) is OK


_steps = os.environ.get("KVMBIND_MODEL_STEPS")
TestHandlesInterruptsAndPorts = HandlesInterruptsAndPorts.TestCase
TestHandlesInterruptsAndPorts.settings = settings(
    max_examples=max(1, int(_steps or 3000) // STEPS_PER_RUN),
    stateful_step_count=STEPS_PER_RUN,
    deadline=None,
    derandomize=_steps is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_wait_that_ended_untriggered_leaves_the_interrupt_idle() -> None:
    machine = HandlesInterruptsAndPorts()
    interrupt, port = machine.create_interrupt(), machine.create_port(takes_interrupts=True)
    try:
        machine.trigger(interrupt, 1)
        machine.wait(interrupt)
        machine.wait(interrupt)
        machine.bind(interrupt, port, 2)
        machine.trigger(interrupt, 3)
        machine.take_packet(port)
    finally:
        machine.teardown()
