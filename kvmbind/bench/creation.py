"""What it costs to make guests and to close them."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import kvmbind
from kvmbind import guests
from kvmbind._shim import ffi, lib
from kvmbind.bench.counters import Counters
from kvmbind.bench.distribution import Distribution
from kvmbind.bench.run import Contestant, Run, Taken, split_evenly
from kvmbind.bench.targets import ENTRY
from kvmbind.kvm.calls import check
from kvmbind.kvm.vm import IRQCHIPS

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = 1 << 20  # as the guest in C has
_PORT = 0x80
_TITLE = "making a guest with 1 MiB and one VCPU up to its first exit, and closing it"


class Kind(NamedTuple):
    """A kind of guest, by the interrupt controllers that it has in the kernel."""

    name: str
    says: str
    irqchip: Literal["split", "pc"]
    pit: bool


KINDS = (
    Kind("split", "local APICs only", "split", pit=False),
    Kind("pc", "PIC and IOAPIC too", "pc", pit=False),
    Kind("pit", "PIC, IOAPIC and PIT too", "pc", pit=True),
)


class CreateRun(Run):
    """One run of `kvmbind bench create`.

    Threads: the one that makes it.
    """

    BENCH: ClassVar[str] = "create"

    def __init__(self, n: int = 100, repeat: int = 10) -> None:
        """Measures nothing yet. n: guests of each kind, all repeats together."""
        super().__init__(_TITLE, {"n": n, "repeat": repeat}, split_evenly(n, repeat))

    @contextlib.contextmanager
    def open(self) -> Iterator[list[Contestant]]:
        """Opens the device, once for all."""
        with kvmbind.Resource.root() as resource:
            made = []
            for kind in KINDS:
                take = partial(_make_and_close, resource, kind)
                base, whole = f"{kind.name}-c", f"made, run to its first exit, closed: {kind.says}"
                made.append(Contestant(base, f"in C: {whole}", "whole", base, partial(_in_c, kind)))
                made.append(Contestant(kind.name, whole, "whole", base, take))
                made.append(
                    Contestant(f"{kind.name}-new", f"only making and running it: {kind.says}", "new", None, take)
                )
                made.append(Contestant(f"{kind.name}-close", f"only closing it: {kind.says}", "close", None, take))
            for contestant in made:
                contestant.take(1)  # the first of each kind takes longer
            yield made


def _in_c(kind: Kind, n: int) -> Taken:
    ns = ffi.new("uint64_t[]", n)
    image, chip = guests.PORT_LOOP, IRQCHIPS[kind.irqchip]
    check(lib.kb_measure_create(b"/dev/kvm", chip, kind.pit, image, len(image), n, ns), "the C guest")
    return Taken({"whole": Distribution(ns[i] for i in range(n))}, Counters(n))


def _make_and_close(resource: kvmbind.Resource, kind: Kind, n: int) -> Taken:
    samples = [_one(resource, kind) for _ in range(n)]
    times = {
        "whole": Distribution(new + close for new, close in samples),
        "new": Distribution(new for new, _ in samples),
        "close": Distribution(close for _, close in samples),
    }
    return Taken(times, Counters(n))


def _one(resource: kvmbind.Resource, kind: Kind) -> tuple[int, int]:
    start = time.perf_counter_ns()
    guest = kvmbind.Guest.create(memory=_MEMORY, irqchip=kind.irqchip, pit=kind.pit, resource=resource)
    try:
        guest.write(guests.PORT_LOOP, ENTRY)
        guest.set_trap_io(_PORT, 1, key=0)
        vcpu = kvmbind.Vcpu.create(guest, ENTRY)
        try:
            vcpu.enter()
            made = time.perf_counter_ns()
        finally:
            vcpu.close()
    finally:
        guest.close()
        kvmbind.settle()  # a helper thread closes what takes long
    return made - start, time.perf_counter_ns() - made
