"""The fixture kvm_machine, and what a failed test tells of its machines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.kvm

Run = Callable[..., pytest.RunResult]

# Hypothesis is left out: each run would import it anew.
OPTIONS = ("-W", "error", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")

IMAGE = """
    OK = bytes.fromhex("b40e b04f cd10 b04b cd10 fb f4 ebfd".replace(" ", ""))  # teletype O, K; STI; HLT for ever
"""

EXPECTS = """
    def test_says_ok(kvm_machine):
        machine = kvm_machine(OK, format="flat")
        machine.expect("OK", timeout_s=60)
"""

FAILS = """
    def test_says_more(kvm_machine):
        machine = kvm_machine(OK, format="flat")
        machine.expect("OK", timeout_s=60)
        assert machine.screen == "OK then"
"""

LEAVES_RUNNING = """
    import threading

    MACHINES = []

    def test_fails_with_two_machines(kvm_machine):
        MACHINES.extend(kvm_machine(OK, format="flat") for _ in range(2))
        for machine in MACHINES:
            machine.expect("OK", timeout_s=60)
        raise RuntimeError("on purpose")

    def test_finds_them_ended():
        assert all(machine.ending is not None for machine in MACHINES)
        assert [thread.name for thread in threading.enumerate() if "kvmbind-machine" in thread.name] == []
"""

EXPECTS_MORE = """
    def test_says_more(kvm_machine):
        kvm_machine(OK, format="flat").expect("OK then", timeout_s=0.5)
"""

BAD_OPTION = """
    def test_gives_a_format_that_is_none(kvm_machine):
        kvm_machine(OK, format="tape")
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest on one test file, with warnings as errors."""

    def run(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(IMAGE + source)
        return pytester.runpytest_subprocess(*OPTIONS, "--kvm=require", *options)

    return run


def test_a_machine_is_started_and_says_what_is_expected(run: Run) -> None:
    run(EXPECTS).assert_outcomes(passed=1)


def test_a_failed_test_shows_the_screen_the_registers_and_the_last_exits(run: Run) -> None:
    result = run(FAILS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- kvmbind machine -*",
            "screen:",
            "OK",
            "stopped",
            "at *:*",
            "*rax=*",
            "bytes there: *",
            "last exits:",
            "*INT 10/0E *",
        ]
    )


def test_a_text_that_does_not_come_is_told_at_the_line_that_expects_it(run: Run) -> None:
    result = run(EXPECTS_MORE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*.expect(*", "E*'OK then' did not come in 0.5 s; the screen is:", "E*OK"])
    result.stdout.no_fnmatch_line("*machine.py:*")


def test_every_machine_is_stopped_when_the_test_fails(run: Run) -> None:
    result = run(LEAVES_RUNNING)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*- kvmbind machine 1 -*", "*- kvmbind machine 2 -*"])


def test_an_option_that_a_machine_does_not_take_is_told_by_the_machine(run: Run) -> None:
    result = run(BAD_OPTION)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*ImageError: *tape*"])


def test_the_report_comes_from_xdists_workers_too(run: Run) -> None:
    pytest.importorskip("xdist")
    result = run(FAILS + EXPECTS, "-n", "2")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*- kvmbind machine -*", "screen:", "OK"])
