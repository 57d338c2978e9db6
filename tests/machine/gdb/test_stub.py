"""What gdb's packets are answered, by a stub whose target is plain memory."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.kvm.registers import Registers, Segment, SpecialRegisters
from kvmbind.machine.gdb.layout import LONG, PROTECTED, REAL, Layout, State, layout_of
from kvmbind.machine.gdb.packets import frame
from kvmbind.machine.gdb.points import DebugSupport, Point, Points
from kvmbind.machine.gdb.session import Session
from kvmbind.machine.gdb.stub import Refused, Stub

SPECIAL = SpecialRegisters.unpack(bytes(312))
AT_7C00 = State(Registers(rax=0x1234, rip=0x7C00), SPECIAL._replace(cs=Segment.real(0x100, code=True)))
LAYOUTS = [REAL, PROTECTED, LONG]


class PlainTarget:
    """64 KiB at address 0, and registers."""

    def __init__(self, layout: Layout = REAL, state: State = AT_7C00) -> None:
        self.layout = layout
        self.state = state
        self.memory = bytearray(1 << 16)
        self.points = Points(DebugSupport())
        self.done: list[str] = []
        self.stop_reply = b"T05"

    def read_state(self) -> State:
        return self.state

    def write_state(self, state: State) -> None:
        state.general.pack()  # as the kernel's structure takes them
        state.special.pack()
        self.state = state

    def read_memory(self, addr: int, length: int) -> bytes:
        return bytes(self.memory[addr : addr + length])

    def write_memory(self, addr: int, data: bytes) -> None:
        if addr + len(data) > len(self.memory):
            raise Refused(14)
        self.memory[addr : addr + len(data)] = data

    def insert(self, point: Point) -> bool:
        return self.points.insert(point)

    def remove(self, point: Point) -> None:
        self.points.remove(point)

    def resume(self, *, step: bool) -> None:
        self.done.append("step" if step else "continue")

    def detach(self) -> None:
        self.done.append("detach")

    def kill(self) -> None:
        self.done.append("kill")

    def interrupt(self) -> None:
        self.done.append("interrupt")


@pytest.fixture
def target() -> PlainTarget:
    return PlainTarget()


@pytest.fixture
def stub(target: PlainTarget) -> Stub:
    return Stub(target)


def number_of(layout: Layout, gdb_name: str) -> int:
    return [register.gdb_name for register in layout.registers].index(gdb_name)


# Registers


def test_the_next_instruction_is_told_by_its_linear_address(stub: Stub) -> None:
    assert stub.answer(b"p%x" % number_of(REAL, "eip")) == b"008c0000"


def test_a_register_is_written_and_read_in_the_guests_byte_order(target: PlainTarget, stub: Stub) -> None:
    assert stub.answer(b"P0=78563412") == b"OK"
    assert target.state.general.rax == 0x12345678
    assert stub.answer(b"p0") == b"78563412"


def test_going_elsewhere_keeps_the_code_segment_if_it_reaches_and_changes_it_otherwise(
    target: PlainTarget, stub: Stub
) -> None:
    for addr, cs, ip in [(0x8000, 0x100, 0x7000), (0xF1234, 0xF000, 0x1234), (0x10FFEF, 0xF000, 0x1FFEF)]:
        answer = stub.answer(b"P%x=%b" % (number_of(REAL, "eip"), addr.to_bytes(4, "little").hex().encode()))
        if ip > 0xFFFF:
            assert answer == b"E16"
        else:
            assert (answer, target.state.special.cs.selector, target.state.general.rip) == (b"OK", cs, ip)


def test_a_selector_brings_its_base_in_real_mode_and_is_refused_in_protected_mode() -> None:
    target = PlainTarget()
    write = b"P%x=00b80000" % number_of(REAL, "es")
    assert Stub(target).answer(write) == b"OK"
    assert target.state.special.es == Segment.real(0xB800)._replace(limit=0, type=0, present=0, s=0)
    protected = PlainTarget(PROTECTED, AT_7C00._replace(special=AT_7C00.special._replace(cr0=1)))
    assert Stub(protected).answer(write) == b"E16"
    assert protected.state.special.es.selector == 0


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.architecture)
def test_all_registers_written_as_they_were_read_change_nothing(layout: Layout) -> None:
    target = PlainTarget(layout)
    stub = Stub(target)
    everything = stub.answer(b"g")
    assert everything is not None
    assert stub.answer(b"G" + everything.replace(b"x", b"0")) == b"OK"
    assert target.state == AT_7C00


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.architecture)
def test_the_description_tells_each_register_of_the_protocol_in_its_order_and_size(layout: Layout) -> None:
    found = ElementTree.fromstring(layout.describe()).findall("feature/reg")
    assert [(r.get("name"), r.get("bitsize")) for r in found] == [(r.gdb_name, str(r.bits)) for r in layout.registers]
    assert len(Stub(PlainTarget(layout)).answer(b"g") or b"") == sum(r.bits // 4 for r in layout.registers)


def test_the_layout_is_that_of_the_mode() -> None:
    assert layout_of(AT_7C00) is REAL
    assert layout_of(AT_7C00._replace(special=SPECIAL._replace(cr0=1))) is PROTECTED
    assert layout_of(AT_7C00._replace(special=SPECIAL._replace(cr0=1, efer=0x500))) is LONG


def test_the_description_is_read_in_pieces(stub: Stub) -> None:
    read, more = bytearray(), True
    while more:
        piece = stub.answer(b"qXfer:features:read:target.xml:%x,%x" % (len(read), 100)) or b""
        more = piece[:1] == b"m"
        read += piece[1:]
    assert read.decode() == REAL.describe()


# Memory


@given(st.integers(0, 0xFF00), st.binary(min_size=1, max_size=200))
def test_memory_is_read_as_it_was_written_in_digits_and_in_bytes(addr: int, data: bytes) -> None:
    stub = Stub(PlainTarget())
    for command in (b"M%x,%x:" % (addr, len(data)) + data.hex().encode(), b"X%x,%x:" % (addr, len(data)) + data):
        assert stub.answer(command) == b"OK"
        assert stub.answer(b"m%x,%x" % (addr, len(data))) == data.hex().encode()


def test_where_no_memory_is_there_is_an_error_and_at_its_end_less_than_asked(stub: Stub) -> None:
    assert stub.answer(b"m10000,4") == b"E0e"
    assert stub.answer(b"mfffe,4") == b"0000"
    assert stub.answer(b"Mffff,2:0000") == b"E0e"


# Points and going on


def test_points_are_set_and_taken_away_and_unknown_kinds_are_not_known(target: PlainTarget, stub: Stub) -> None:
    assert [stub.answer(command) for command in (b"Z0,7c00,1", b"Z2,8000,2", b"Z9,0,1")] == [b"OK", b"OK", b""]
    assert len(target.points.registers) == 2
    assert [stub.answer(command) for command in (b"z0,7c00,1", b"z2,8000,2", b"z1,1,1")] == [b"OK"] * 3
    assert target.points.registers == []


@pytest.mark.parametrize(
    ("command", "done"),
    [
        (b"c", "continue"),
        (b"C05", "continue"),
        (b"s", "step"),
        (b"S05", "step"),
        (b"vCont;c", "continue"),
        (b"vCont;s:1;c", "step"),
        (b"vCont;s:7;c", "continue"),
        (b"vCont;C05:-1", "continue"),
        (b"k", "kill"),
    ],
)
def test_what_lets_it_go_on_or_ends_it_has_no_answer_yet(
    target: PlainTarget, stub: Stub, command: bytes, done: str
) -> None:
    assert stub.answer(command) is None
    assert target.done == [done]


def test_going_on_at_an_address_goes_there_first(target: PlainTarget, stub: Stub) -> None:
    stub.answer(b"s1100")
    assert (target.state.pc, target.done) == (0x1100, ["step"])


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"?", rb"T05"),
        (b"qSupported:multiprocess+", rb"PacketSize=4000;qXfer:features:read\+;.*"),
        (b"vCont?", rb"vCont;c;C;s;S"),
        (b"vMustReplyEmpty", rb""),
        (b"qAttached", rb"1"),
        (b"qC", rb"QC1"),
        (b"qfThreadInfo", rb"m1"),
        (b"Hg0", rb"OK"),
        (b"T1", rb"OK"),
        (b"T2", rb"E16"),
        (b"D", rb"OK"),
        (b"", rb""),
        (b"p+1", rb"E16"),
        (b"m 1,2", rb"E16"),
        (b"m1", rb"E16"),
        (b"M0,2:00", rb"E16"),
        (b"M0,1", rb"E16"),
        (b"pffff", rb"E16"),
        (b"P0=00", rb"E16"),
        (b"G00", rb"E16"),
        (b"Z2,0,0", rb"E16"),
        (b"m\xff,1", rb"E16"),
        (b"vCont;", rb"E16"),
        (b"vCont;t", rb"E16"),
    ],
)
def test_each_question_has_its_answer_and_what_is_malformed_an_error(stub: Stub, command: bytes, answer: bytes) -> None:
    assert re.fullmatch(answer, stub.answer(command) or b"", re.DOTALL)


LETTERS = st.sampled_from([bytes((letter,)) for letter in b"?gGpPmMXZzcCsSDkHTqv!"] + [b"vCont;", b"qXfer:features:"])


@given(LETTERS, st.one_of(st.binary(max_size=40), st.text("0123456789abcdef,:;=-+_ ", max_size=40).map(str.encode)))
def test_nothing_that_is_sent_makes_the_stub_fail(letter: bytes, rest: bytes) -> None:
    for layout in LAYOUTS:
        answer = Stub(PlainTarget(layout)).answer(letter + rest)
        assert answer is None or isinstance(answer, bytes)


# A conversation


class Wire:
    """A session, and what it sent."""

    def __init__(self) -> None:
        self.target = PlainTarget()
        self.sent: list[bytes] = []
        self.session = Session(self.target, self.sent.append)

    def say(self, data: bytes) -> list[bytes]:
        self.sent.clear()
        self.session.receive(data)
        return list(self.sent)


def test_a_packet_is_acknowledged_and_answered() -> None:
    assert Wire().say(frame(b"?")) == [b"+", frame(b"T05")]


def test_a_garbled_packet_is_asked_for_again_and_an_answer_is_repeated_on_demand() -> None:
    wire = Wire()
    assert wire.say(b"$?#00") == [b"-"]
    assert wire.say(b"-") == []
    wire.say(frame(b"?"))
    assert wire.say(b"-") == [frame(b"T05")]


def test_without_acknowledgements_answers_come_alone() -> None:
    wire = Wire()
    assert wire.say(frame(b"QStartNoAckMode")) == [b"+", frame(b"OK")]
    assert wire.say(b"+" + frame(b"?")) == [frame(b"T05")]
    assert wire.say(b"$?#00") == []


def test_ctrl_c_interrupts_the_target() -> None:
    wire = Wire()
    assert wire.say(b"\x03") == []
    assert wire.target.done == ["interrupt"]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_stream_makes_a_session_fail(pieces: list[bytes]) -> None:
    wire = Wire()
    for piece in pieces:
        wire.session.receive(piece)
        wire.session.receive(frame(piece))
