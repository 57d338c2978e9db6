"""What it costs to leave a guest: exits to Python and to C, and bells, which are no exits."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import kvmbind
from kvmbind import guests, zx
from kvmbind._shim import ffi, lib
from kvmbind.abi.structs import VcpuIo
from kvmbind.bench import counters
from kvmbind.bench.distribution import Distribution
from kvmbind.bench.probe import Pace, Probe, calibrate
from kvmbind.bench.run import Contestant, Run, Taken, split_evenly
from kvmbind.bench.targets import BELL, ENTRY, MEMORY, RINGS, VECTOR, ApicGuest
from kvmbind.kvm.calls import check
from kvmbind.kvm.memory import PAGE_SIZE
from kvmbind.zircon import handles
from kvmbind.zircon.interrupt import InterruptDispatcher
from kvmbind.zircon.vcpu import VcpuDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PORT = 0x80
_ECHO_PORTS = 0x60
_TITLE = "from entering the guest to the next exit, or from triggering an interrupt to the bell that answers it"
_WITHIN_S = 10.0


class ExitsRun(Run):
    """One run of `kvmbind bench exits`: I/O, memory, and bells, each from Python beside C.

    Threads: the one that makes it, which owns the VCPUs.
    """

    BENCH: ClassVar[str] = "exits"

    def __init__(self, n: int = 2000, repeat: int = 20) -> None:
        """Measures nothing yet. n: of each, all repeats together."""
        super().__init__(_TITLE, {"n": n, "repeat": repeat}, split_evenly(n, repeat))

    @contextlib.contextmanager
    def open(self) -> Iterator[list[Contestant]]:
        """Opens a guest for each."""
        with contextlib.ExitStack() as opened:
            made = [
                *_accesses(opened, "io", "an OUT", guests.PORT_LOOP),
                *_accesses(opened, "mmio", "a store to trapped memory", guests.MMIO_LOOP),
                _echo(opened),
                *_bells(opened),
            ]
            for contestant in made:
                contestant.take(2)
            yield made


def _guest(opened: contextlib.ExitStack, image: bytes) -> kvmbind.Vcpu:
    guest = opened.enter_context(kvmbind.Guest.create(memory=MEMORY))
    guest.write(image, ENTRY)
    guest.set_trap_io(_PORT, 1, key=0)
    guest.set_trap_io(_ECHO_PORTS, 2, key=0)
    guest.set_trap_mem(BELL, PAGE_SIZE, key=0)
    return opened.enter_context(kvmbind.Vcpu.create(guest, ENTRY))


def _accesses(opened: contextlib.ExitStack, name: str, what: str, image: bytes) -> Iterator[Contestant]:
    floor = f"{name}-c"
    vcpu = _guest(opened, image)
    dispatcher = handles.find(vcpu.handle, VcpuDispatcher)
    shows = "exit"
    yield Contestant(floor, f"{what}: a loop in C around KVM_RUN", shows, floor, partial(_in_c, dispatcher))
    vcpu = _guest(opened, image)
    yield Contestant(name, f"{what}: Vcpu.enter()", shows, floor, partial(_in_python, vcpu, vcpu.enter))
    vcpu = _guest(opened, image)
    enter = partial(zx.zx_vcpu_enter, vcpu.handle)
    yield Contestant(f"zx-{name}", f"{what}: zx_vcpu_enter()", shows, floor, partial(_in_python, vcpu, enter))


def _echo(opened: contextlib.ExitStack) -> Contestant:
    vcpu = _guest(opened, guests.ECHO)
    answer = VcpuIo(access_size=1)

    def read_and_write() -> None:
        vcpu.enter()
        vcpu.write_io(answer)
        vcpu.enter()

    return Contestant(
        "io-echo",
        "an IN, Vcpu.write_io(), an OUT: two exits",
        "exit",
        "io-c",
        partial(_in_python, vcpu, read_and_write),
    )


def _in_c(vcpu: VcpuDispatcher, n: int) -> Taken:
    ns = ffi.new("uint64_t[]", n)
    before = _snapshot_of(vcpu)
    check(lib.kb_measure_exits(vcpu.kvm.struct, n, ns), "the C loop")
    # The loop is not the shim's own, which counts: each round is one return.
    counted = counters.between(before, _snapshot_of(vcpu), n)._replace(returns=n)
    return Taken({"exit": Distribution(ns[i] for i in range(n))}, counted)


def _in_python(vcpu: kvmbind.Vcpu, call: Callable[[], object], n: int) -> Taken:
    dispatcher = handles.find(vcpu.handle, VcpuDispatcher)
    before = _snapshot_of(dispatcher)
    times = _time_calls(call, n)
    return Taken({"exit": times}, counters.between(before, _snapshot_of(dispatcher), n))


def _time_calls(call: Callable[[], object], n: int) -> Distribution:
    now = time.perf_counter_ns
    ends = [0] * n
    starts = [0] * n
    for i in range(n):
        starts[i] = now()
        call()
        ends[i] = now()
    return Distribution(end - start for start, end in zip(starts, ends, strict=True))


def _snapshot_of(vcpu: VcpuDispatcher) -> counters.Counters:
    try:
        stats = [vcpu.stats()]
    except kvmbind.NotSupportedError:
        stats = None
    return counters.snapshot(counted=None, returns=vcpu.returns + vcpu.interrupted, stats=stats)


def _bells(opened: contextlib.ExitStack) -> Iterator[Contestant]:
    ticks_per_ns = calibrate()
    guest = ApicGuest(guests.PROBE, RINGS)
    opened.callback(guest.close)
    irq = opened.enter_context(kvmbind.Interrupt.create(VECTOR))
    irq.bind_vcpu(guest.vcpus[0])
    guard = handles.find(irq.handle, InterruptDispatcher).guard
    probe = Probe(guest.watched, Pace(ticks_per_ns, gap_ns=0, interval_ns=0, asleep=False), "bell-c")
    loop = partial(lib.kb_rounds_trigger, probe.struct, guard)

    def ring_in_c(n: int) -> Taken:
        probe.arm()
        before = guest.snapshot()
        rounds = probe.run_in_c(loop, n)
        counted = counters.between(before, guest.snapshot(), n)
        return Taken({"exit": Distribution(round((one.host - one.start) / ticks_per_ns) for one in rounds)}, counted)

    yield Contestant(
        "bell-c", "an interrupt answered by a bell: a loop in C over eventfds", "exit", "bell-c", ring_in_c
    )

    port = opened.enter_context(kvmbind.Port.create())
    ringing = ApicGuest(guests.PROBE, RINGS, port=port)
    opened.callback(ringing.close)
    bound = opened.enter_context(kvmbind.Interrupt.create(VECTOR))
    bound.bind_vcpu(ringing.vcpus[0])

    def trigger_and_wait() -> None:
        bound.trigger()
        port.wait(timeout_s=_WITHIN_S)

    def ring_in_python(n: int) -> Taken:
        before = ringing.snapshot()
        times = _time_calls(trigger_and_wait, n)
        return Taken({"exit": times}, counters.between(before, ringing.snapshot(), n))

    says = "an interrupt answered by a bell: Interrupt.trigger(), Port.wait()"
    yield Contestant("bell", says, "exit", "bell-c", ring_in_python)
