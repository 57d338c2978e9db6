"""A PC's VCPU as gdb's target: it is held, steps, and stops at points."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvmbind.abi.errors import BadStateError, InvalidArgsError, ZxError
from kvmbind.kvm.exits import ExitReason
from kvmbind.kvm.registers import MpState
from kvmbind.machine.ending import Reason
from kvmbind.machine.gdb import instructions
from kvmbind.machine.gdb.layout import REAL, State, layout_of
from kvmbind.machine.gdb.paging import PAGE, translate
from kvmbind.machine.gdb.points import Kind, Point, Points
from kvmbind.machine.gdb.session import Session
from kvmbind.machine.gdb.stub import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvmbind.kvm.exits import Exit
    from kvmbind.kvm.registers import Breakpoint
    from kvmbind.machine.gdb.layout import Layout
    from kvmbind.machine.gdb.points import DebugSupport
    from kvmbind.machine.pc import Pc
    from kvmbind.objects.vcpu import Vcpu

#: How long a step waits for an instruction that does not end, such as HLT; then gdb is told where it is.
STEP_LIMIT_NS = 1_000_000_000

_TRAPPED, _INTERRUPTED = b"T05thread:1;", b"T02thread:1;"  # SIGTRAP, SIGINT
_POINT_NAMES = {
    Kind.SOFTWARE: "swbreak:",
    Kind.HARDWARE: "hwbreak:",
    Kind.WRITE: "watch:{:x}",
    Kind.READ: "rwatch:{:x}",
    Kind.ACCESS: "awatch:{:x}",
}
_REGISTER_HITS = 0xF  # DR6
_FAULT, _INVALID = 14, 22  # EFAULT, EINVAL


class _Step(NamedTuple):
    """One instruction that is being done."""

    pc: int
    deadline_ns: int
    is_armed: bool  # KVM refuses while an instruction is half done


class Debugger:
    """Holds a PC's VCPU, from before its first instruction until gdb lets it go; see Supervisor.

    A client that connects stops the guest; one that detaches or is gone lets it go on without its points.

    Threads: it belongs to the VCPU's thread.
    """

    def __init__(self, pc: Pc, support: DebugSupport) -> None:
        """Holds the VCPU of `pc`, whose debug registers can do what `support` says."""
        self._pc = pc
        self._points = Points(support)
        self._can_block_interrupts = True
        self._vcpu: Vcpu
        self._session: Session | None = None
        self._layout = REAL
        self._is_held = True
        self._stop_reply = _TRAPPED
        self._wants_one = False  # a step that gdb asked for
        self._steps_over = False  # the breakpoint that the guest stands on
        self._step: _Step | None = None
        self._is_armed = False
        self._stale: State | None = None  # where a step ended by an access; KVM may still tell of its end
        self._seen: dict[Point, bytes] = {}

    # The client

    def connect(self, send: Callable[[bytes], object]) -> None:
        """Stops the guest for a client, to whom `send` sends."""
        self._points.clear()
        self._hold(_TRAPPED)
        self._layout = layout_of(self.read_state())
        self._session = Session(self, send)

    def receive(self, data: bytes) -> None:
        """Takes what the client has sent."""
        if self._session is not None:
            self._session.receive(data)

    def disconnect(self) -> None:
        """Lets the guest go on: the client is gone."""
        self._session = None
        self.detach()

    # Being a Supervisor

    def started(self, vcpu: Vcpu) -> None:
        """See Supervisor."""
        self._vcpu = vcpu

    def may_enter(self) -> bool:
        """See Supervisor."""
        if not self._is_held and self._step is not None:
            self._look_at_step(self._step)
        if not self._is_held and self._step is None and self._must_step:
            if self._step_into_int():
                self._pc.post(lambda: None)  # comes back at once, but behind what else was posted
                return False
            self._begin_step()
        if self._is_held:
            return False
        if self._step is None and not self._is_armed:
            self._is_armed = self._set_debug(self._points.registers, single_step=False)
        return True

    def takes(self, exit: Exit) -> bool:
        """See Supervisor."""
        if exit.reason != ExitReason.DEBUG:
            return False
        state, stale = self.read_state(), self._stale
        self._stale = None
        watched = self._watched_by(exit)
        if watched is not None:
            self._hold(_reply(watched))
        elif self._step is None:
            self._stop_at_breakpoint(state.pc)
        elif state != stale:
            self._end_step(state.pc)
        return True

    def ended(self, status: int) -> None:
        """See Supervisor."""
        if self._session is not None and not self._is_held:
            self._session.reply(b"W%02x" % (status & 0xFF))

    # Being a Target

    @property
    def layout(self) -> Layout:
        """See Target."""
        return self._layout

    @property
    def stop_reply(self) -> bytes:
        """See Target."""
        return self._stop_reply

    def read_state(self) -> State:
        """See Target."""
        return State(self._vcpu.read_registers(), self._vcpu.read_special())

    def write_state(self, state: State) -> None:
        """See Target."""
        vcpu, before = self._vcpu, self.read_state()
        try:
            if state.special != before.special:
                vcpu.write_special(state.special)
            if state.general != before.general:
                vcpu.write_registers(state.general)
        except ZxError as error:
            raise Refused(_INVALID) from error

    def read_memory(self, addr: int, length: int) -> bytes:
        """See Target."""
        found = bytearray()
        for physical, size in self._pieces(addr, length):
            if physical is None:
                break
            found += self._pc.memory.read(physical, size)
        return bytes(found)

    def write_memory(self, addr: int, data: bytes) -> None:
        """See Target; the ROM can be written too."""
        pieces = list(self._pieces(addr, len(data)))
        for physical, size in pieces:
            if physical is None:
                raise Refused(_FAULT)
            self._pc.memory.burn(data[:size], physical)
            data = data[size:]

    def _pieces(self, addr: int, length: int) -> Iterator[tuple[int | None, int]]:
        """The physical address, or None, and the size of each part that lies in one page."""
        special, memory = self.read_state().special, self._pc.memory
        while length:
            size = min(length, PAGE - addr % PAGE)
            physical = translate(special, memory, addr)
            yield (physical if physical is not None and physical + size <= memory.size else None), size
            addr, length = addr + size, length - size

    def insert(self, point: Point) -> bool:
        """See Target."""
        self._is_armed = False
        return self._points.insert(point)

    def remove(self, point: Point) -> None:
        """See Target."""
        self._is_armed = False
        self._points.remove(point)

    def resume(self, *, step: bool) -> None:
        """See Target."""
        pc = self.read_state().pc
        self._wants_one = step
        self._steps_over = self._points.breakpoint_at(pc) is not None
        self._seen = {point: self.read_memory(point.addr, point.length) for point in self._points.compared}
        self._is_held = self._is_armed = False

    def interrupt(self) -> None:
        """See Debuggee."""
        if not self._is_held:
            self._hold(_INTERRUPTED)

    def detach(self) -> None:
        """See Target."""
        self._points.clear()
        self._step = None
        self._wants_one = self._steps_over = self._is_held = self._is_armed = False

    def kill(self) -> None:
        """See Target."""
        self._pc.end(Reason.STOPPED, detail="by gdb")

    # Stepping

    @property
    def _must_step(self) -> bool:
        return self._wants_one or self._steps_over or self._points.needs_stepping

    def _step_into_int(self) -> bool:
        after = instructions.step_into_int(self.read_state(), self._pc.memory)
        if after is None:
            return False
        try:
            self.write_state(after)
        except Refused:  # it is half done
            return False
        self._end_step(after.pc)
        return True

    def _begin_step(self) -> None:
        vcpu, state = self._vcpu, self.read_state()
        sleeps = instructions.is_hlt(state, self._pc.memory) or vcpu.read_mp_state() == MpState.HALTED
        is_armed = self._set_debug(self._points.watching, single_step=True, quiet=self._wants_one and not sleeps)
        self._is_armed = False
        self._step = _Step(state.pc, self._pc.now_ns() + STEP_LIMIT_NS, is_armed)

    def _look_at_step(self, step: _Step) -> None:
        """A step that ends by an access has no exit of its own, or a late one."""
        state = self.read_state()
        if state.pc != step.pc:
            self._stale = state
            self._end_step(state.pc)
        elif self._wants_one and self._pc.now_ns() >= step.deadline_ns:
            self._hold(_TRAPPED)
        elif not step.is_armed:
            self._step = None

    def _end_step(self, pc: int) -> None:
        self._step = None
        self._steps_over = False
        changed = self._changed_range()
        if changed is not None:
            self._hold(_reply(changed))
        elif not self._stop_at_breakpoint(pc) and self._wants_one:
            self._hold(_TRAPPED)

    def _stop_at_breakpoint(self, pc: int) -> bool:
        point = self._points.breakpoint_at(pc)
        if point is not None:
            self._hold(_reply(point))
        return point is not None

    def _changed_range(self) -> Point | None:
        return next((p for p, seen in self._seen.items() if self.read_memory(p.addr, p.length) != seen), None)

    def _watched_by(self, exit: Exit) -> Point | None:
        hits = exit.dr6 & _REGISTER_HITS
        registers = self._points.registers if self._step is None else self._points.watching
        hit = [register for place, register in enumerate(registers) if hits >> place & 1]
        points = (self._points.of_register(register) for register in hit if register.condition != "execute")
        return next(points, None)

    def _hold(self, stop_reply: bytes) -> None:
        was_running, self._is_held = not self._is_held, True
        self._stop_reply = stop_reply
        self._step = None
        self._wants_one = self._steps_over = False
        if was_running and self._session is not None:
            self._session.reply(stop_reply)

    def _set_debug(self, registers: Sequence[Breakpoint], *, single_step: bool, quiet: bool = False) -> bool:
        """Tells KVM what to stop for; `quiet` keeps interrupts from the guest. False: KVM refuses it now."""
        vcpu = self._vcpu
        try:
            if quiet and self._can_block_interrupts:
                try:
                    vcpu.set_guest_debug(registers, single_step=single_step, block_interrupts=True)
                    return True
                except InvalidArgsError:  # before Linux 5.15
                    self._can_block_interrupts = False
            vcpu.set_guest_debug(registers, single_step=single_step)
        except BadStateError:
            return False
        return True


def _reply(point: Point) -> bytes:
    return _TRAPPED + _POINT_NAMES[point.kind].format(point.addr).encode() + b";"
