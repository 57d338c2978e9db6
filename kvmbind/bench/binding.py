"""What it costs to bind the n-th interrupt to a VCPU, singly and in bulk."""

from __future__ import annotations

import contextlib
import resource
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import kvmbind
from kvmbind._shim import ffi, lib
from kvmbind.bench.counters import Counters
from kvmbind.bench.distribution import Distribution
from kvmbind.bench.plan import PlanError
from kvmbind.bench.run import Contestant, Run, Taken, split_evenly
from kvmbind.bench.targets import VECTOR
from kvmbind.kvm.calls import check

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIZES = (1, 10, 100, 1000, 4000)
_OTHER_FDS = 200
_TITLE = "binding one more interrupt to a VCPU that n - 1 are bound to, or n at once to one with none"


class BindRun(Run):
    """One run of `kvmbind bench bind`.

    Threads: the one that makes it.
    """

    BENCH: ClassVar[str] = "bind"

    def __init__(self, n: int = 60, repeat: int = 3, sizes: Sequence[int] | None = None) -> None:
        """Measures nothing yet.

        Args:
            n: Single binds at each size, all repeats together. In bulk there is one for each repeat.
            repeat: Turns of each size.
            sizes: How many interrupts there are in the end; None is `SIZES`.

        Raises:
            PlanError: This process may not open so many fds.
        """
        sizes = SIZES if sizes is None else sizes
        super().__init__(_TITLE, {"n": n, "repeat": repeat, "sizes": list(sizes)}, split_evenly(n, repeat))
        self._bind_sizes = sizes
        _require_fds(2 * sum(sizes) + max(sizes) + _OTHER_FDS)

    @contextlib.contextmanager
    def open(self) -> Iterator[list[Contestant]]:
        """Makes a guest for each size, and binds all interrupts but one."""
        with contextlib.ExitStack() as opened, _many_fds():
            singles = [one for size in self._bind_sizes for one in (_single_in_c(size), _single(opened, size))]
            yield singles + [one for size in self._bind_sizes for one in (_bulk_in_c(size), _bulk(size))]


def _require_fds(fds: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < fds:
        raise PlanError(f"it needs {fds:,} file descriptors, and this process may have {hard:,}: raise ulimit -Hn")


@contextlib.contextmanager
def _many_fds() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _interrupts(opened: contextlib.ExitStack, count: int) -> list[kvmbind.Interrupt]:
    return [opened.enter_context(kvmbind.Interrupt.create(VECTOR)) for _ in range(count)]


def _single(opened: contextlib.ExitStack, size: int) -> Contestant:
    guest = opened.enter_context(kvmbind.Guest.create())
    vcpu = opened.enter_context(kvmbind.Vcpu.create(guest))
    guest.bind_interrupts([(irq, vcpu) for irq in _interrupts(opened, size - 1)])

    def bind_one() -> int:
        with kvmbind.Interrupt.create(VECTOR) as irq:
            start = time.perf_counter_ns()
            irq.bind_vcpu(vcpu)
            return time.perf_counter_ns() - start

    def take(n: int) -> Taken:
        return Taken({"bind": Distribution(bind_one() for _ in range(n))}, Counters(n))

    return Contestant(f"bind-{size}", f"Interrupt.bind_vcpu() of interrupt {size:,}", "bind", f"bind-{size}-c", take)


def _single_in_c(size: int) -> Contestant:
    name = f"bind-{size}-c"
    says = f"in C: one table update and irqfd, the VM's number {size:,}"
    return Contestant(name, says, "bind", name, lambda n: _in_c(size - 1, 1, n))


def _bulk(size: int) -> Contestant:
    says = f"Guest.bind_interrupts() of {size:,} at once"
    return Contestant(f"bulk-{size}", says, "bind", f"bulk-{size}-c", partial(_bind_at_once, size))


def _bulk_in_c(size: int) -> Contestant:
    name = f"bulk-{size}-c"
    says = f"in C: one table update and {size:,} times KVM_IRQFD"
    return Contestant(name, says, "bind", name, lambda _: _in_c(0, size, 1))


def _in_c(before: int, count: int, n: int) -> Taken:
    ns = ffi.new("uint64_t[]", n)
    check(lib.kb_measure_bind(b"/dev/kvm", before, count, n, ns), "KVM_IRQFD in C")
    return Taken({"bind": Distribution(ns[i] for i in range(n))}, Counters(n))


def _bind_at_once(size: int, _: int) -> Taken:
    with contextlib.ExitStack() as opened:
        guest = opened.enter_context(kvmbind.Guest.create())
        vcpu = opened.enter_context(kvmbind.Vcpu.create(guest))
        pairs = [(irq, vcpu) for irq in _interrupts(opened, size)]
        start = time.perf_counter_ns()
        guest.bind_interrupts(pairs)
        return Taken({"bind": Distribution([time.perf_counter_ns() - start])}, Counters(1))
