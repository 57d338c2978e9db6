"""The command line as a whole: what it says, and how it ends."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind.abi.errors import ZxError
from kvmbind.cli import COMMANDS, build_parser, main
from kvmbind.cli.failures import CommandError, require_extra, run_to_status

if TYPE_CHECKING:
    from collections.abc import Callable


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


def ending(run: Callable[[], int]) -> tuple[int, str]:
    """The status and what was written for people."""
    errors = io.StringIO()
    return run_to_status("kvmbind test", run, errors), errors.getvalue()


def kvmbind_process(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "kvmbind", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=100, check=False)


def test_the_version_is_the_packages() -> None:
    done = kvmbind_process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kvmbind {kvmbind.__version__}\n", "")


def test_without_a_command_it_shows_the_usage() -> None:
    done = kvmbind_process()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: kvmbind ")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_and_a_line_in_the_list(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: kvmbind {name} ")
    assert f"    {name} " in build_parser().format_help()


def test_registering_the_commands_imports_nothing_that_only_running_them_needs() -> None:
    code = "import sys, kvmbind.cli; kvmbind.cli.build_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"rich", "matplotlib", "hdrh", "PIL", "kvmbind._shim", "dataclasses", "json"})


def test_what_a_command_returns_is_the_exit_status() -> None:
    assert ending(lambda: 1) == (1, "")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (CommandError("rich not found: install it"), "rich not found: install it"),
        (ZxError("zx_vcpu_enter", "no"), "zx_vcpu_enter: INTERNAL (-1): no"),
        (OSError(errno.ENOENT, "/dev/kvm does not exist: load it"), "/dev/kvm does not exist: load it"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.json"), "a.json: No space left on device"),
    ],
)
def test_a_failure_is_one_line(error: Exception, sentence: str) -> None:
    assert ending(raising(error)) == (1, f"kvmbind test: {sentence}\n")


def test_why_a_vcpus_thread_ended_is_in_the_line() -> None:
    error = ZxError("wait_u32", "nothing came")
    error.add_note("The VCPU's thread had ended")
    assert ending(raising(error))[1].endswith(": nothing came; The VCPU's thread had ended\n")


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        ending(raising(ZeroDivisionError()))


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    assert ending(raising(KeyboardInterrupt())) == (130, "")


PRINT = """
import sys
from kvmbind.cli.failures import run_to_status

sys.exit(run_to_status("x", lambda: print("result") or 0, sys.stderr))
"""


def printing_to(stdout: int) -> tuple[int, str]:
    """How a command ends whose stdout is this."""
    done = subprocess.run([sys.executable, "-c", PRINT], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    os.close(stdout)
    return done.returncode, done.stderr


def test_a_reader_that_leaves_is_no_failure_to_report() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert printing_to(writing) == (141, "")


def test_a_full_disk_under_stdout_is_one_line() -> None:
    assert printing_to(os.open("/dev/full", os.O_WRONLY)) == (1, "x: No space left on device\n")


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(CommandError, match=r"^no_such_module not found: pip install 'kvmbind\[bench\]'$"):
        require_extra("bench", "argparse", "no_such_module")
