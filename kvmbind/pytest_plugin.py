"""The pytest plugin: tests that need KVM are skipped where it is missing, or fail there when it is required.

A test says that it needs KVM with ``@pytest.mark.kvm``, or by using the fixture ``kvm_guest``. The option
``--kvm``, or else the variable ``KVMBIND_KVM``, says what becomes of it:

``auto``
    It runs where ``/dev/kvm`` opens and answers, and is skipped elsewhere (the default).
``require``
    It runs, and where KVM is missing it fails. It also fails when it skips itself: a run in which nothing ran
    is not a good one.
``off``
    It is skipped.

Everything skipped is listed at the end of the run, with the reason.

pytest loads this module in every project that has kvmbind installed. It imports nothing of kvmbind that is
compiled before a fixture needs it, so that a broken build breaks no other project's tests.

A test process that is forked (xdist's are not) makes guests of its own; one that was made before the fork stays with
the parent, and using it raises BadHandleError, which says so.
"""

from __future__ import annotations

import ast
import errno
import fcntl
import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    import kvmbind

DEVICE: Final = "/dev/kvm"
MODES: Final = ("auto", "require", "off")
VARIABLE: Final = "KVMBIND_KVM"

_KVM_GET_API_VERSION: Final = 0xAE00
_KVM_CHECK_EXTENSION: Final = 0xAE03
_API_VERSION: Final = 12  # the only one since Linux 2.6.22; user space must refuse any other
_FIXTURES: Final = frozenset({"kvm_guest"})

# Attributes of reports: why a test that needs KVM was skipped, and that one was refused for want of KVM.
# xdist carries attributes to the controller, which counts and writes the summary.
_SKIPPED: Final = "kvmbind_skipped"
_REFUSED: Final = "kvmbind_refused"


class _Kvm(NamedTuple):
    mode: str
    problem: str | None  # None: KVM works


_KVM = pytest.StashKey[_Kvm]()


def find_problem(device: str) -> str | None:
    """Tells what keeps ``device`` from working as KVM, and the remedy.

    Opens it for reading and writing, asks for its version (``KVM_GET_API_VERSION``) and for what every guest
    needs (``KVM_CHECK_EXTENSION``).

    Args:
        device: path of the device, ``/dev/kvm``.

    Returns:
        One sentence, or None when KVM works.
    """
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return (
            f"{device} does not exist: load kvm_intel or kvm_amd, with virtualization enabled in the firmware"
            f" (in a virtual machine: nested virtualization; in a container: --device {device})"
        )
    except PermissionError as error:
        if error.errno == errno.EPERM:  # not the file's mode: a container's device rules
            return f"{device} may not be opened in this container: start it with --device {device}"
        return f"{device} may not be opened by this user: sudo usermod -aG kvm $USER, then log in again"
    except OSError as error:
        return f"{device} cannot be opened ({error.strerror}): load kvm_intel or kvm_amd"
    try:
        return _find_problem_of(fd, device)
    finally:
        os.close(fd)


def _find_problem_of(fd: int, device: str) -> str | None:
    from kvmbind.kvm.capabilities import REQUIRED

    try:
        version = fcntl.ioctl(fd, _KVM_GET_API_VERSION)
    except OSError as error:
        return f"{device} is not KVM's device ({error.strerror}): remove it, then load kvm_intel or kvm_amd"
    if version != _API_VERSION:
        return f"{device} has KVM's API version {version}, not {_API_VERSION}: run a mainline kernel's KVM"
    for number, name, purpose in REQUIRED:
        if fcntl.ioctl(fd, _KVM_CHECK_EXTENSION, number) <= 0:
            return f"{device} lacks {name}, needed {purpose}: use an x86-64 host with Linux 4.18 or newer"
    return None


def describe(device: str) -> str:
    """Says what a ``device`` that works is: its module, its version, and what it lacks of what some guests need."""
    from kvmbind.kvm.capabilities import OPTIONAL

    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        version = fcntl.ioctl(fd, _KVM_GET_API_VERSION)
        lacking = [name for number, name, _ in OPTIONAL if fcntl.ioctl(fd, _KVM_CHECK_EXTENSION, number) <= 0]
    finally:
        os.close(fd)
    parts = [_module() or device, f"API {version}"]
    if lacking:
        parts.append(f"lacks {', '.join(lacking)}")
    return ", ".join(parts)


def _module() -> str:
    try:
        names = os.listdir("/sys/module")
    except OSError:
        return ""
    return next((name for name in sorted(names) if name.startswith("kvm_")), "")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares ``--kvm``."""
    parser.getgroup("kvmbind", "KVM").addoption(
        "--kvm",
        choices=MODES,
        help=f"tests that need KVM: skip them where it is missing (auto, the default), fail there (require), "
        f"or always skip them (off); without this option ${VARIABLE} decides",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker, decides the mode, and looks whether KVM works."""
    config.addinivalue_line("markers", "kvm: needs a working /dev/kvm; see --kvm")
    mode = config.getoption("--kvm") or os.environ.get(VARIABLE) or "auto"
    if mode not in MODES:
        raise pytest.UsageError(f"{VARIABLE}={mode}: choose one of {', '.join(MODES)}")
    problem = f"kvm={mode}: switched off by --kvm or {VARIABLE}" if mode == "off" else find_problem(DEVICE)
    config.stash[_KVM] = _Kvm(mode, problem)


def pytest_report_header(config: pytest.Config) -> str:
    """Says which mode is in force, and what KVM is or why it does not work."""
    mode, problem = config.stash[_KVM]
    if mode == "off":
        return "kvmbind: kvm=off"
    return f"kvmbind: kvm={mode}, {problem or describe(DEVICE)}"


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the users of this plugin's fixtures, and marks for skipping what cannot run."""
    mode, problem = config.stash[_KVM]
    for item in items:
        if not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kvm)
        if problem and mode != "require" and _needs_kvm(item):
            item.add_marker(pytest.mark.skip(reason=problem), append=False)


@pytest.hookimpl(tryfirst=True)  # before a fixture fails in its own words
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fails a test whose KVM is required and missing."""
    mode, problem = item.config.stash[_KVM]
    if problem and mode == "require" and _needs_kvm(item):
        pytest.fail(f"KVM is required, but {problem}", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost: sees xfail's verdict, and skips by unittest
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes why a test that needs KVM was skipped; makes it a failure when KVM is required."""
    report = yield
    if _needs_kvm(item):
        mode, problem = item.config.stash[_KVM]
        _judge(report, mode)
        if report.failed and report.when == "setup" and mode == "require" and problem:
            vars(report)[_REFUSED] = True
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Does the same for a module that skips itself whole and has tests that need KVM."""
    report = yield
    if report.skipped and isinstance(collector, pytest.Module) and _mentions_kvm(collector):
        _judge(report, collector.config.stash[_KVM].mode)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """Counts a test that was refused for want of KVM as failed: it is no error of its fixtures."""
    return ("failed", "F", "FAILED") if getattr(report, _REFUSED, False) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists what was skipped of the tests that need KVM, by reason."""
    skipped: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        if reason := getattr(report, _SKIPPED, None):
            skipped.setdefault(reason, []).append(report.nodeid)
    if not skipped:
        return
    terminalreporter.write_sep("=", "tests that need KVM and were skipped")
    for reason, nodeids in skipped.items():
        terminalreporter.write_line(f"{len(nodeids)} skipped: {reason}")
        for nodeid in nodeids:
            terminalreporter.write_line(f"    {nodeid}")


@pytest.fixture
def kvm_guest() -> Iterator[kvmbind.Guest]:
    """A guest with 1 MiB of memory at address 0, closed after the test."""
    import kvmbind

    with kvmbind.Guest.create(memory=1 << 20) as guest:
        yield guest


def _needs_kvm(item: pytest.Item) -> bool:
    return item.get_closest_marker("kvm") is not None


def _mentions_kvm(module: pytest.Module) -> bool:
    """Tells whether a module's source says ``mark.kvm``: it skipped itself, so it has no items to ask."""
    try:
        tree = ast.parse(module.path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "kvm"
        and isinstance(node.value, ast.Attribute | ast.Name)
        and (node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id) == "mark"
        for node in ast.walk(tree)
    )


def _judge(report: pytest.CollectReport | pytest.TestReport, mode: str) -> None:
    """Notes the reason of a skip, or turns the skip into a failure. An expected failure is no skip."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if mode == "require":
        report.outcome = "failed"
        report.longrepr = f"KVM is required, so this may not be skipped: {reason}"
    else:
        vars(report)[_SKIPPED] = reason
