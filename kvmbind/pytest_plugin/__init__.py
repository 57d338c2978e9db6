"""The pytest plugin: tests that need KVM are skipped where it is missing, or fail there when it is required.

A test says that it needs KVM with ``@pytest.mark.kvm``, or by using the fixture ``kvm_guest`` or ``kvm_machine``;
so does every ``*.kvmbind.toml``, a test of an image without Python. The option ``--kvm``, or else the variable
``KVMBIND_KVM``, says what becomes of it:

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
import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from kvmbind.pytest_plugin.image_tests import pytest_collect_file
from kvmbind.pytest_plugin.machines import StartMachine, add_reports, kvm_machine
from kvmbind.pytest_plugin.probe import describe, find_problem

if TYPE_CHECKING:
    import kvmbind

__all__ = ["StartMachine", "describe", "find_problem", "kvm_guest", "kvm_machine", "pytest_collect_file"]

DEVICE: Final = "/dev/kvm"
MODES: Final = ("auto", "require", "off")
VARIABLE: Final = "KVMBIND_KVM"

_FIXTURES: Final = frozenset({"kvm_guest", "kvm_machine"})

# Attributes of reports: why a test that needs KVM was skipped, and that one was refused for want of KVM.
# xdist carries attributes to the controller, which counts and writes the summary.
_SKIPPED: Final = "kvmbind_skipped"
_REFUSED: Final = "kvmbind_refused"


class _Kvm(NamedTuple):
    mode: str
    problem: str | None  # None: KVM works


_KVM = pytest.StashKey[_Kvm]()


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
    """Notes why a test that needs KVM was skipped; makes it a failure when KVM is required. Shows failed machines."""
    report = yield
    if report.failed and report.when == "call":
        add_reports(item, report)
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
