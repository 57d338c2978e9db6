"""Vcpu: a virtual processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kvmbind.abi.constants import (
    ZX_RIGHT_EXECUTE,
    ZX_RIGHT_INSPECT,
    ZX_RIGHT_MANAGE_PROCESS,
    ZX_RIGHT_READ,
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WRITE,
)
from kvmbind.abi.errors import BadStateError, InvalidArgsError
from kvmbind.kvm.vcpu import Vcpu as KvmVcpu
from kvmbind.objects.base import deadline_after
from kvmbind.objects.waitable import WaitableObject
from kvmbind.zircon.vcpu import VcpuDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Concatenate, ParamSpec, Self, TypeVar

    from kvmbind.abi.structs import PortPacket, VcpuIo, VcpuState
    from kvmbind.kvm.registers import Breakpoint, DebugRegisters, MpState, Registers, SpecialRegisters, VcpuEvents
    from kvmbind.kvm.stats import VcpuStats
    from kvmbind.objects.guest import Guest
    from kvmbind.objects.runner import Runner
    from kvmbind.zircon.guest import StartMode
    from kvmbind.zircon.handles import Entry

    P = ParamSpec("P")
    T = TypeVar("T")


class Vcpu(WaitableObject[VcpuDispatcher]):
    """A VCPU. Mirrors zx_vcpu_*.

    Beside what Zircon has, it gives access to all that KVM knows of it: registers, MSRs, the local APIC, debugging.

    Threads: `enter`, `read_*`, `write_*` and `set_guest_debug` belong to the thread that created it, which for one of
    `Guest.start_vcpu` is its own; BadStateError on any other. Everything else may be called by any thread. Closing it
    while it runs kicks it.
    """

    __slots__ = ("_runner",)
    _DISPATCHER = VcpuDispatcher

    @classmethod
    def create(
        cls, guest: Guest, entry: int = 0, *, mode: StartMode = "real", apic: Literal["x2apic", "xapic"] = "x2apic"
    ) -> Self:
        """Makes the guest's next VCPU, owned by the calling thread. Needs ZX_RIGHT_MANAGE_PROCESS of the guest.

        Args:
            guest: Kept alive by the VCPU.
            entry: Guest-physical address of the first instruction, in real mode below 1 MiB.
            mode: "real": CS = entry >> 4, IP = entry & 15, all else zero. "long": Zircon's first VCPU: 64-bit,
                paging on, CR3 = 0. "wait-for-sipi": `enter` waits until another VCPU sends INIT and SIPI, which says
                where it starts; as INIT leaves it, its local APIC takes nothing until the guest sets its SVR. Not the
                guest's first VCPU.
            apic: The mode of its local APIC. In xAPIC mode, which firmware starts in, a guest reaches it at FEE00000h;
                what is bound to several VCPUs reaches them in x2APIC mode only.

        Raises:
            InvalidArgsError: `entry`, `mode` or `apic` is none, or does not go with another or with the APIC id.
            NoResourcesError: The guest has had as many as KVM allows.
        """
        call = "zx_vcpu_create"
        owner = guest._object(call, ZX_RIGHT_MANAGE_PROCESS)
        if mode not in ("real", "long", "wait-for-sipi"):
            raise InvalidArgsError(call, f'mode {mode!r} is not "real", "long" or "wait-for-sipi"')
        if apic not in ("x2apic", "xapic"):
            raise InvalidArgsError(call, f'apic {apic!r} is not "x2apic" or "xapic"')
        if entry < 0:
            raise InvalidArgsError(call, f"entry {entry} is negative")
        return cls._wrap(VcpuDispatcher(owner, entry, mode, x2apic=apic == "x2apic"))

    def _attach(self, entry: Entry, *, owned: bool) -> None:
        super()._attach(entry, owned=owned)
        self._runner: Runner | None = None

    def replace(self, rights: int) -> Self:
        """As of every object. BadStateError for one of `Guest.start_vcpu`, whose thread uses the handle."""
        self._require_no_thread("zx_handle_replace")
        return super().replace(rights)

    def release(self) -> int:
        """As of every object. BadStateError for one of `Guest.start_vcpu`, whose thread uses the handle."""
        self._require_no_thread("release")
        return super().release()

    def _require_no_thread(self, call: str) -> None:
        if self._runner is not None:
            raise BadStateError(call, "its thread uses the handle: duplicate it instead")

    def enter(self, timeout_s: float | None = None) -> PortPacket:
        """Runs the guest until it makes a packet. Mirrors zx_vcpu_enter; needs ZX_RIGHT_EXECUTE.

        Args:
            timeout_s: Seconds; None is for ever.

        Raises:
            CanceledError: Kicked, or closed meanwhile.
            TimedOutError: It made none in time; entering again goes on.
            NotFoundError: It accessed what is neither memory nor trapped: `error.access`. Entering again goes on behind
                that; a read gives all ones unless `write_io` answered it.
            NotSupportedError: KVM_RUN returned with something else: `error.exit`, such as a breakpoint, a shutdown
                (triple fault) or an instruction that KVM cannot emulate. The message says where the guest is. After a
                shutdown `enter` raises the same again until registers are written; otherwise KVM tries again.
            BadStateError: It belongs to another thread; or the processor refused its state: `error.exit`.
        """
        vcpu = self._entry.object
        if not isinstance(vcpu, VcpuDispatcher) or not self._entry.rights & ZX_RIGHT_EXECUTE:
            vcpu = self._object("zx_vcpu_enter", ZX_RIGHT_EXECUTE)  # says what is wrong; each exit saves this call
        return vcpu.enter() if timeout_s is None else vcpu.enter(deadline_after(timeout_s))

    def kick(self) -> None:
        """Makes the `enter` that runs now, or the next one, raise CanceledError, once. Needs ZX_RIGHT_EXECUTE."""
        self._object("zx_vcpu_kick", ZX_RIGHT_EXECUTE).kick()

    def interrupt(self, vector: int) -> None:
        """Raises a vector in its local APIC: 16 to 255, or 2 for an NMI. Needs ZX_RIGHT_SIGNAL.

        Raises:
            OutOfRangeError: Another vector.
        """
        self._object("zx_vcpu_interrupt", ZX_RIGHT_SIGNAL).interrupt(vector)

    def read_state(self) -> VcpuState:
        """Returns the general registers; RFLAGS has the user's flags only. Needs ZX_RIGHT_READ."""
        return self._object("zx_vcpu_read_state", ZX_RIGHT_READ).read_state()

    def write_state(self, state: VcpuState) -> None:
        """Sets the general registers; RFLAGS' user flags only if its bit 1 is set. Needs ZX_RIGHT_WRITE.

        Raises:
            BadStateError: A read waits for its answer; or it belongs to another thread.
        """
        self._object("zx_vcpu_write_state", ZX_RIGHT_WRITE).write_state(state)

    def write_io(self, io: VcpuIo) -> None:
        """Answers the read that `enter` returned; with none open, sets the low bytes of RAX. Needs ZX_RIGHT_WRITE.

        Raises:
            InvalidArgsError: access_size is not 1, 2 or 4.
            BadStateError: It belongs to another thread.
        """
        self._object("zx_vcpu_write_state", ZX_RIGHT_WRITE).write_io(io)

    # What Zircon hides. The kernel first finishes an instruction whose access was answered. While a read waits for its
    # answer, what is read is the state before the instruction, and a write is a BadStateError.

    def read_registers(self) -> Registers:
        """Returns the general registers, RIP and all of RFLAGS. Mirrors KVM_GET_REGS; needs ZX_RIGHT_READ.

        While a read waits for its answer RIP is at the instruction or behind it, as KVM has it.
        """
        return self._read("read_registers", KvmVcpu.read_registers)

    def write_registers(self, registers: Registers) -> None:
        """Sets the general registers, RIP and all of RFLAGS. Mirrors KVM_SET_REGS; needs ZX_RIGHT_WRITE.

        Raises:
            BadStateError: A read waits for its answer; or it belongs to another thread. So of each `write_*`.
            InvalidArgsError: A value does not fit, or KVM refuses it. So of each `write_*`.
        """
        self._write("write_registers", KvmVcpu.write_registers, registers)

    def keep_exit_registers(self) -> None:
        """Makes each exit that is an access to a port or to memory keep its registers, for `read_exit_registers`.

        Of a VCPU that has shut down (a triple fault) some processors keep nothing else. It costs an exit a microsecond
        or less. Mirrors KVM_CAP_SYNC_REGS; needs ZX_RIGHT_WRITE.

        Raises:
            NotSupportedError: This KVM cannot.
            BadStateError: It belongs to another thread.
        """
        self._write("keep_exit_registers", KvmVcpu.keep_exit_registers)

    def read_exit_registers(self) -> tuple[Registers, SpecialRegisters] | None:
        """Returns the registers of the last exit that was an access, or None if there was none.

        RIP may be that of the instruction or already behind it. Needs ZX_RIGHT_READ, and `keep_exit_registers` before.

        Raises:
            BadStateError: It belongs to another thread.
        """
        return self._read("read_exit_registers", KvmVcpu.read_exit_registers)

    def read_special(self) -> SpecialRegisters:
        """Returns segments, descriptor tables and control registers. Mirrors KVM_GET_SREGS; needs ZX_RIGHT_READ."""
        return self._read("read_special", KvmVcpu.read_special)

    def write_special(self, special: SpecialRegisters) -> None:
        """Sets segments, descriptor tables and control registers. Mirrors KVM_SET_SREGS; needs ZX_RIGHT_WRITE."""
        self._write("write_special", KvmVcpu.write_special, special)

    def read_msr(self, index: int) -> int:
        """Returns a model-specific register. Mirrors KVM_GET_MSRS; needs ZX_RIGHT_READ.

        Raises:
            NotFoundError: KVM has no such register.
        """
        return self._read("read_msr", KvmVcpu.read_msr, index)

    def write_msr(self, index: int, value: int) -> None:
        """Sets a model-specific register. Mirrors KVM_SET_MSRS; needs ZX_RIGHT_WRITE."""
        self._write("write_msr", KvmVcpu.write_msr, index, value)

    def read_lapic(self) -> bytes:
        """Returns the local APIC's registers: 1024 bytes, each a little-endian dword at its xAPIC offset.

        Mirrors KVM_GET_LAPIC; needs ZX_RIGHT_READ. In x2APIC mode the id at 20h is the whole dword.
        """
        return self._read("read_lapic", KvmVcpu.read_lapic)

    def write_lapic(self, page: bytes) -> None:
        """Sets the local APIC's registers, as `read_lapic` gives them. Mirrors KVM_SET_LAPIC; needs ZX_RIGHT_WRITE."""
        self._write("write_lapic", KvmVcpu.write_lapic, page)

    def read_mp_state(self) -> MpState:
        """Returns whether it runs or waits, and what for. Mirrors KVM_GET_MP_STATE; needs ZX_RIGHT_READ."""
        return self._read("read_mp_state", KvmVcpu.read_mp_state)

    def write_mp_state(self, state: MpState) -> None:
        """Makes it wait, or run. Mirrors KVM_SET_MP_STATE; needs ZX_RIGHT_WRITE."""
        self._write("write_mp_state", KvmVcpu.write_mp_state, state)

    def read_events(self) -> VcpuEvents:
        """Returns what is on its way into the guest. Mirrors KVM_GET_VCPU_EVENTS; needs ZX_RIGHT_READ."""
        return self._read("read_events", KvmVcpu.read_events)

    def write_events(self, events: VcpuEvents) -> None:
        """Sets what is on its way into the guest. Mirrors KVM_SET_VCPU_EVENTS; needs ZX_RIGHT_WRITE."""
        self._write("write_events", KvmVcpu.write_events, events)

    def read_debug_registers(self) -> DebugRegisters:
        """Returns the guest's own debug registers. Mirrors KVM_GET_DEBUGREGS; needs ZX_RIGHT_READ."""
        return self._read("read_debug_registers", KvmVcpu.read_debug_registers)

    def write_debug_registers(self, registers: DebugRegisters) -> None:
        """Sets the guest's own debug registers. Mirrors KVM_SET_DEBUGREGS; needs ZX_RIGHT_WRITE."""
        self._write("write_debug_registers", KvmVcpu.write_debug_registers, registers)

    def set_guest_debug(
        self, breakpoints: Sequence[Breakpoint] = (), *, single_step: bool = False, block_interrupts: bool = False
    ) -> None:
        """Makes `enter` stop at breakpoints or behind each instruction, in place of what was set before.

        It stops by NotSupportedError, whose `exit.reason` is ExitReason.DEBUG. The processor's debug registers do it:
        nothing is written into the guest, and its own breakpoints rest meanwhile. A breakpoint stops before its
        instruction, and again at the next `enter`: step over it first. A watched address stops behind the access. A
        KVM that interprets the guest may know no watched addresses, a processor that is emulated no breakpoints: set
        one and see. Mirrors KVM_SET_GUEST_DEBUG; needs ZX_RIGHT_WRITE.

        Args:
            breakpoints: Up to four.
            single_step: Whether to stop behind each instruction.
            block_interrupts: Whether no interrupt reaches the guest meanwhile (Linux 5.15).

        Raises:
            InvalidArgsError: More than four, or one that no debug register can express; or the kernel cannot do it.
            BadStateError: A read waits for its answer; or it belongs to another thread.
        """
        self._write(
            "set_guest_debug",
            KvmVcpu.set_guest_debug,
            breakpoints,
            single_step=single_step,
            block_interrupts=block_interrupts,
        )

    def _read(self, name: str, operation: Callable[Concatenate[KvmVcpu, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = f"Vcpu.{name}"
        return self._object(call, ZX_RIGHT_READ).ask_kvm(call, operation, *args, **kwargs)

    def _write(
        self, name: str, operation: Callable[Concatenate[KvmVcpu, P], object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        call = f"Vcpu.{name}"
        self._object(call, ZX_RIGHT_WRITE).ask_kvm(call, operation, *args, **kwargs)

    @property
    def apic_id(self) -> int:
        """The id of its local APIC: how many VCPUs the guest had before."""
        return self._object("apic_id").apic_id

    @property
    def returns(self) -> int:
        """How often KVM_RUN has returned to user space with an exit. Kicks and signals are not counted."""
        return self._object("returns").returns

    @property
    def interrupted(self) -> int:
        """How often KVM_RUN has returned with EINTR: for a kick, a pause or a signal."""
        return self._object("interrupted").interrupted

    @property
    def kicked(self) -> bool:
        """Whether a kick waits for the next `enter`. Needs ZX_RIGHT_INSPECT."""
        return self._object("kicked", ZX_RIGHT_INSPECT).kicked

    def stats(self) -> VcpuStats:
        """Returns what KVM has counted for it; never waits for it to stop. NotSupportedError before Linux 5.14."""
        return self._object("stats").stats()

    def join(self, timeout_s: float | None = None) -> None:
        """Waits until the thread of a started VCPU has ended, and raises what it raised.

        Args:
            timeout_s: Seconds; None is for ever.

        Raises:
            TimedOutError: It still runs.
            BadStateError: It was not made by `Guest.start_vcpu`.
        """
        if self._runner is None:
            raise BadStateError("Vcpu.join", "only a VCPU of Guest.start_vcpu has a thread to wait for")
        self._runner.join(timeout_s)

    def close(self) -> None:
        """Closes it. One of `Guest.start_vcpu` is kicked and joined first; what its thread raised is raised here."""
        runner, self._runner = self._runner, None
        try:
            if runner is not None:
                self._stop(runner)
        finally:
            super().close()

    def _stop(self, runner: Runner) -> None:
        runner.kick()
        runner.join(None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"The VCPU's thread had ended with {type(failure).__name__}: {failure}")

    def _facts(self) -> str:
        return f"apic_id={self.apic_id} "
