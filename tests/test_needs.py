"""What becomes of tests that need more than KVM, by what is there and by the variable that requires it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ONE_OF_EACH = """
    import pytest

    @pytest.mark.faithful_apic
    def test_needs_a_faithful_apic():
        pass

    def test_needs_nothing():
        pass
"""

PROBE = """

def _recorded():
    with open("probed", "a") as log:
        log.write("once ")
    return {faithful}

_NEEDS["faithful_apic"] = _NEEDS["faithful_apic"]._replace(probe=_recorded)
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on one test of each kind under this project's conftest, where the probe says what is told."""
    monkeypatch.delenv("KVMBIND_FAITHFUL_APIC", raising=False)

    def run(*options: str, faithful: bool) -> pytest.RunResult:
        conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
        pytester.makeconftest(conftest + PROBE.format(faithful=faithful))
        pytester.makeini("[pytest]\nmarkers =\n    faithful_apic\n")
        pytester.makepyfile(ONE_OF_EACH)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options)

    return run


def test_they_run_where_the_local_apic_is_faithful(run: Run) -> None:
    run(faithful=True).assert_outcomes(passed=2)


def test_elsewhere_they_are_deselected_and_the_summary_says_what_to_do(run: Run) -> None:
    result = run(faithful=False)
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["1 test needs a faithful local APIC: run make test-kvm-amd"])


def test_elsewhere_they_fail_if_a_faithful_local_apic_is_required(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMBIND_FAITHFUL_APIC", "require")
    result = run(faithful=False)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*KVMBIND_FAITHFUL_APIC=require, but there is no sign of a faithful local APIC: *"])


def test_where_it_is_faithful_a_requirement_changes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMBIND_FAITHFUL_APIC", "require")
    run(faithful=True).assert_outcomes(passed=2)


@pytest.mark.parametrize(("options", "probes"), [(["-k", "nothing"], ""), ([], "once ")])
def test_the_probe_runs_once_and_only_if_a_test_asks_for_it(
    options: list[str], probes: str, run: Run, pytester: pytest.Pytester
) -> None:
    run(*options, faithful=True)
    log = pytester.path / "probed"
    assert (log.read_text(encoding="utf-8") if log.exists() else "") == probes


@pytest.mark.parametrize("faithful", [False, True])
def test_xdist_says_the_same(faithful: bool, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xdist")
    result = run("-n", "2", faithful=faithful)
    if faithful:
        result.assert_outcomes(passed=2)
        result.stdout.no_fnmatch_line("*local APIC*")
    else:
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["1 test needs a faithful local APIC: run make test-kvm-amd"])
