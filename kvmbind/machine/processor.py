"""One VCPU of a PC, and what comes out of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kvmbind.abi.errors import BadStateError, CanceledError, NotFoundError, NotSupportedError, TimedOutError
from kvmbind.abi.structs import VcpuIo
from kvmbind.kvm.exits import ExitReason
from kvmbind.kvm.registers import MpState
from kvmbind.machine import registers
from kvmbind.machine.bios import rom
from kvmbind.machine.bios.call import SLEEP
from kvmbind.machine.ending import Reason
from kvmbind.machine.history import BiosExit, MemoryExit, PortExit

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    from kvmbind.abi.errors import Access, ZxError
    from kvmbind.abi.structs import PortPacket
    from kvmbind.machine.bios.call import Call
    from kvmbind.machine.pc import Pc
    from kvmbind.objects.vcpu import Vcpu

    P = ParamSpec("P")

_INTERRUPTS_ENABLED = 0x200
_FIRST_LOOK_NS, _LAST_LOOK_NS, _LOOK_FACTOR = 200_000, 100_000_000, 4
_ASLEEP_LOOK_NS = 1_000_000_000  # in a service that sleeps; an interrupt's handler may stop all the same
_NOBODY = {size: (1 << 8 * size) - 1 for size in (1, 2, 4)}  # what a read gives where nobody is
_WAITING_FOR_SIPI = (MpState.UNINITIALIZED, MpState.INIT_RECEIVED)


class Processor:
    """Runs one VCPU of a PC and serves its exits.

    Threads: it belongs to the thread that made the VCPU. It holds the PC's lock whenever it serves an exit, and never
    while the guest runs.

    Attributes:
        vcpu: The VCPU.
    """

    __slots__ = ("_call", "_is_asleep", "_last_call", "_look_ns", "_pc", "vcpu")

    def __init__(self, pc: Pc, vcpu: Vcpu) -> None:
        """Takes a VCPU of the calling thread."""
        self._pc = pc
        self._call: BiosExit | None = None
        self._last_call: BiosExit | None = None  # if that was the last exit
        self._look_ns = _FIRST_LOOK_NS
        self._is_asleep = False
        self.vcpu = vcpu
        with contextlib.suppress(NotSupportedError):  # then a triple fault is told without registers
            vcpu.keep_exit_registers()

    @property
    def look_ns(self) -> int:
        """How long it may run, or sleep, until somebody should look whether it sleeps for ever."""
        return _ASLEEP_LOOK_NS if self._is_asleep else self._look_ns

    def step(self, limit_ns: int | None = None) -> bool:
        """Enters the guest until its next exit or a kick, or for `limit_ns`, and serves the exit.

        Returns:
            Whether the time was over, without an exit.
        """
        try:
            packet = self.vcpu.enter(None if limit_ns is None else limit_ns / 1e9)
        except TimedOutError:
            self._look_ns = min(self._look_ns * _LOOK_FACTOR, _LAST_LOOK_NS)
            return True
        except CanceledError:
            return False
        except NotFoundError as error:
            self._serve(self._take_untrapped, error.access)
        except (NotSupportedError, BadStateError) as error:
            self._serve(self._stopped, error)
        else:
            self._serve(self._take_packet, packet)
        return False

    def _serve(self, take: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        with self._pc.lock:
            take(*args, **kwargs)
            if self._pc.reason is not None:
                self._pc.ended_on(self)

    def is_done(self) -> bool:
        """Tells whether it waits for what only another processor can send: it halts without interrupts, or for SIPI."""
        state = self.vcpu.read_mp_state()
        if state in _WAITING_FOR_SIPI:
            return True
        return state == MpState.HALTED and not self.vcpu.read_registers().rflags & _INTERRUPTS_ENABLED

    def registers(self) -> dict[str, int]:
        """Returns its registers; of one that is in a BIOS call, those of the caller."""
        found = registers.read(self.vcpu)
        # What halts while it waits in a call is a handler of the program's own.
        if self._call is not None and self._pc.reason is not Reason.HALTED:
            found |= registers.of_call(self._call)
        return found

    def last_registers(self) -> dict[str, int]:
        """Returns those of its last exit, and after a BIOS call those of the caller; {} if there was no exit."""
        found = registers.read_last_exit(self.vcpu)
        if found and self._last_call is not None:
            found |= registers.of_call(self._last_call)
        return found

    def add_counts(self) -> None:
        """Adds what has been counted for it to the PC's counts, if those are asked for; with the PC's lock."""
        counts = self._pc.kvm_counts
        if counts is None:
            return
        added = {"returns of KVM_RUN": self.vcpu.returns + self.vcpu.interrupted}
        with contextlib.suppress(NotSupportedError):  # before Linux 5.14
            stats = self.vcpu.stats()
            added |= {"exits of the guest": stats.exits, "interrupts injected by KVM": stats.irq_injections}
        for name, count in added.items():
            counts[name] = counts.get(name, 0) + count

    def _note_call(self, call: Call) -> None:
        self._call = self._last_call = BiosExit.of(call)
        self._pc.history.add(self._call)

    def _take_packet(self, packet: PortPacket) -> None:
        self._look_ns = _FIRST_LOOK_NS
        io = packet.guest_io
        if not io.input and io.port == rom.TRAP_PORT and io.access_size == 4:
            self._take_trap(io.u32)
        else:
            self._take_port(io.port, io.access_size, bool(io.input), io.u32)

    def _take_trap(self, stack: int) -> None:
        pc = self._pc
        unfinished = pc.bios.trap(stack, self._note_call)
        self._is_asleep = unfinished is not None and unfinished.action == SLEEP
        if unfinished is not None:
            self._call = BiosExit.of(unfinished)
        elif pc.reason is None:
            self._call = None

    def _take_port(self, port: int, size: int, is_read: bool, value: int) -> None:
        self._is_asleep = False
        self._call = self._last_call = None
        bus = self._pc.bus
        if is_read:
            value = bus.read(port, size)
            self.vcpu.write_io(VcpuIo(access_size=size, u32=value))
        else:
            bus.write(port, size, value)
        self._pc.history.add(PortExit(port, size, not is_read, value, bus.is_open(port)))

    def _take_untrapped(self, access: Access | None) -> None:
        pc = self._pc
        if access is None:  # memory that is there, and that the kernel cannot reach: nothing goes on from here
            pc.end(Reason.CANNOT_RUN, detail="the host lacks the guest's memory")
            return
        value = int.from_bytes(access.data, "little")
        if access.kind == "io":
            self._take_port(access.addr, access.size, not access.is_write, value)
            return
        self._is_asleep = False
        self._last_call = None
        window = pc.memory_bus.find(access.addr)
        if access.is_write and window:
            window.device.write(access.addr - window.start, access.size, value)
        elif not access.is_write:
            value = window.device.read(access.addr - window.start, access.size) if window else _NOBODY[access.size]
            self.vcpu.write_io(VcpuIo(access_size=access.size, u32=value))
        if not window:
            pc.history.add(MemoryExit(access.addr, access.size, access.is_write, value))

    def _stopped(self, error: ZxError) -> None:
        pc, exit = self._pc, error.exit
        if exit is not None and pc.supervisor is not None and pc.supervisor.takes(exit):
            return
        from kvmbind.machine import emulation

        if exit is not None and emulation.skip(self.vcpu, exit, pc.memory):
            return
        if exit is not None and exit.reason == ExitReason.SHUTDOWN:
            pc.end(Reason.SHUTDOWN, detail="a triple fault")
        else:
            pc.end(Reason.CANNOT_RUN, detail=error.hint)
