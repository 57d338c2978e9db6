"""Running the fuzzer's cases, and what must hold after each, and after all."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import kvmbind
from kvmbind import Machine
from kvmbind.machine.bios import rom
from kvmbind.machine.diagnosis import describe
from kvmbind.machine.ending import Reason
from kvmbind.machine.images.image import ImageError
from tests.held import count_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.machine.fuzz.cases import Case

DEADLINE_S = 0.05  # of a machine
WATCHDOG_S = 120.0  # until it must have ended, however busy the host is
REFUSED = "refused"
_WITNESS_BYTES = 1 << 20


class CaseError(Exception):
    """A case did what none may do. The message says what, how to have it again, and where its image is."""


class Endings:
    """How often the cases of each kind ended in which way."""

    def __init__(self) -> None:
        """Starts with none."""
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, kind: str, ending: str) -> None:
        """Counts one."""
        self._counts[kind, ending] += 1

    def of(self, kind: str, ending: str) -> int:
        """How many of a kind ended so."""
        return self._counts[kind, ending]

    @property
    def ways(self) -> list[str]:
        """The ways that there were, as Reason lists them."""
        found = {ending for _, ending in self._counts}
        return [way for way in (*Reason, REFUSED) if way in found]

    @property
    def total(self) -> int:
        """How many cases there were."""
        return self._counts.total()


def run_cases(cases: Iterable[Case], folder: Path, tell: Callable[[Case], object] = lambda _: None) -> Endings:
    """Runs cases, one after the other, beside memory and a guest that none of them may touch.

    Args:
        cases: What to run.
        folder: An image is in there while it runs, and stays if its case fails, or takes the process down.
        tell: Called with each case before it runs.

    Raises:
        CaseError: One failed.
        AssertionError: All ended, but they have left something behind, or changed what was not theirs.
    """
    endings = Endings()
    with _witnesses():
        before = None
        for case in cases:
            tell(case)
            endings.add(case.kind, run_case(case, folder))
            before = before or count_held()  # what the first one imports stays
        after = count_held(before)
    assert str(folder) not in Path("/proc/self/maps").read_text(errors="replace"), "an image is still mapped"
    assert after == before, f"held before {before}, after {after}"
    return endings


def run_case(case: Case, folder: Path) -> str:
    """Runs a case and looks at all that `kvmbind run` would show of it.

    Returns:
        The reason of its ending; "refused" if its image or an option is none.

    Raises:
        CaseError: It failed.
    """
    path = folder / f"{case.kind}-{case.seed}-{case.number}.bin"
    path.write_bytes(case.image)
    try:
        ending = _run(case, path)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise CaseError(f"{what}\n{case.name}: {case.about}, {case.options}; {path}") from error
    path.unlink()
    return ending


def _run(case: Case, path: Path) -> str:
    try:
        machine = Machine(path, **case.options)  # type: ignore[arg-type]
    except ImageError as error:
        if "\n" in str(error):
            raise
        return REFUSED
    with machine:
        interrupts = [machine.interrupt(vector) for vector in case.fired if machine.format != "multiboot"]
        its_rom = machine.pc.memory.read(rom.BASE, rom.SIZE)
        machine.send(case.received)
        machine.start(DEADLINE_S)
        for interrupt in interrupts:
            with contextlib.suppress(kvmbind.BadHandleError):  # the machine has ended, and closed it
                interrupt.trigger()
        ending = machine.wait(WATCHDOG_S)
    assert machine.pc.memory.read(rom.BASE, rom.SIZE) == its_rom, "the ROM has changed"
    assert path.read_bytes() == case.image, "the file has changed"
    assert describe(ending, machine.pc)
    assert all(str(line) for line in machine.pc.history.lines())
    machine.frame()
    return Reason(ending.reason)


@contextlib.contextmanager
def _witnesses() -> Iterator[None]:
    """Memory of the process's own, and a guest that counts: both are afterwards as they were, and it counts on."""
    pattern = hashlib.shake_128(b"witness").digest(_WITNESS_BYTES)
    with (
        contextlib.closing(mmap.mmap(-1, _WITNESS_BYTES)) as mapped,
        kvmbind.Guest.create(memory=1 << 20) as guest,
        kvmbind.Interrupt.create(vector=0x40) as irq,
    ):
        mapped[:] = pattern
        guest.write(kvmbind.guests.COUNTER, 0x1000)
        guest.write(pattern[:0x10000], 0x20000)
        with guest.start_vcpu(entry=0x1000) as vcpu:
            irq.bind_vcpu(vcpu)
            irq.trigger()
            guest.wait_u32(0x8000, 1, timeout_s=WATCHDOG_S)
            threads = threading.active_count()
            yield
            irq.trigger()
            guest.wait_u32(0x8000, 2, timeout_s=WATCHDOG_S)
            assert guest.read_u32(0x8000) == 2, "a neighbour was interrupted"
        assert guest.read(0x20000, 0x10000) == pattern[:0x10000], "a neighbour's memory has changed"
        assert mapped[:] == pattern, "the process's memory has changed"
        assert threading.active_count() <= threads, "threads were left behind"
