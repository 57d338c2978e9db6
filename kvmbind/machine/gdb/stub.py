"""What gdb asks, and what it is answered; it knows nothing of KVM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from kvmbind.machine.gdb.layout import read, write
from kvmbind.machine.gdb.packets import PAYLOAD_MAX
from kvmbind.machine.gdb.points import Kind, Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.machine.gdb.layout import Layout, State

_FAULT, _INVALID = 14, 22  # EFAULT, EINVAL: gdb shows the number only
_OK, _UNKNOWN = b"OK", b""
_FEATURES = b"qXfer:features:read+;vContSupported+;swbreak+;hwbreak+;QStartNoAckMode+"
_THREAD = "1"
_ANY_THREAD = ("", "0", "-1", _THREAD)
_STEP, _CONTINUE = "sS", "cC"
_ADDR_LIMIT = 1 << 64


class Refused(Exception):
    """A command that cannot be done; `number` is an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Target(Protocol):
    """What is debugged."""

    @property
    def layout(self) -> Layout:
        """Its registers, as gdb was told when it connected."""

    @property
    def stop_reply(self) -> bytes:
        """Why it has stopped: T05..."""

    def read_state(self) -> State:
        """Returns its registers."""

    def write_state(self, state: State) -> None:
        """Sets its registers. Refused: it cannot have such."""

    def read_memory(self, addr: int, length: int) -> bytes:
        """Returns what is at a linear address; less, if there is memory for less."""

    def write_memory(self, addr: int, data: bytes) -> None:
        """Stores at a linear address. Refused: there is no memory."""

    def insert(self, point: Point) -> bool:
        """Adds a point; returns whether it can be had."""

    def remove(self, point: Point) -> None:
        """Takes a point away."""

    def resume(self, *, step: bool) -> None:
        """Lets it go on, or do one instruction. Its stop reply comes when it has stopped."""

    def detach(self) -> None:
        """Lets it go on without its points."""

    def kill(self) -> None:
        """Ends it."""


class Stub:
    """Answers gdb's packets about one target."""

    def __init__(self, target: Target) -> None:
        """Answers for `target`."""
        self._target = target
        self._commands: dict[str, Callable[[str], bytes | None]] = {
            "?": lambda _: target.stop_reply,
            "g": lambda _: self._read_registers(),
            "G": self._write_registers,
            "p": self._read_register,
            "P": self._write_register,
            "m": self._read_memory,
            "M": self._write_memory,
            "Z": self._insert,
            "z": self._remove,
            "D": lambda _: self._detach(),
            "k": lambda _: self._kill(),
            "H": lambda rest: self._check_thread(rest[1:]),
            "T": self._check_thread,
            "q": self._query,
            "v": self._verbose,
        }
        self._commands |= {letter: partial(self._resume, letter) for letter in _STEP + _CONTINUE}

    def answer(self, payload: bytes) -> bytes | None:
        """Does what a packet asks for.

        Returns:
            The answer's payload; empty if the command is not known, E and a number if it cannot be done; None if there
            is none, or not yet: the target runs.
        """
        try:
            if payload[:1] == b"X":
                return self._write_binary(payload[1:])
            text = payload.decode("ascii")
            command = self._commands.get(text[:1])
            return _UNKNOWN if command is None else command(text[1:])
        except Refused as error:
            return b"E%02x" % error.number
        except ValueError:
            return b"E%02x" % _INVALID

    # Registers

    def _read_registers(self) -> bytes:
        state = self._target.read_state()
        return b"".join(_hex(read(state, register), register.bits) for register in self._target.layout.registers)

    def _write_registers(self, text: str) -> bytes:
        data, state = bytes.fromhex(text), self._target.read_state()
        registers = self._target.layout.registers
        if len(data) != sum(register.bits // 8 for register in registers):
            raise Refused(_INVALID)
        pc = None
        for register in registers:
            size = register.bits // 8
            value, data = data[:size], data[size:]
            if register.name == "pc":
                pc = register, value
            else:
                state = write(state, register, value)
        if pc is not None:  # behind CS, which it is relative to
            state = write(state, *pc)
        self._target.write_state(state)
        return _OK

    def _read_register(self, text: str) -> bytes:
        number, registers = _number(text), self._target.layout.registers
        if number >= len(registers):
            raise Refused(_INVALID)
        return _hex(read(self._target.read_state(), registers[number]), registers[number].bits)

    def _write_register(self, text: str) -> bytes:
        number, _, value = text.partition("=")
        registers = self._target.layout.registers
        if _number(number) >= len(registers):
            raise Refused(_INVALID)
        self._target.write_state(write(self._target.read_state(), registers[_number(number)], bytes.fromhex(value)))
        return _OK

    # Memory

    def _read_memory(self, text: str) -> bytes:
        addr, length = _range(text)
        data = self._target.read_memory(addr, min(length, PAYLOAD_MAX // 2))
        if length and not data:
            raise Refused(_FAULT)
        return data.hex().encode()

    def _write_memory(self, text: str) -> bytes:
        where, colon, digits = text.partition(":")
        return self._store(where, bytes.fromhex(digits) if colon else None)

    def _write_binary(self, payload: bytes) -> bytes:
        where, colon, data = payload.partition(b":")
        return self._store(where.decode("ascii"), data if colon else None)

    def _store(self, where: str, data: bytes | None) -> bytes:
        addr, length = _range(where)
        if data is None or len(data) != length:
            raise Refused(_INVALID)
        self._target.write_memory(addr, data)
        return _OK

    # Points

    def _insert(self, text: str) -> bytes:
        point = _point(text)
        if point is None:
            return _UNKNOWN
        if not self._target.insert(point):
            raise Refused(_INVALID)
        return _OK

    def _remove(self, text: str) -> bytes:
        point = _point(text)
        if point is None:
            return _UNKNOWN
        self._target.remove(point)
        return _OK

    # Going on

    def _resume(self, letter: str, rest: str) -> None:
        if letter.isupper():  # with a signal, which no guest has a use for
            rest = rest.partition(";")[2]
        if rest:
            self._go_to(_number(rest))
        self._target.resume(step=letter in _STEP)

    def _go_to(self, addr: int) -> None:
        pc = next(register for register in self._target.layout.registers if register.name == "pc")
        data = (addr % (1 << pc.bits)).to_bytes(pc.bits // 8, "little")
        self._target.write_state(write(self._target.read_state(), pc, data))

    def _verbose(self, text: str) -> bytes | None:
        if text == "Cont?":
            return b"vCont;c;C;s;S"
        if text.startswith("Cont;"):
            self._resume_threads(text.removeprefix("Cont;"))
            return None
        if text.startswith("Kill"):
            self._target.kill()
            return _OK
        return _UNKNOWN

    def _resume_threads(self, actions: str) -> None:
        for action in actions.split(";"):
            what, _, thread = action.partition(":")
            if what[:1] not in (*_STEP, *_CONTINUE) or not what:
                raise Refused(_INVALID)
            if thread in _ANY_THREAD:  # the first that fits counts
                self._target.resume(step=what[0] in _STEP)
                return
        raise Refused(_INVALID)

    def _detach(self) -> bytes:
        self._target.detach()
        return _OK

    def _kill(self) -> None:
        self._target.kill()

    # Questions

    def _check_thread(self, thread: str) -> bytes:
        if thread not in _ANY_THREAD:
            raise Refused(_INVALID)
        return _OK

    def _query(self, text: str) -> bytes:
        if text == "Supported" or text.startswith("Supported:"):
            return b"PacketSize=%x;" % PAYLOAD_MAX + _FEATURES
        if text.startswith("Xfer:features:read:target.xml:"):
            return self._describe(text.rpartition(":")[2])
        return _ANSWERS.get(text, _UNKNOWN)

    def _describe(self, piece: str) -> bytes:
        offset, length = _range(piece)
        data = self._target.layout.describe().encode()
        found = data[offset : offset + min(length, PAYLOAD_MAX - 1)]
        return (b"l" if offset + len(found) >= len(data) else b"m") + found


_ANSWERS = {
    "Attached": b"1",  # so that gdb detaches when it is left, and does not kill
    "C": f"QC{_THREAD}".encode(),
    "fThreadInfo": f"m{_THREAD}".encode(),
    "sThreadInfo": b"l",
    "Symbol::": _OK,
}


def _hex(value: bytes | None, bits: int) -> bytes:
    return b"xx" * (bits // 8) if value is None else value.hex().encode()


def _number(text: str) -> int:
    """A hexadecimal number without sign. ValueError: none, or one that no address can be."""
    if not text.isalnum():  # int() takes signs, blanks and underscores
        raise ValueError(f"{text!r} is no number")
    number = int(text, 16)
    if number >= _ADDR_LIMIT:
        raise ValueError(f"{text!r} is no address")
    return number


def _range(text: str) -> tuple[int, int]:
    first, _, second = text.partition(",")
    return _number(first), _number(second)


def _point(text: str) -> Point | None:
    """What a Z or z packet names; None: a kind that nobody knows."""
    kind, addr, length = text.partition(";")[0].split(",")
    if _number(kind) not in set(Kind):
        return None
    point = Point(Kind(_number(kind)), _number(addr), _number(length))
    if not point.kind.is_breakpoint and not 0 < point.length <= PAYLOAD_MAX:
        raise Refused(_INVALID)
    return point._replace(length=0) if point.kind.is_breakpoint else point
