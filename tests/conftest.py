"""What all tests share: guests that run, deadlines, and the choice of tests that need more than KVM.

A test gets everything here as a fixture. For annotations, import the types under TYPE_CHECKING: `tests` is no package
at run time.

The markers of _NEEDS: such a test asserts what only some machines can do. On others it is deselected, and the summary
says so; with KVMBIND_<MARKER>=require, as KVMBIND_FAITHFUL_APIC=require, it fails there. A probe decides, the first
time that it matters.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvmbind import Guest, Interrupt, Vcpu
    from kvmbind._shim import CData
    from kvmbind.kvm.vm import Vm

pytest_plugins = ["pytester"]

# No test depends on how long it takes, whatever else the machine does.
settings.register_profile("kvmbind", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kvmbind")

#: How long a test waits for what must happen. Nothing depends on how long it really takes.
DEADLINE_S = 60.0
ENTRY = 0x1000
COUNTS = 0x8000
READY = 0x7000
MEMORY = 1 << 20


def pytest_configure() -> None:
    """Lets signals end what the tests start, also in a shell's background, which ignores SIGINT, and under nohup."""
    for signo, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signo) is signal.SIG_IGN:
            signal.signal(signo, handler)


# Guests that run


class Running:
    """A guest that runs one of `kvmbind.guests` on started VCPUs. The n-th has APIC id n.

    Attributes:
        guest: The guest.
        vcpus: Its VCPUs, in the order of their APIC ids.
    """

    def __init__(self, guest: Guest) -> None:
        """Starts with no VCPU."""
        self.guest = guest
        self.vcpus: list[Vcpu] = []

    @property
    def vcpu(self) -> Vcpu:
        """The first VCPU."""
        return self.vcpus[0]

    def start(self, vcpus: int = 1, *, ready: bool = True) -> None:
        """Starts more VCPUs and waits until the image has set them up, unless it is one without a ready byte."""
        new = [self.guest.start_vcpu(ENTRY) for _ in range(vcpus)]
        self.vcpus += new
        for vcpu in new if ready else ():
            _wait_until(partial(self.is_ready, vcpu.apic_id))

    def is_ready(self, apic_id: int) -> bool:
        """Whether the image has set this VCPU up."""
        return self.guest.read(READY + apic_id, 1) == b"\1"

    def count(self, index: int = 0) -> int:
        """How many the guest has counted at 8000h + 4 * index: of a VCPU by its APIC id, or of a vector."""
        return self.guest.read_u32(COUNTS + 4 * index)

    def counts(self) -> list[int]:
        """What each VCPU has counted, in an image that counts per VCPU."""
        return [self.count(vcpu.apic_id) for vcpu in self.vcpus]

    def wait(self, at_least: int, index: int = 0) -> None:
        """Waits until the guest has counted that many."""
        self.guest.wait_u32(COUNTS + 4 * index, at_least, timeout_s=DEADLINE_S)

    def answer(self, fire: Callable[[], object], times: int = 1, indices: Iterable[int] = (0,)) -> None:
        """Fires so many times, and each time waits until each of these counts has grown by one."""
        start = [(index, self.count(index)) for index in indices]
        for done in range(1, times + 1):
            fire()
            for index, before in start:
                self.wait(before + done, index)

    @property
    def returns(self) -> int:
        """How often KVM_RUN has returned from these VCPUs, together."""
        return sum(vcpu.returns for vcpu in self.vcpus)


class Boot(Protocol):
    """Makes a guest, loads an image and starts VCPUs; waits until they are set up."""

    def __call__(self, image: bytes, vcpus: int = 1, *, ready: bool = True) -> Running:
        """Boots; `ready` is False for an image that has no ready byte."""


class MakeInterrupt(Protocol):
    """Makes an interrupt that is closed after the test."""

    def __call__(self, vector: int = 0x40, *, physical: bool = False, lowest_priority: bool = False) -> Interrupt:
        """Makes a virtual one, unless told otherwise."""


class WaitUntil(Protocol):
    """Waits until something is so."""

    def __call__(self, condition: Callable[[], object]) -> None:
        """Calls `condition` until it gives something true; after DEADLINE_S the test fails."""


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"what the test waits for did not happen in {DEADLINE_S:g} s")
        time.sleep(0.0005)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Spares collections of garbage, of which tests make many, a look at all that is there when a module begins."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def wait_until() -> WaitUntil:
    """Waits until something is so, with a deadline."""
    return _wait_until


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    """What a test opens; closed after it, the last first."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def make_guest(opened: contextlib.ExitStack) -> Callable[[bytes], Running]:
    """Makes a guest with an image and no VCPU yet."""

    def make(image: bytes) -> Running:
        import kvmbind

        guest = opened.enter_context(kvmbind.Guest.create(memory=MEMORY))
        guest.write(image, ENTRY)
        return Running(guest)

    return make


@pytest.fixture
def boot(make_guest: Callable[[bytes], Running]) -> Boot:
    """Boots guests, which end with the test."""

    def boot(image: bytes, vcpus: int = 1, *, ready: bool = True) -> Running:
        running = make_guest(image)
        running.start(vcpus, ready=ready)
        return running

    return boot


@pytest.fixture
def make_interrupt(opened: contextlib.ExitStack) -> MakeInterrupt:
    """Makes interrupts, which end with the test."""

    def make(vector: int = 0x40, *, physical: bool = False, lowest_priority: bool = False) -> Interrupt:
        import kvmbind

        delivery: Literal["all", "lowest-priority"] = "lowest-priority" if lowest_priority else "all"
        return opened.enter_context(kvmbind.Interrupt.create(vector, physical=physical, delivery=delivery))

    return make


@pytest.fixture(scope="session")
def rounds() -> int:
    """How many triggers "every one is counted" means: 100,000, or KVMBIND_TEST_ROUNDS where that takes too long."""
    return int(os.environ.get("KVMBIND_TEST_ROUNDS", "100000"))


# The kernel's side


@pytest.fixture
def table_updates(monkeypatch: pytest.MonkeyPatch) -> Sequence[int]:
    """How many routes each KVM_SET_GSI_ROUTING of the test has set so far, in any guest."""
    from kvmbind._shim import ffi
    from kvmbind.kvm.vm import Vm

    updates: list[int] = []
    original = Vm.set_gsi_routing

    def record(vm: Vm, table: CData) -> None:
        original(vm, table)
        updates.append(int.from_bytes(ffi.buffer(table, 4), "little"))

    monkeypatch.setattr(Vm, "set_gsi_routing", record)
    return updates


@pytest.fixture
def count_fds() -> Callable[[], int]:
    """Counts the process's open fds."""
    return lambda: len(os.listdir("/proc/self/fd"))


@pytest.fixture
def fd_limit() -> Iterator[Callable[[int], None]]:
    """Sets the soft limit of fds, for the time of the test; -1 is no higher than the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(fds: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (fds if fds >= 0 else hard, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# What a test can need beside KVM

_FOUND = pytest.StashKey[dict[str, bool]]()
_DESELECTED = pytest.StashKey[dict[str, int]]()
_PROBE_S = 5.0  # an interrupt that is not held back takes a millisecond at most


def _apic_is_faithful() -> bool:
    """Tells whether an interrupt that the guest never ends holds back the next of its vector.

    A KVM that fails at this is for the tests to report: then it counts as faithful.
    """
    import kvmbind

    try:
        with kvmbind.Guest.create(memory=MEMORY) as guest, kvmbind.Interrupt.create(0x40) as irq:
            guest.write(kvmbind.guests.FORGETFUL, ENTRY)
            with guest.start_vcpu(ENTRY) as vcpu:
                irq.bind_vcpu(vcpu)
                irq.trigger()
                guest.wait_u32(COUNTS, 1, timeout_s=DEADLINE_S)
                for _ in range(2):
                    irq.trigger()
                with contextlib.suppress(kvmbind.TimedOutError):
                    guest.wait_u32(COUNTS, 2, timeout_s=_PROBE_S)
                return guest.read_u32(COUNTS) == 1
    except (kvmbind.ZxError, OSError):
        return True


def _debug_registers_stop_guests() -> bool:
    """Tells whether a breakpoint in a debug register works. A KVM that fails at this is for the tests to report."""
    import kvmbind
    from kvmbind.machine.gdb.probe import probe

    try:
        return probe().breakpoints
    except (kvmbind.ZxError, OSError):
        return True


class _Need(NamedTuple):
    """What a marker stands for: whether it is there, and its words for a summary."""

    probe: Callable[[], bool]
    name: str
    remedy: str


_NEEDS = {
    "faithful_apic": _Need(_apic_is_faithful, "a faithful local APIC", "run make test-kvm-amd"),
    "debug_registers": _Need(_debug_registers_stop_guests, "debug registers that stop a guest", "run them on hardware"),
    "two_processors": _Need(lambda: len(os.sched_getaffinity(0)) > 1, "two processors", "run them on a larger machine"),
    "gdb": _Need(lambda: shutil.which("gdb") is not None, "gdb", "apt install gdb, dnf install gdb or pacman -S gdb"),
}


def _is_there(config: pytest.Config, need: str) -> bool:
    found = config.stash.setdefault(_FOUND, {})
    if need not in found:
        found[need] = _NEEDS[need].probe()
    return found[need]


def _is_required(need: str) -> bool:
    return os.environ.get(f"KVMBIND_{need.upper()}") == "require"


def _missing(config: pytest.Config, item: pytest.Item, *, required: bool) -> str | None:
    """The first thing that a test needs and that is not there, of those that are required, or of the others."""
    needs = (need for need in _NEEDS if item.get_closest_marker(need) and _is_required(need) is required)
    return next((need for need in needs if not _is_there(config, need)), None)


@pytest.hookimpl(trylast=True)  # after -m and -k, and after the plugin has marked what is skipped for want of KVM
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects what needs something that is not there. A skip would fail under --kvm=require."""
    judged = [
        (item, None if item.get_closest_marker("skip") else _missing(config, item, required=False)) for item in items
    ]
    items[:] = [item for item, missing in judged if missing is None]
    config.stash[_DESELECTED] = dict(Counter(missing for _, missing in judged if missing is not None))
    config.hook.pytest_deselected(items=[item for item, missing in judged if missing is not None])


@pytest.hookimpl(trylast=True)  # the plugin refuses first, where KVM itself is missing
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fails what needs something that is required and not there."""
    missing = _missing(item.config, item, required=True)
    if missing is not None:
        need = _NEEDS[missing]
        pytest.fail(f"KVMBIND_{missing.upper()}=require, but there is no sign of {need.name}: {need.remedy}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says how many were deselected, and why."""
    for missing, count in config.stash.get(_DESELECTED, {}).items():
        need = _NEEDS[missing]
        subject = "1 test needs" if count == 1 else f"{count} tests need"
        terminalreporter.write_line(f"{subject} {need.name}: {need.remedy}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under xdist, a worker tells the controller what it deselected."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["deselected"] = session.config.stash.get(_DESELECTED, {})


class _Node(Protocol):
    config: pytest.Config
    workeroutput: dict[str, dict[str, int]]


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_testnodedown(node: _Node) -> None:
    """Takes over what a worker tells: each of them collects the same tests."""
    node.config.stash[_DESELECTED] = getattr(node, "workeroutput", {}).get("deselected", {})
