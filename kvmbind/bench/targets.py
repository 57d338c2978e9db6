"""The guests that are measured."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from typing import TYPE_CHECKING, Protocol

import kvmbind
from kvmbind import guests
from kvmbind._shim import ffi, lib
from kvmbind.abi.errors import NotSupportedError, TimedOutError
from kvmbind.bench import counters
from kvmbind.bench.affinity import on_cpu
from kvmbind.bench.probe import COUNTS, Watched
from kvmbind.kvm import msi, signals, tsc
from kvmbind.kvm.calls import check
from kvmbind.kvm.eventfd import EventFd
from kvmbind.kvm.memory import PAGE_SIZE, Memory
from kvmbind.kvm.system import System
from kvmbind.kvm.vcpu import Vcpu as KvmVcpu
from kvmbind.kvm.vm import Vm
from kvmbind.zircon import handles
from kvmbind.zircon.guest import GuestDispatcher
from kvmbind.zircon.vcpu import VcpuDispatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmbind.bench.counters import Counters

ENTRY = 0x1000
READY = 0x7000
MODE = 0x7100
BELL = 0xD0000
MEMORY = BELL  # the bell's page is the first that is no memory
VECTOR = 0x40
SPINS, RINGS, BARE = 1, 2, 4  # bits of MODE, see guests.PROBE
_READY_WITHIN_S = 30.0


class Target(Protocol):
    """A guest that is measured.

    watched: what a `Probe` needs to know of it.
    """

    @property
    def watched(self) -> Watched:
        """What a `Probe` needs to know of it."""

    def snapshot(self) -> Counters:
        """Returns what its VCPUs have counted so far."""


class ApicTarget(Target, Protocol):
    """A guest whose VCPUs have local APICs.

    Attributes:
        guest: The guest.
        vcpus: Its VCPUs.
        dispatcher: The guest below `guest`.
        vector: What its handler counts.
        message: The message that raises the vector in every VCPU.
    """

    # D102: the class says above what each of them is.

    @property
    def guest(self) -> kvmbind.Guest: ...  # noqa: D102
    @property
    def vcpus(self) -> list[kvmbind.Vcpu]: ...  # noqa: D102
    @property
    def dispatcher(self) -> GuestDispatcher: ...  # noqa: D102
    @property
    def vector(self) -> int: ...  # noqa: D102
    @property
    def message(self) -> msi.Message: ...  # noqa: D102

    def close(self) -> None:
        """Ends the VCPUs and the guest."""


class ApicGuest:
    """A guest with local APICs; each VCPU runs an image that counts vector 40h.

    Threads: as of its parts; `close` comes last.
    """

    vector = VECTOR

    def __init__(
        self, image: bytes, mode: int = 0, cpus: Sequence[int | None] = (None,), *, port: kvmbind.Port | None = None
    ) -> None:
        """Starts a VCPU for each of `cpus` on that processor, and waits until all are set up.

        A guest that rings does it on the port, or else on an eventfd of its own.
        """
        with contextlib.ExitStack() as undo:
            self._bell = None
            if mode & RINGS and port is None:
                self._bell = undo.enter_context(kvmbind.Interrupt.create())
            self.guest = undo.enter_context(kvmbind.Guest.create(memory=MEMORY))
            self.guest.write(image, ENTRY)
            self.guest.write(bytes([mode]), MODE)
            self._guest = handles.find(self.guest.handle, GuestDispatcher)
            if self._bell is not None:
                self.guest.connect_bell(BELL, self._bell)
            if port is not None:
                self.guest.set_trap_bell(BELL, PAGE_SIZE, port, key=0)
            self.vcpus = [self._start(cpu) for cpu in cpus]
            self._dispatchers = [handles.find(vcpu.handle, VcpuDispatcher) for vcpu in self.vcpus]
            for vcpu in self.vcpus:
                _wait_until_ready(self.guest, vcpu.apic_id)
            self.watched = self._watched()
            self._end = undo.pop_all()

    def _start(self, cpu: int | None) -> kvmbind.Vcpu:
        with on_cpu(cpu):
            return self.guest.start_vcpu(ENTRY)

    def _watched(self) -> Watched:
        stats_fds = tuple(vcpu.kvm.struct.stats_fd for vcpu in self._dispatchers)
        offsets = self._guest.vm.while_paused(lambda: tuple(tsc_offset(vcpu.kvm) for vcpu in self._dispatchers))
        return Watched(
            memory_fd=self.guest.memory.fileno(),
            memory_size=MEMORY,
            stats_fds=() if -1 in stats_fds else stats_fds,
            bell_fd=-1 if self._bell is None else self._bell.fileno(),
            tsc_offsets=offsets,
        )

    @property
    def message(self) -> msi.Message:
        """The message that raises the vector in every VCPU."""
        if len(self.vcpus) == 1:
            return msi.physical(self.vcpus[0].apic_id, VECTOR)
        return msi.logical(0, (1 << len(self.vcpus)) - 1, VECTOR)

    @property
    def dispatcher(self) -> GuestDispatcher:
        """The guest below `guest`."""
        return self._guest

    def snapshot(self) -> Counters:
        """Returns what its VCPUs have counted so far."""
        counted = sum(self.guest.read_u32(COUNTS + 4 * vcpu.apic_id) for vcpu in self.vcpus)
        returns = sum(vcpu.returns + vcpu.interrupted for vcpu in self.vcpus)
        try:
            stats = [vcpu.stats() for vcpu in self.vcpus]
        except NotSupportedError:
            return counters.snapshot(counted=counted, returns=returns, stats=None)
        return counters.snapshot(counted=counted, returns=returns, stats=stats)

    def close(self) -> None:
        """Ends the VCPUs and the guest; raises what a VCPU's thread raised."""
        self._end.close()


class BareGuest:
    """A guest of one VCPU and no interrupt controller in the kernel: its thread injects with KVM_INTERRUPT.

    Threads: as of its parts; `close` comes last.
    """

    def __init__(self, mode: int = 0, cpu: int | None = None) -> None:
        """Starts the VCPU and waits until it is set up."""
        with contextlib.ExitStack() as undo:
            system = System()
            undo.callback(system.close)
            bell = EventFd.create() if mode & RINGS else None
            if bell is not None:
                undo.callback(bell.close)
            memory = Memory(MEMORY)
            undo.callback(memory.close)
            memory.write(guests.PROBE, ENTRY)
            memory.write(bytes([mode | BARE]), MODE)
            self._mapping = memory.map(0, MEMORY)
            vm = Vm(system, irqchip="none")
            undo.callback(vm.close)
            vm.set_memory(0, 0, MEMORY, self._mapping.at(0))
            if bell is not None:
                check(lib.kb_vm_ioeventfd(vm.struct, bell.fd, BELL, 0, 0), "KVM_IOEVENTFD")
            wake = EventFd.create()
            undo.callback(wake.close)
            with on_cpu(cpu):
                self._thread = InjectorThread(vm, system, wake)
            undo.callback(self._thread.close)
            _wait_until_ready(self, 0)
            self.injector = self._thread.injector
            self.watched = Watched(
                memory_fd=memory.fd,
                memory_size=MEMORY,
                stats_fds=(),  # it sleeps in user space, which no statistic shows
                bell_fd=-1 if bell is None else bell.fd,
                tsc_offsets=(self._thread.tsc_offset,),
            )
            self._end = undo.pop_all()

    def read(self, addr: int, length: int) -> bytes:
        """Returns bytes of its memory."""
        return bytes(self._mapping.view()[addr : addr + length])

    def snapshot(self) -> Counters:
        """Returns what its VCPU has counted so far."""
        vcpu = self._thread.vcpu
        counted = lib.kb_read_u32(self._mapping.at(COUNTS))
        try:
            stats = [vcpu.read_stats()]
        except OSError:
            return counters.snapshot(counted=counted, returns=vcpu.returns + vcpu.interrupted, stats=None)
        return counters.snapshot(counted=counted, returns=vcpu.returns + vcpu.interrupted, stats=stats)

    def close(self) -> None:
        """Ends the VCPU and the VM; raises what the VCPU's thread raised."""
        self._end.close()


class InjectorThread:
    """The thread of a VCPU without an interrupt controller: makes it, runs it until `close`, keeps what went wrong."""

    def __init__(self, vm: Vm, system: System, wake: EventFd) -> None:
        """Starts the thread and waits until it has made the VCPU."""
        self.injector = ffi.new("struct kb_injector *")
        self.injector.wake = wake.fd
        self.injector.vector = VECTOR
        self.vcpu: KvmVcpu
        self.tsc_offset: int | None = None
        self._error: BaseException | None = None
        self._made = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(vm, system), name="kvmbind-bench-vcpu", daemon=True)
        self._thread.start()
        self._made.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def _run(self, vm: Vm, system: System) -> None:
        signals.block_all_but_kick()
        try:
            self.vcpu = KvmVcpu(vm, system, 0)
            self.injector.vcpu = self.vcpu.struct
            self.vcpu.start_real(ENTRY)
            self.tsc_offset = tsc_offset(self.vcpu)
            self._made.set()
            result = lib.kb_injector_run(self.injector, self.vcpu.exit)
            if result == -errno.EPROTO:
                reason = self.vcpu.last_exit
                raise OSError(errno.EPROTO, f"the guest without an interrupt controller came out with {reason}")
            check(result, "KVM_INTERRUPT")
        except BaseException as error:
            self._error = error
        finally:
            self._made.set()

    def close(self) -> None:
        """Stops and closes the VCPU; raises what ended its thread before."""
        if self._thread.is_alive():
            lib.kb_injector_stop(self.injector)
        self._thread.join()
        self.vcpu.close()
        if self._error is not None:
            raise self._error


class _Readable(Protocol):
    def read(self, addr: int, length: int) -> bytes: ...


def _wait_until_ready(guest: _Readable, apic_id: int) -> None:
    deadline_s = time.monotonic() + _READY_WITHIN_S
    while guest.read(READY + apic_id, 1) != b"\1":
        if time.monotonic() > deadline_s:
            raise TimedOutError("kvmbind.bench", f"VCPU {apic_id} has not started for {_READY_WITHIN_S:g} s")
        time.sleep(0.001)


def tsc_offset(vcpu: KvmVcpu) -> int | None:
    """Returns the offset, or None where the kernel tells none that lasts; the first rounds show whether it holds."""
    try:
        return tsc.offset(vcpu)
    except OSError:
        return None
