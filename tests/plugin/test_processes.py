"""The plugin in test runs of several processes: xdist's workers, and tests that run in forked children."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.kvm

COUNTS = """
    import kvmbind
    import pytest

    @pytest.mark.parametrize("n", range(4))
    def test_counts(kvm_guest, n):
        kvm_guest.write(kvmbind.guests.COUNTER, 0x1000)
        with kvm_guest.start_vcpu(0x1000) as vcpu:
            kvm_guest.wait_u32(0x7000, 1, timeout_s=60)
            vcpu.interrupt(0x40)
            kvm_guest.wait_u32(0x8000, 1, timeout_s=60)
"""

# What pytest-forked does, by pytest's own means.
FORKS_FOR_EACH_TEST = """
    import json, os
    import pytest
    from _pytest.runner import runtestprotocol

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item, nextitem):
        hook, (reading, writing) = item.config.hook, os.pipe()
        if not os.fork():
            reports = runtestprotocol(item, nextitem=None, log=False)
            with os.fdopen(writing, "w") as pipe:
                told = [hook.pytest_report_to_serializable(config=item.config, report=each) for each in reports]
                json.dump(told, pipe)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = json.load(pipe)
        os.wait()
        for each in told:
            report = hook.pytest_report_from_serializable(config=item.config, data=each)
            hook.pytest_runtest_logreport(report=report)
        return True
"""

USES_THE_PARENTS_GUEST = """
    import kvmbind

    GUEST = kvmbind.Guest.create(memory=1 << 20)
    VCPU = GUEST.start_vcpu(0x1000)

    def test_uses_its_parents_guest():
        GUEST.write(b"x", 0)

    def test_uses_its_parents_vcpu():
        VCPU.interrupt(0x40)
"""

SKIPS_ITSELF = """
    import pytest

    @pytest.mark.kvm
    def test_changes_its_mind():
        pytest.skip("not today")
"""


# Hypothesis is left out: each process would import it anew.
OPTIONS = ("-W", "error", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")


@pytest.fixture
def forking(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose tests run each in a forked child."""
    pytester.makeconftest(FORKS_FOR_EACH_TEST)
    return pytester


def run(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    """Runs pytest in a process of its own."""
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess(*OPTIONS, "--kvm=require", *options, timeout=300)


def test_guests_run_in_every_worker(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    run(pytester, COUNTS, "-n", "auto").assert_outcomes(passed=4)


def test_a_forked_child_has_guests_of_its_own(forking: pytest.Pytester) -> None:
    run(forking, COUNTS, "-W", "ignore::DeprecationWarning").assert_outcomes(passed=4)


def test_a_guest_of_the_parent_is_refused_in_a_forked_child_with_what_to_do(forking: pytest.Pytester) -> None:
    result = run(forking, USES_THE_PARENTS_GUEST, "-W", "ignore::DeprecationWarning", "-W", "ignore::ResourceWarning")
    result.assert_outcomes(failed=2)
    sentence = "stayed with the process that this one was forked from: make another here"
    result.stdout.fnmatch_lines([f"E*BAD_HANDLE (-11): the Guest {sentence}", f"E*the Vcpu {sentence}"])


def test_a_skip_in_a_forked_child_fails_where_kvm_is_required(forking: pytest.Pytester) -> None:
    result = run(forking, SKIPS_ITSELF)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["KVM is required, so this may not be skipped: not today"])
