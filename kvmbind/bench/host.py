"""The machine that is measured on, and how quiet it was."""

from __future__ import annotations

import os
import platform
import resource
from typing import NamedTuple

from kvmbind.doctor import module
from kvmbind.doctor.place import Files, Place


class Host(NamedTuple):
    """Facts that decide what a time means. None: this host does not tell.

    in_software: whether KVM runs guests without the processor's help. nested: whether this is itself a guest.
    posted_interrupts: whether the hardware delivers interrupts to a running guest (APICv, AVIC).
    """

    cpu: str
    cpus: int
    kernel: str
    kvm_module: str
    in_software: bool
    nested: bool
    posted_interrupts: bool | None
    halt_poll_ns: int | None
    governor: str | None
    python: str
    kvmbind: str


class Noise(NamedTuple):
    """What disturbed a measurement: a snapshot, or the difference of two.

    steal_ticks, all_ticks: of /proc/stat, all processors. involuntary_switches: of this process's threads.
    """

    steal_ticks: int
    all_ticks: int
    involuntary_switches: int
    load: float

    def since(self, before: Noise) -> Noise:
        """Returns what has come since a snapshot."""
        return Noise(
            self.steal_ticks - before.steal_ticks,
            self.all_ticks - before.all_ticks,
            self.involuntary_switches - before.involuntary_switches,
            before.load,
        )

    @property
    def steal(self) -> float:
        """The share of the processors' time that an outer hypervisor kept, 0 to 1."""
        return self.steal_ticks / self.all_ticks if self.all_ticks else 0.0


def _first(files: Files, *paths: str) -> str | None:
    return next((text for path in paths if (text := files.text(path))), None)


def _cpu_model(files: Files) -> str:
    models = (
        line.partition(":")[2].strip() for line in files.text("proc/cpuinfo").splitlines() if "model name" in line
    )
    return next(models, platform.machine())


def read_host(files: Files = Files()) -> Host:  # noqa: B008  # it is frozen
    """Reads the facts."""
    import kvmbind

    place = Place.look(files, os.environ)
    posted = _first(files, "sys/module/kvm_intel/parameters/enable_apicv", "sys/module/kvm_amd/parameters/avic")
    halt_poll = _first(files, "sys/module/kvm/parameters/halt_poll_ns")
    return Host(
        cpu=_cpu_model(files),
        cpus=len(os.sched_getaffinity(0)),
        kernel=place.kernel,
        kvm_module=module.loaded(files),
        in_software=not place.virtualization,
        nested=place.hypervisor,
        posted_interrupts=None if posted is None else posted in ("Y", "1"),
        halt_poll_ns=None if halt_poll is None else int(halt_poll),
        governor=_first(files, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        python=platform.python_version(),
        kvmbind=kvmbind.__version__,
    )


def read_noise() -> Noise:
    """Takes a snapshot."""
    ticks = [int(field) for field in (Files().text("proc/stat") or "cpu 0").splitlines()[0].split()[1:9]]
    steal = ticks[7] if len(ticks) > 7 else 0
    return Noise(steal, sum(ticks), resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw, os.getloadavg()[0])
