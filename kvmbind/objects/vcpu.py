"""Vcpu: a virtual processor."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Literal

from kvmbind.abi.constants import (
    ZX_RIGHT_EXECUTE,
    ZX_RIGHT_INSPECT,
    ZX_RIGHT_MANAGE_PROCESS,
    ZX_RIGHT_READ,
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WRITE,
)
from kvmbind.abi.errors import BadHandleError, BadStateError, CanceledError, InvalidArgsError, TimedOutError
from kvmbind.kvm import signals
from kvmbind.objects.base import deadline_after
from kvmbind.objects.waitable import WaitableObject
from kvmbind.zircon.vcpu import VcpuDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from kvmbind.abi.structs import PortPacket, VcpuIo, VcpuState
    from kvmbind.kvm.stats import VcpuStats
    from kvmbind.objects.guest import Guest
    from kvmbind.zircon.handles import Entry

    OnPacket = Callable[["Vcpu", PortPacket], object]


class Vcpu(WaitableObject[VcpuDispatcher]):
    """A VCPU. Mirrors zx_vcpu_*.

    Threads: `enter`, `read_state`, `write_state` and `write_io` belong to the thread that created it, which for one of
    `Guest.start_vcpu` is its own; BadStateError on any other. Everything else may be called by any thread. Closing it
    while it runs kicks it.
    """

    __slots__ = ("_runner",)
    _DISPATCHER = VcpuDispatcher

    @classmethod
    def create(cls, guest: Guest, entry: int = 0, *, mode: Literal["real", "long"] = "real") -> Self:
        """Makes the guest's next VCPU, owned by the calling thread. Needs ZX_RIGHT_MANAGE_PROCESS of the guest.

        Args:
            guest: Kept alive by the VCPU.
            entry: Guest-physical address of the first instruction, in real mode below 1 MiB.
            mode: "real": CS = entry >> 4, IP = entry & 15, all else zero. "long": Zircon's first VCPU: 64-bit,
                paging on, CR3 = 0.

        Raises:
            InvalidArgsError: `entry` or `mode` is none.
            NoResourcesError: The guest has had as many as KVM allows.
        """
        call = "zx_vcpu_create"
        owner = guest._object(call, ZX_RIGHT_MANAGE_PROCESS)
        if mode not in ("real", "long"):
            raise InvalidArgsError(call, f'mode {mode!r} is not "real" or "long"')
        if entry < 0:
            raise InvalidArgsError(call, f"entry {entry} is negative")
        return cls._wrap(VcpuDispatcher(owner, entry, long_mode=mode == "long"))

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
            NotSupportedError: KVM cannot run it on; the message says where it is.
            BadStateError: It belongs to another thread.
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


class Runner:
    """The thread of a started VCPU: it creates the VCPU, enters it until it is kicked, and keeps what it raised.

    Threads: `join` may be called by any; the rest is the thread's own until `started` is set.
    """

    __slots__ = ("_create", "_error", "_object", "_on_packet", "_started", "_thread", "vcpu")

    def __init__(self, create: Callable[[], Vcpu], on_packet: OnPacket | None) -> None:
        """Starts the thread and waits until it has made its VCPU; raises what that raised."""
        self._create = create
        self._on_packet = on_packet
        self._error: BaseException | None = None
        self._object: VcpuDispatcher | None = None
        self._started = threading.Event()
        self.vcpu: Vcpu | None = None
        self._thread = threading.Thread(target=self._run, name="kvmbind-vcpu", daemon=True)
        self._thread.start()
        self._started.wait()
        if self.vcpu is None:
            self.join(None)

    def _run(self) -> None:
        signals.block_all_but_kick()
        try:
            vcpu = self._create()
            self._object = vcpu._object("Guest.start_vcpu")
            self.vcpu = vcpu
            self._started.set()
            while True:
                self._take(vcpu, vcpu.enter())
        except CanceledError:
            return
        except BadHandleError as error:
            if self.vcpu is None or not self.vcpu.closed:
                self._error = error
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    def _take(self, vcpu: Vcpu, packet: PortPacket) -> None:
        if self._on_packet is None:
            raise BadStateError("Guest.start_vcpu", f"the guest made {packet!r}, and no on_packet was given to take it")
        self._on_packet(vcpu, packet)

    def kick(self) -> None:
        """Kicks the VCPU, whatever has become of the handle that it was started with."""
        if self._object is not None:
            with contextlib.suppress(BadHandleError):  # the last handle is closed, which kicks it too
                self._object.kick()

    def join(self, timeout_s: float | None) -> None:
        """Waits for the thread's end; raises what it raised, once."""
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimedOutError("Vcpu.join", f"the VCPU's thread still runs after {timeout_s} s")
        error, self._error = self._error, None
        if error is not None:
            raise error
