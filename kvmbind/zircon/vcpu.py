"""VCPUs: a vCPU fd, the thread that made it, and what comes out of its run loop."""

from __future__ import annotations

import errno
import os
import struct
import threading
import weakref
from operator import index
from typing import TYPE_CHECKING, ClassVar

from kvmbind._shim import lib
from kvmbind.abi.constants import (
    ZX_DEFAULT_VCPU_RIGHTS,
    ZX_OBJ_TYPE_VCPU,
)
from kvmbind.abi.errors import (
    Access,
    BadHandleError,
    BadStateError,
    CanceledError,
    InvalidArgsError,
    NotFoundError,
    NotSupportedError,
    OutOfRangeError,
    TimedOutError,
    ZxError,
    from_os_error,
)
from kvmbind.abi.structs import PortPacket, VcpuState
from kvmbind.kvm import msi
from kvmbind.kvm.calls import NEVER
from kvmbind.kvm.exits import ExitReason
from kvmbind.zircon.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate, ParamSpec, TypeVar

    from kvmbind.abi.structs import VcpuIo
    from kvmbind.kvm.registers import Registers
    from kvmbind.kvm.stats import VcpuStats
    from kvmbind.kvm.vcpu import Vcpu
    from kvmbind.zircon.guest import GuestDispatcher, StartMode

    P = ParamSpec("P")
    T = TypeVar("T")

_enter = lib.kb_vcpu_enter
_packet_from = PortPacket.from_buffer_copy
_PACKET = lib.KB_PACKET
_INTERRUPTED = -errno.EINTR
_USER_FLAGS = 0x244DD5  # CF PF AF ZF SF TF DF OF NT AC ID
_FLAGS_VALID = 2  # the bit that is always one in RFLAGS, and never in what read_state gives
_NMI_VECTOR = 2


_open: weakref.WeakSet[VcpuDispatcher] = weakref.WeakSet()
_open_lock = threading.Lock()


class VcpuDispatcher(Dispatcher):
    """A VCPU. It holds its guest; the interrupts bound to it hold it.

    Threads: enter, read_state and write_state belong to the thread that made it, BAD_STATE from any other. kick,
    interrupt, bind, stats and returns may be used by any thread. The shim sees to both: a call on the wrong thread is
    refused there, and closing the vCPU stops the thread inside enter and waits until it has left. Closing the last
    handle kicks it, also where an interrupt still holds the VCPU.
    """

    __slots__ = ("_exit", "_packet", "_struct", "apic_id", "guest", "kvm")

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_VCPU
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_VCPU_RIGHTS
    WAITABLE: ClassVar[bool] = True

    def __init__(self, guest: GuestDispatcher, entry: int, mode: StartMode = "real", *, x2apic: bool = True) -> None:
        """Makes the guest's next VCPU, owned by the calling thread.

        Args:
            guest: Held from now on.
            entry: Guest-physical address of the first instruction; 0 if it waits for SIPI.
            mode: "real"; "long": Zircon's state of a first VCPU (64-bit, CR3 = 0); "wait-for-sipi".
            x2apic: Whether its local APIC starts in x2APIC mode, or in xAPIC mode.

        Raises:
            NoResourcesError: The guest has had as many as KVM allows.
            InvalidArgsError: `entry` is none of this mode; the first VCPU cannot wait; no xAPIC has such an id.
            ZxError: What the kernel answered.
        """
        guest.hold()
        try:
            self.kvm, self.apic_id = guest.make_vcpu("zx_vcpu_create", entry, mode, x2apic=x2apic)
        except BaseException:
            guest.drop()
            raise
        self.guest = guest
        self._struct = self.kvm.struct
        self._exit = self.kvm.exit
        self._packet = self.kvm.packet
        super().__init__()
        with _open_lock:
            _open.add(self)

    def enter(self, deadline_ns: int = NEVER) -> PortPacket:
        """Runs the guest until it makes a packet.

        Args:
            deadline_ns: CLOCK_MONOTONIC; when it comes the VCPU kicks itself.

        Raises:
            BadStateError: Not this thread's VCPU; or the processor refused the guest's state.
            CanceledError: Kicked.
            TimedOutError: The deadline came.
            NotFoundError: The guest accessed what is neither memory nor trapped; `access` says what. Entering again
                goes on behind it; a read that nobody answered gives all ones.
            NotSupportedError: KVM_RUN returned with something else; `exit` says what, the hint where the guest is.
                After a shutdown it is the same again until registers are written; otherwise KVM tries again.
        """
        while True:
            result = _enter(self._struct, self._exit, deadline_ns)
            if result == _PACKET:
                return _packet_from(self._packet)
            if result != _INTERRUPTED:  # else Python runs its signal handlers here
                raise self._stopped("zx_vcpu_enter", -result)

    def _stopped(self, call: str, error: int) -> ZxError:
        exit = self._exit
        if error == errno.ECANCELED:
            return CanceledError(call, "the VCPU was kicked")
        if error == errno.ETIMEDOUT:
            return TimedOutError(call, f"the guest ran until the deadline{self._where()}")
        if error == errno.EFAULT:
            exit_facts = self.kvm.last_exit if exit.reason else None
            hint = f"the guest touched memory that its VMO does not have{self._where()}"
            return NotFoundError(call, hint, exit=exit_facts)
        if error == errno.EOPNOTSUPP:
            return NotSupportedError(call, f"a bell can only be written{self._where()}", access=self._access())
        if error == errno.EPIPE:
            return BadStateError(call, f"the port of the bell is closed{self._where()}", access=self._access())
        if error:
            return self._refused(call, OSError(error, f"KVM_RUN: {os.strerror(error)}"))
        if exit.size:
            return NotFoundError(call, f"neither memory nor trapped{self._where()}", access=self._access())
        facts = self.kvm.last_exit
        kind = BadStateError if facts.reason is ExitReason.FAIL_ENTRY else NotSupportedError
        return kind(call, f"KVM_RUN returned with {facts}{self._where()}", exit=facts)

    def _access(self) -> Access:
        exit = self._exit
        data = exit.data.to_bytes(4, "little")[: exit.size] if exit.is_write else b""
        return Access("memory" if exit.is_memory else "io", exit.addr, exit.size, bool(exit.is_write), data)

    def _where(self) -> str:
        try:
            cs, _, ip = self.kvm.code_position()
        except OSError:
            return ""
        return f", at {cs:04x}:{ip:04x}"

    def kick(self) -> None:
        """Makes the current enter, or the next one, raise CanceledError, once."""
        if lib.kb_vcpu_kick(self._struct):
            raise BadHandleError("zx_vcpu_kick", "its last handle was closed at the same time")

    @property
    def kicked(self) -> bool:
        """Whether a kick waits for an enter."""
        return self.kvm.kicked

    def interrupt(self, vector: int) -> None:
        """Raises a vector in its local APIC, or an NMI for vector 2.

        Raises:
            OutOfRangeError: A local APIC takes 16 to 255.
        """
        call = "zx_vcpu_interrupt"
        vector = index(vector)
        if vector == _NMI_VECTOR:
            message = msi.nmi(self.apic_id)
        elif msi.VECTOR_MIN <= vector <= msi.VECTOR_MAX:
            message = msi.physical(self.apic_id, vector)
        else:
            raise OutOfRangeError(call, f"vector {vector} is none of 2 and 16 to 255")
        with self:
            self.guest.signal(call, message)

    def read_state(self) -> VcpuState:
        """Returns the general registers; RFLAGS has the user's flags only."""
        r = self._registers("zx_vcpu_read_state")
        state = VcpuState(**{name: value for name, value in zip(r._fields, r, strict=True) if name != "rip"})
        state.rflags &= _USER_FLAGS
        return state

    def write_state(self, state: VcpuState) -> None:
        """Sets the general registers; RFLAGS' user flags only, and only if its bit 1 is set.

        Raises:
            BadStateError: A read waits for its answer: give it first; or on another thread.
        """
        call = "zx_vcpu_write_state"
        before = self._registers(call)
        values = {name: getattr(state, name) for name in before._fields if name != "rip"}
        if state.rflags & _FLAGS_VALID:
            values["rflags"] = before.rflags & ~_USER_FLAGS | state.rflags & _USER_FLAGS
        else:
            values["rflags"] = before.rflags
        try:
            self.kvm.write_registers(before._replace(**values))
        except OSError as error:
            raise self._refused(call, error) from error

    def write_io(self, io: VcpuIo) -> None:
        """Answers the read that enter returned last; with none open, sets the low bytes of RAX.

        Raises:
            InvalidArgsError: access_size is not 1, 2 or 4.
            BadStateError: On another thread.
        """
        call = "zx_vcpu_write_state"
        try:
            self.kvm.answer(io.access_size, io.u32)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise InvalidArgsError(call, f"access_size {io.access_size} is none of 1, 2 and 4") from error
            raise self._refused(call, error) from error

    def _registers(self, call: str) -> Registers:
        try:
            return self.kvm.read_registers()
        except OSError as error:
            raise self._refused(call, error) from error

    def ask_kvm(self, call: str, operation: Callable[Concatenate[Vcpu, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does to the vCPU what Zircon has no call for.

        Raises:
            BadStateError: On another thread; or it is a write, and a read waits for its answer: give it first.
            InvalidArgsError: A value does not fit, or KVM refuses it.
            ZxError: What else the kernel answered.
        """
        try:
            return operation(self.kvm, *args, **kwargs)
        except OSError as error:
            raise self._refused(call, error) from error
        except (ValueError, struct.error) as error:
            raise InvalidArgsError(call, str(error)) from error

    def _refused(self, call: str, error: OSError) -> ZxError:
        if error.errno == errno.EPERM:
            return BadStateError(call, "the VCPU belongs to the thread that created it")
        if error.errno == errno.EBUSY:
            return BadStateError(call, "its instruction is not finished: answer its read or enter first")
        return from_os_error(call, error)

    @property
    def returns(self) -> int:
        """How often KVM_RUN has returned to user space with an exit."""
        return self.kvm.returns

    @property
    def interrupted(self) -> int:
        """How often KVM_RUN has returned with EINTR: kicks, pauses and signals."""
        return self.kvm.interrupted

    def stats(self) -> VcpuStats:
        """Returns what KVM has counted."""
        with self:
            try:
                return self.kvm.read_stats()
            except OSError as error:
                raise from_os_error("KVM_GET_STATS_FD", error) from error

    def on_zero_handles(self) -> None:
        """Kicks the thread inside enter: nobody could stop it any more."""
        self.kick()

    def _destroy(self) -> None:
        with _open_lock:
            _open.discard(self)
        self.kvm.close()
        self.guest.drop()


def _kick_all() -> None:
    with _open_lock:
        vcpus = list(_open)
    for vcpu in vcpus:
        try:
            vcpu.kick()
        except ZxError:
            continue  # it is closing


# atexit comes after non-daemon threads are joined, and one of them may be inside enter; concurrent.futures uses this
# too
threading._register_atexit(_kick_all)  # type: ignore[attr-defined]  # private, and the only hook before the join


def _after_fork() -> None:
    global _open_lock
    _open_lock = threading.Lock()
    for vcpu in list(_open):
        lib.kb_vcpu_after_fork(vcpu.kvm.struct)
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
