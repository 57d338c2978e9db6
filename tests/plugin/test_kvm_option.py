"""What becomes of tests that need KVM, under each mode of the pytest plugin."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvmbind import pytest_plugin
from kvmbind.kvm.refusals import refused
from kvmbind.kvm.system import System

if TYPE_CHECKING:
    import kvmbind

ONE_OF_EACH = """
    import pytest

    @pytest.mark.kvm
    def test_needs_kvm():
        pass

    def test_needs_nothing():
        pass
"""

SKIPS_ITSELF = """
    import pytest

    @pytest.mark.kvm
    def test_changes_its_mind():
        pytest.skip("not today")
"""

SKIPS_IN_A_FIXTURE = """
    import pytest

    @pytest.fixture
    def capability():
        pytest.skip("not today")

    @pytest.mark.kvm
    def test_needs_more_than_kvm(capability):
        pass
"""

SKIPS_BY_MARK = """
    import pytest

    @pytest.mark.kvm
    @pytest.mark.skip(reason="not today")
    def test_is_marked_to_be_skipped():
        pass
"""

SKIPS_BY_UNITTEST = """
    import pytest, unittest

    @pytest.mark.kvm
    def test_speaks_unittest():
        raise unittest.SkipTest("not today")
"""

MODULE_SKIPS_ITSELF = """
    import pytest

    pytestmark = pytest.mark.kvm
    pytest.skip("not today", allow_module_level=True)
"""

# Hypothesis is left out: it would be imported anew in every run.
OPTIONS = ("-W", "error", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on one test file, with warnings as errors."""
    monkeypatch.delenv(pytest_plugin.VARIABLE, raising=False)

    def run(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_inprocess(*OPTIONS, *options)

    return run


@pytest.fixture
def _without_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest_plugin, "DEVICE", "/dev/kvm-of-nowhere")


@pytest.fixture
def _with_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest_plugin, "find_problem", lambda device: None)
    monkeypatch.setattr(pytest_plugin, "describe", lambda device: "kvm_test, API 12")


without_kvm = pytest.mark.usefixtures("_without_kvm")
with_kvm = pytest.mark.usefixtures("_with_kvm")


@without_kvm
def test_auto_skips_where_kvm_is_missing_and_says_what_to_do(run: Run) -> None:
    result = run(ONE_OF_EACH, "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*/dev/kvm-of-nowhere does not exist: load kvm_intel or kvm_amd*"])
    assert result.ret == 0


@with_kvm
def test_auto_runs_where_kvm_works(run: Run) -> None:
    run(ONE_OF_EACH).assert_outcomes(passed=2)


@without_kvm
def test_require_fails_where_kvm_is_missing(run: Run) -> None:
    result = run(ONE_OF_EACH, "--kvm=require")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["KVM is required, but /dev/kvm-of-nowhere does not exist*"])
    assert result.ret == 1


@with_kvm
def test_off_skips_where_kvm_works(run: Run) -> None:
    run(ONE_OF_EACH, "--kvm=off").assert_outcomes(passed=1, skipped=1)


@without_kvm
def test_the_variable_decides_without_an_option(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMBIND_KVM", "require")
    run(ONE_OF_EACH).assert_outcomes(passed=1, failed=1)


@without_kvm
def test_the_option_wins_over_the_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMBIND_KVM", "require")
    run(ONE_OF_EACH, "--kvm=auto").assert_outcomes(passed=1, skipped=1)


def test_a_variable_of_no_known_mode_is_a_usage_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMBIND_KVM", "maybe")
    result = run(ONE_OF_EACH)
    result.stderr.fnmatch_lines(["*KVMBIND_KVM=maybe: choose one of auto, require, off*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@without_kvm
@pytest.mark.parametrize("mode", ["auto", "require"])
def test_a_user_of_the_fixture_counts_as_marked(run: Run, mode: str) -> None:
    result = run("def test_uses_a_guest(kvm_guest): pass", f"--kvm={mode}", "-m", "kvm")
    result.assert_outcomes(skipped=mode == "auto", failed=mode == "require")


@without_kvm
def test_require_fails_before_any_fixture_is_set_up(run: Run) -> None:
    result = run(SKIPS_IN_A_FIXTURE, "--kvm=require")
    result.stdout.fnmatch_lines(["KVM is required, but /dev/kvm-of-nowhere does not exist*"])
    result.stdout.no_fnmatch_line("*not today*")


@with_kvm
@pytest.mark.parametrize("source", [SKIPS_ITSELF, SKIPS_BY_UNITTEST])
def test_require_fails_a_test_that_skips_itself(run: Run, source: str) -> None:
    result = run(source, "--kvm=require")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["KVM is required, so this may not be skipped: not today"])


@with_kvm
@pytest.mark.parametrize("source", [SKIPS_BY_MARK, SKIPS_IN_A_FIXTURE])
def test_require_fails_a_test_that_is_skipped_in_setup(run: Run, source: str) -> None:
    result = run(source, "--kvm=require")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["KVM is required, so this may not be skipped: not today"])
    assert result.ret == 1


@with_kvm
def test_require_fails_a_module_that_skips_itself(run: Run) -> None:
    result = run(MODULE_SKIPS_ITSELF, "--kvm=require")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["KVM is required, so this may not be skipped: not today"])
    assert result.ret == pytest.ExitCode.INTERRUPTED


@with_kvm
def test_require_lets_a_module_without_kvm_skip_itself(run: Run) -> None:
    run(MODULE_SKIPS_ITSELF.replace("mark.kvm", "mark.tryfirst"), "--kvm=require").assert_outcomes(skipped=1)


@with_kvm
def test_require_lets_an_expected_failure_be_one(run: Run) -> None:
    source = """
        import pytest

        @pytest.mark.kvm
        @pytest.mark.xfail(strict=True)
        def test_does_not_work_yet():
            raise NotImplementedError
    """
    run(source, "--kvm=require").assert_outcomes(xfailed=1)


@without_kvm
def test_the_summary_lists_what_was_skipped_by_reason(run: Run) -> None:
    result = run(ONE_OF_EACH.replace("test_needs_kvm", "test_first") + ONE_OF_EACH)
    file = "test_the_summary_lists_what_was_skipped_by_reason.py"
    result.stdout.fnmatch_lines(
        [
            "*= tests that need KVM and were skipped =*",
            "2 skipped: /dev/kvm-of-nowhere does not exist*",
            f"    {file}::test_first",
            f"    {file}::test_needs_kvm",
        ],
        consecutive=True,
    )


@with_kvm
@pytest.mark.parametrize("source", [SKIPS_ITSELF, SKIPS_BY_MARK, SKIPS_IN_A_FIXTURE, MODULE_SKIPS_ITSELF])
def test_the_summary_lists_what_skipped_itself(run: Run, source: str) -> None:
    result = run(source)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*= tests that need KVM and were skipped =*", "1 skipped: not today"])


def test_the_summary_says_that_kvm_is_off(run: Run) -> None:
    run(ONE_OF_EACH, "--kvm=off").stdout.fnmatch_lines(["1 skipped: kvm=off: switched off by --kvm or KVMBIND_KVM"])


@with_kvm
def test_nothing_skipped_has_no_summary(run: Run) -> None:
    run(ONE_OF_EACH).stdout.no_fnmatch_line("*tests that need KVM*")


@without_kvm
def test_require_has_no_summary(run: Run) -> None:
    run(ONE_OF_EACH, "--kvm=require").stdout.no_fnmatch_line("*tests that need KVM*")


@without_kvm
def test_skips_of_tests_that_need_no_kvm_are_not_listed(run: Run) -> None:
    source = "import pytest\ndef test_unrelated(): pytest.skip('elsewhere')"
    run(source).stdout.no_fnmatch_line("*tests that need KVM*")


def test_the_summary_is_written_under_xdist(run: Run) -> None:
    pytest.importorskip("xdist")
    result = run(ONE_OF_EACH, "-n", "1", "--kvm=off")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["1 skipped: kvm=off: *", "    *::test_needs_kvm"])


def test_a_module_that_skips_itself_is_listed_under_xdist(run: Run) -> None:
    pytest.importorskip("xdist")
    run(MODULE_SKIPS_ITSELF, "-n", "1", "--kvm=auto").stdout.fnmatch_lines(["1 skipped: not today"])


@pytest.mark.kvm
def test_the_header_says_what_kvm_is(run: Run) -> None:
    run(ONE_OF_EACH, "--kvm=require").stdout.fnmatch_lines(["kvmbind: kvm=require, kvm_*, API 12*"])


def lack(monkeypatch: pytest.MonkeyPatch, *missing: int) -> None:
    """Makes every device a KVM of version 12 without these capabilities."""

    def answer(fd: int, request: int, argument: int = 0) -> int:
        return 12 if request == 0xAE00 else int(argument not in missing)

    monkeypatch.setattr(fcntl, "ioctl", answer)


def test_the_header_says_what_kvm_lacks_of_what_some_guests_need(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        lack(patch, 33, 82)
        what = pytest_plugin.describe("/dev/null")
    assert what.endswith("API 12, lacks KVM_CAP_PIT2, KVM_CAP_IRQFD_RESAMPLE")


def test_without_what_every_guest_needs_kvm_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        lack(patch, 32)
        problem = pytest_plugin.find_problem("/dev/null")
    assert problem is not None
    assert problem.startswith("/dev/null lacks KVM_CAP_IRQFD, needed to bind interrupts to VCPUs: ")


@without_kvm
def test_the_header_says_what_is_wrong(run: Run) -> None:
    run(ONE_OF_EACH).stdout.fnmatch_lines(["kvmbind: kvm=auto, /dev/kvm-of-nowhere does not exist: *"])


def test_the_header_says_that_kvm_is_off(run: Run) -> None:
    run(ONE_OF_EACH, "--kvm=off").stdout.fnmatch_lines(["kvmbind: kvm=off"])


def test_markers_lists_the_marker(run: Run) -> None:
    run(ONE_OF_EACH, "--markers").stdout.fnmatch_lines(["@pytest.mark.kvm: needs a working /dev/kvm; see --kvm"])


def refusal_of_kvmbind(device: str) -> str:
    """What the exception says where a guest is made by such a device."""
    with pytest.raises(OSError, match=device) as caught:
        System(device)
    return str(caught.value.strerror)


@pytest.mark.parametrize("name", ["missing", "forbidden", "folder", "file", "null"])
def test_a_device_that_does_not_serve_is_refused_in_the_words_of_the_exception(tmp_path: Path, name: str) -> None:
    device = Path("/dev/null") if name == "null" else tmp_path / name
    if name == "folder":
        device.mkdir()
    elif name in ("forbidden", "file"):
        device.touch(mode=0 if name == "forbidden" else 0o600)
    problem = pytest_plugin.find_problem(str(device))
    assert problem == refusal_of_kvmbind(str(device))
    assert problem.startswith(f"{device} ")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENODEV, errno.EMFILE, errno.EIO])
def test_each_refusal_to_open_the_device_has_the_remedy_of_the_exception(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        problem = pytest_plugin.find_problem("/dev/kvm")
    assert problem == refused(number, "/dev/kvm").strerror


def test_another_api_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "ioctl", lambda fd, request: 11)
        problem = pytest_plugin.find_problem("/dev/null")
    assert problem == "/dev/null does not speak version 12 of KVM's API: use Linux's own KVM"


def test_probing_leaves_no_descriptor_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    pytest_plugin.find_problem("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_plugin_loads_nothing_compiled_and_no_more_than_itself_and_what_it_asks_of_kvm() -> None:
    program = "import sys, kvmbind.pytest_plugin; print(*(n for n in sys.modules if 'kvmbind.' in n))"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    others = {name for name in loaded if not name.startswith("kvmbind.pytest_plugin")}
    assert others == {"kvmbind.kvm", *(f"kvmbind.kvm.{name}" for name in ("capabilities", "probe", "refusals"))}


def test_a_broken_build_breaks_no_other_tests(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys; sys.modules['kvmbind._shim'] = None")
    pytester.makepyfile("def test_of_another_project(): pass")
    result = pytester.runpytest_subprocess("-W", "error")
    result.assert_outcomes(passed=1)


@pytest.mark.kvm
def test_the_device_of_this_machine_works() -> None:
    assert pytest_plugin.find_problem("/dev/kvm") is None


def test_the_fixture_gives_a_guest_of_one_mebibyte_at_zero(kvm_guest: kvmbind.Guest) -> None:
    kvm_guest.write(b"kvm", (1 << 20) - 3)
    assert kvm_guest.read((1 << 20) - 3, 3) == b"kvm"
