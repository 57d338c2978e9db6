"""Rounds of a measurement: fire, wait for the guest's answer, note the times."""

from __future__ import annotations

import errno
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from kvmbind._shim import ffi, lib
from kvmbind.abi.errors import TimedOutError
from kvmbind.kvm.calls import check
from kvmbind.kvm.memory import Mapping
from kvmbind.kvm.stats import offset_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kvmbind._shim import Round as Rounds

COUNTS = 0x8000
STAMPS = 0x9000
_ROUND = struct.Struct("<4Q")
_CALIBRATION_S = 0.1
_ANSWER_WITHIN_S = 10.0


class Round(NamedTuple):
    """One trigger that was answered, in ticks of the host's TSC.

    due: when it was to come; 0 where there was no set time. start: just before the trigger. guest: the first
    instruction of the last VCPU's handler. host: the host saw the answer of all.
    """

    due: int
    start: int
    guest: int
    host: int


class Pace(NamedTuple):
    """When the next trigger comes: a gap after the last answer, or an interval after the last trigger, if not 0."""

    ticks_per_ns: float
    gap_ns: float
    interval_ns: float
    asleep: bool


class Watched(NamedTuple):
    """Which guest is watched. Its fds are numbers of the process that watches.

    memory_fd: its memory, from guest-physical 0. stats_fds: one per VCPU, or none. bell_fd: -1, or the eventfd that
    each VCPU rings when it has counted. tsc_offsets: one per VCPU; None where KVM tells none that lasts. counts_at,
    stamps_at: where the VCPUs have them, 4 and 8 bytes each.
    """

    memory_fd: int
    memory_size: int
    stats_fds: tuple[int, ...]
    bell_fd: int
    tsc_offsets: tuple[int | None, ...]
    counts_at: int = COUNTS
    stamps_at: int = STAMPS


def calibrate() -> float:
    """Returns the ticks of the TSC in one ns."""
    start_ticks, start_ns = lib.kb_tsc(), time.monotonic_ns()
    time.sleep(_CALIBRATION_S)
    return (lib.kb_tsc() - start_ticks) / (time.monotonic_ns() - start_ns)


class Probe:
    """One guest that runs `guests.PROBE` or `guests.RINGER`, as the thread sees it that fires into it.

    Threads: one at a time. Ctrl-C ends a wait.
    """

    __slots__ = ("_keep", "_name", "struct")

    def __init__(self, watched: Watched, pace: Pace, name: str) -> None:
        """Maps the guest's memory; the fds stay the caller's, who keeps them open. name: for errors."""
        self._name = name
        vcpus = len(watched.tsc_offsets)
        mapping = Mapping(watched.memory_fd, 0, watched.memory_size)
        offsets = ffi.new("uint64_t[]", vcpus)
        stats_fds = ffi.new("int[]", vcpus)
        for i in range(vcpus):
            offsets[i] = watched.tsc_offsets[i] or 0
        for i, fd in enumerate(watched.stats_fds):
            stats_fds[i] = fd
        probe = ffi.new("struct kb_probe *")
        probe.counts = ffi.cast("uint32_t *", mapping.at(watched.counts_at))
        probe.stamps = ffi.cast("uint64_t *", mapping.at(watched.stamps_at))
        probe.tsc_offsets = offsets
        probe.vcpus = vcpus
        probe.bell = watched.bell_fd
        probe.ticks_per_ns = pace.ticks_per_ns
        probe.gap_ticks = round(pace.gap_ns * pace.ticks_per_ns)
        probe.answer_within_ns = round(_ANSWER_WITHIN_S * 1e9)
        probe.interval_ticks = round(pace.interval_ns * pace.ticks_per_ns)
        blocking = offset_of(watched.stats_fds[0], "blocking") if watched.stats_fds else None
        if pace.asleep and blocking is not None:
            probe.stats_fds = stats_fds
            probe.blocking_offset = blocking
            probe.asleep = 1
        self.struct = probe
        self._keep = (mapping, offsets, stats_fds)

    def arm(self) -> None:
        """Takes what the guest has counted by now for answered; comes before the rounds of one turn."""
        lib.kb_probe_arm(self.struct)

    def run_in_c(self, call: Callable[[Rounds, int], int], n: int) -> list[Round]:
        """Returns n rounds, fired and timed by a loop in the shim: `call(rounds, count)` tells how many it has done."""
        rounds = ffi.new("struct kb_round[]", n)
        done = 0
        while done < n:  # Python runs its signal handlers here
            done += self._check(call(rounds + done, n - done))
        return unpack(bytes(ffi.buffer(rounds)))

    def run_in_python(self, fire: Callable[[], object], n: int) -> list[Round]:
        """Returns n rounds, each fired by a call of Python's."""
        rounds = ffi.new("struct kb_round[]", n)
        places = [rounds + i for i in range(n)]
        probe, tsc, pace, answer = self.struct, lib.kb_tsc, lib.kb_probe_pace, lib.kb_probe_answer
        for place in places:
            while result := pace(probe):
                self._check(result)
            start = tsc()
            fire()
            while result := answer(probe, start, place):
                self._check(result)
        return unpack(bytes(ffi.buffer(rounds)))

    def _check(self, result: int) -> int:
        """Returns how many rounds are done: none if Python has a signal to handle."""
        if result == -errno.EINTR:
            return 0
        if result == -errno.ETIMEDOUT:
            raise TimedOutError(self._name, f"the guest has not answered a trigger for {_ANSWER_WITHIN_S:g} s")
        return check(result, self._name)


def pack(rounds: Iterable[Round]) -> bytes:
    """Makes them bytes, for another process."""
    return b"".join(_ROUND.pack(*fields) for fields in rounds)


def unpack(rounds: bytes) -> list[Round]:
    """Reads what the shim or `pack` has made."""
    return [Round(*fields) for fields in _ROUND.iter_unpack(rounds)]
