"""Ratios of kvmbind to raw C, each pair measured in turn in one run: `python -m kvmbind.bench.ratios`.

A ratio of medians over many short turns holds where single times do not: on a machine whose speed drifts, both sides
drift alike.
"""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import subprocess
import sys
import time
import timeit
from typing import TYPE_CHECKING, NamedTuple

import kvmbind
from kvmbind import guests, zx
from kvmbind._shim import ffi, lib
from kvmbind.bench.host import read_host
from kvmbind.bench.measurement import latency
from kvmbind.bench.probe import calibrate
from kvmbind.kvm.calls import check
from kvmbind.kvm.eventfd import EventFd
from kvmbind.zircon import handles
from kvmbind.zircon.bell import BellTrap
from kvmbind.zircon.guest import GuestDispatcher
from kvmbind.zircon.port import PortDispatcher
from kvmbind.zircon.vcpu import VcpuDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind._shim import Array, Waker
    from kvmbind.bench.plan import GuestState
    from kvmbind.bench.report import Report

ENTRY = 0x1000
VECTOR = 0x40
PORT = 0x80
MEMORY = 1 << 20
TURNS = 30
BELL = 0xD0000  # and the end of memory where the C side has a bell: nobody takes the page out there
LEFT = 0x7100  # how often guests.PING_PONG is still to answer
COUNT = 0x8000
TICKS = 0x9000  # that guests.BELLS took for RINGS stores
RINGS = 200
GAP_NS = 50_000  # a thread that waits is asleep by then


class Ratio(NamedTuple):
    """One line of the report."""

    name: str
    ours_ns: float
    raw_ns: float
    limit: str

    def __str__(self) -> str:
        """Says it in one row."""
        ratio = self.ours_ns / self.raw_ns
        return f"{self.name:<44}{self.ours_ns:>12,.0f}{self.raw_ns:>12,.0f}{ratio:>8.2f}  {self.limit}"


def _median_of_turns(*sides: Callable[[], float]) -> list[float]:
    """Runs all sides in turn, TURNS times after one to warm up; returns the median of each."""
    for side in sides:
        side()
    turns = [[side() for side in sides] for _ in range(TURNS)]
    return [statistics.median(column) for column in zip(*turns, strict=True)]


def _per_call(statement: str, calls: int, **names: object) -> Callable[[], float]:
    """Returns what measures a statement: ns for one, of so many."""
    timer = timeit.Timer(statement, timer=time.perf_counter, globals=names)
    return lambda: timer.timeit(calls) / calls * 1e9


def trigger() -> list[Ratio]:
    """The trigger of a bound interrupt against a write to its eventfd; the VCPU does not run."""
    with (
        kvmbind.Guest.create(memory=MEMORY) as guest,
        kvmbind.Vcpu.create(guest, ENTRY) as vcpu,
        kvmbind.Interrupt.create(VECTOR) as irq,
    ):
        irq.bind_vcpu(vcpu)
        raw, ours, by_handle = _median_of_turns(
            _per_call("write(fd, 1)", 5000, write=os.eventfd_write, fd=irq.fileno()),
            _per_call("irq.trigger()", 5000, irq=irq),
            _per_call("trigger(handle, 0, 0)", 5000, trigger=zx.zx_interrupt_trigger, handle=irq.handle),
        )
        return [
            Ratio("Interrupt.trigger / os.eventfd_write", ours, raw, "<= 1.3"),
            Ratio("zx_interrupt_trigger / os.eventfd_write", by_handle, raw, "<= 1.8"),
        ]


def delivery() -> Report:
    """From just before the trigger to the guest's own time stamp: Python's trigger and a C loop, in turn."""
    guest_state: GuestState = "polling" if read_host().halt_poll_ns else "halted"
    return latency(("bound", "floor"), guest_state=guest_state, n=200 * TURNS, repeat=TURNS)


def exits(rounds: int = 500) -> list[Ratio]:
    """An I/O exit to Python and back against a C loop around KVM_RUN."""
    with kvmbind.Guest.create(memory=MEMORY) as guest:
        guest.write(guests.PORT_LOOP, ENTRY)
        guest.set_trap_io(PORT, 1, key=1)
        with (
            kvmbind.Vcpu.create(guest, ENTRY) as ours,
            kvmbind.Vcpu.create(guest, ENTRY) as by_handle,
            kvmbind.Vcpu.create(guest, ENTRY) as raw,
        ):
            raw_vcpu = handles.find(raw.handle, VcpuDispatcher).kvm.struct
            ns = ffi.new("uint64_t[]", rounds)

            def c_loop() -> float:
                check(lib.kb_measure_exits(raw_vcpu, rounds, ns), "the C loop")
                return statistics.fmean(ns[i] for i in range(rounds))

            python_ns, zx_ns, c_ns = _median_of_turns(
                _per_call("vcpu.enter()", rounds, vcpu=ours),
                _per_call("enter(handle)", rounds, enter=zx.zx_vcpu_enter, handle=by_handle.handle),
                c_loop,
            )
            return [
                Ratio("I/O exit to Python and back / C", python_ns, c_ns, "<= 1.3"),
                Ratio("I/O packet from zx_vcpu_enter / C", zx_ns, c_ns, "<= 1.3"),
            ]


def bell() -> Ratio:
    """What a store to a bell costs the guest, against a store to an ioeventfd that a C program's epoll looks at."""
    with (
        kvmbind.Guest.create(memory=BELL) as ours,
        kvmbind.Guest.create(memory=BELL) as raw,
        kvmbind.Port.create() as port,
        select.epoll() as epoll,
        contextlib.closing(EventFd.create()) as eventfd,
    ):
        for guest in (ours, raw):
            guest.write(guests.BELLS, ENTRY)
            guest.set_trap_io(PORT, 1, key=1)
        ours.set_trap_bell(BELL, 4096, port, key=2)
        vm = handles.find(raw.handle, GuestDispatcher).vm
        check(lib.kb_vm_ioeventfd(vm.struct, eventfd.fd, BELL, 0, 0), "KVM_IOEVENTFD")
        epoll.register(eventfd.fd, select.EPOLLIN)
        ticks_per_ns = calibrate()

        def ticks(guest: kvmbind.Guest, vcpu: kvmbind.Vcpu) -> float:
            vcpu.enter()
            return guest.read_u32(TICKS) / RINGS / ticks_per_ns

        with kvmbind.Vcpu.create(ours, ENTRY) as our_vcpu, kvmbind.Vcpu.create(raw, ENTRY) as raw_vcpu:

            def our_rings() -> float:
                ns = ticks(ours, our_vcpu)
                with contextlib.suppress(kvmbind.TimedOutError):
                    while True:
                        port.wait(0)
                return ns

            def raw_rings() -> float:
                ns = ticks(raw, raw_vcpu)
                eventfd.drain()
                return ns

            for vcpu in (our_vcpu, raw_vcpu):
                vcpu.enter()  # to the first OUT, of nothing measured
            our_ns, raw_ns = _median_of_turns(our_rings, raw_rings)
            return Ratio("bell, seen by the guest / C ioeventfd", our_ns, raw_ns, "<= 1.1")


def port_wake(rounds: int = 50) -> Ratio:
    """From a write to a bell's eventfd to the end of `Port.wait`, against a C loop over epoll."""
    with (
        kvmbind.Guest.create() as guest,
        kvmbind.Port.create() as port,
        select.epoll() as epoll,
        contextlib.closing(EventFd.create()) as eventfd,
        contextlib.closing(EventFd.create()) as awake,
        contextlib.closing(
            BellTrap(
                "port_wake",
                handles.find(guest.handle, GuestDispatcher).vm,
                BELL,
                handles.find(port.handle, PortDispatcher),
                key=1,
            )
        ) as trap,
    ):
        epoll.register(eventfd.fd, select.EPOLLIN)
        start, woken = ffi.new("uint64_t[]", rounds), ffi.new("uint64_t[]", rounds)
        ticks_per_ns = calibrate()

        def waker_of(fd: int) -> Waker:
            waker = ffi.new("struct kb_waker *")
            waker.eventfd, waker.awake, waker.rounds, waker.gap_ns = fd, awake.fd, rounds, GAP_NS
            waker.start = start
            awake.drain()
            return waker

        def median_ns() -> float:
            return statistics.median(woken[i] - start[i] for i in range(rounds)) / ticks_per_ns

        def our_waits() -> float:
            waker, wait, now = waker_of(trap.fd), port.wait, lib.kb_tsc
            check(lib.kb_waker_start(waker), "pthread_create")
            try:
                for place in range(rounds):
                    wait()
                    woken[place] = now()
                    awake.add()
            finally:
                lib.kb_waker_stop(waker)
            return median_ns()

        def raw_waits() -> float:
            check(lib.kb_measure_wakes(epoll.fileno(), waker_of(eventfd.fd), woken), "the C loop")
            return median_ns()

        our_ns, raw_ns = _median_of_turns(our_waits, raw_waits)
        return Ratio("Port.wait woken by a bell / C epoll loop", our_ns, raw_ns, "<= 1.5")


def ping_pong(rounds: int = 1000) -> Ratio:
    """A round between two guests by `Guest.connect_bell`, against the same wiring in C."""
    ns: Array = ffi.new("uint64_t[]", 1)
    image = guests.PING_PONG

    def our_rounds() -> float:
        with (
            kvmbind.Interrupt.create(VECTOR) as to_left,
            kvmbind.Interrupt.create(VECTOR) as to_right,
            kvmbind.Guest.create(memory=BELL) as left,
            kvmbind.Guest.create(memory=BELL) as right,
        ):
            for guest, irq in ((left, to_left), (right, to_right)):
                guest.write(image, ENTRY)
                guest.write(rounds.to_bytes(4, "little"), LEFT)
                irq.bind_vcpu(guest.start_vcpu(ENTRY))
            left.connect_bell(BELL, to_right)
            right.connect_bell(BELL, to_left)
            start_ns = time.perf_counter_ns()
            to_left.trigger()
            left.wait_u32(COUNT, rounds + 1, timeout_s=60)
            return (time.perf_counter_ns() - start_ns) / rounds

    def raw_rounds() -> float:
        check(lib.kb_measure_ping_pong(b"/dev/kvm", image, len(image), rounds, ns), "the C guests")
        return ns[0] / rounds

    our_ns, raw_ns = _median_of_turns(our_rounds, raw_rounds)
    return Ratio("ping-pong of two guests, a round / C", our_ns, raw_ns, "<= 1.05")


def create() -> Ratio:
    """Guest, VCPU, first exit and close against the same in C."""
    with kvmbind.Resource.root() as resource:
        ns: Array = ffi.new("uint64_t[]", 1)

        def python_guest() -> float:
            start = time.perf_counter_ns()
            with kvmbind.Guest.create(memory=MEMORY, resource=resource) as guest:
                guest.write(guests.PORT_LOOP, ENTRY)
                guest.set_trap_io(PORT, 1, key=1)
                with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
                    vcpu.enter()
            return time.perf_counter_ns() - start

        def c_guest() -> float:
            image = guests.PORT_LOOP
            chip = lib.KB_IRQCHIP_SPLIT
            check(lib.kb_measure_create(b"/dev/kvm", chip, False, image, len(image), 1, ns), "the C guest")
            return ns[0]

        python_ns, c_ns = _median_of_turns(python_guest, c_guest)
        return Ratio("guest + VCPU + first exit + close / C", python_ns, c_ns, "<= 1.5")


def import_ms() -> tuple[float, float, float]:
    """Returns the median times of Pythons that import nothing, kvmbind, and all that its names stand for, in ms."""

    def start_python(code: str) -> Callable[[], float]:
        def start() -> float:
            start_ns = time.perf_counter_ns()
            subprocess.run([sys.executable, "-c", code], check=True)
            return (time.perf_counter_ns() - start_ns) / 1e6

        return start

    every_name = "import kvmbind; kvmbind.Guest; kvmbind.zx"
    bare, package, names = _median_of_turns(*map(start_python, ("pass", "import kvmbind", every_name)))
    return bare, package, names


def main() -> int:
    """Prints the report; returns 1 if KVM_RUN returned while interrupts were delivered."""
    print(f"{'':<44}{'kvmbind ns':>12}{'raw ns':>12}{'ratio':>8}  limit")
    for ratio in (*trigger(), *exits(), create(), bell(), port_wake(), ping_pong()):
        print(ratio)
    report = delivery()
    bound, floor = report["bound"], report["floor"]
    print(f"\np50 of {bound.triggers:,} each, {report.title}:")
    print(f"  Interrupt.trigger {bound.p50_ns:,} ns, C loop {floor.p50_ns:,} ns")
    print(
        f"  Python is {bound.p50_ns - floor.p50_ns:,} ns behind C (limit 500); KVM_RUN returned {bound.returns} times"
    )
    bare, package, names = import_ms()
    print(f"\nover bare Python's {bare:.1f} ms: import kvmbind {package - bare:.1f} ms (limit 25); ", end="")
    print(f"with the objects and kvmbind.zx loaded {names - bare:.1f} ms")
    return 1 if bound.returns else 0


if __name__ == "__main__":
    sys.exit(main())
