"""What a build says on a machine that cannot do it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BUILD = """
import platform, runpy, sys
_, machine, folder = sys.argv
platform.machine = lambda: machine
sys.argv = ["setup.py", "--quiet", "build_ext", "--build-temp", folder, "--build-lib", folder]
runpy.run_path("setup.py", run_name="__main__")
"""


def build(folder: Path, machine: str = "x86_64", **environ: str) -> subprocess.CompletedProcess[str]:
    """Compiles the shim into a folder, on a machine that calls itself so."""
    command = [sys.executable, "-c", BUILD, machine, str(folder)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, check=False)


def test_another_processor_is_refused_in_a_sentence(tmp_path: Path) -> None:
    done = build(tmp_path, "aarch64")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "error: kvmbind needs KVM, on Linux and x86-64; this is a 64-bit Python on linux, aarch64\n"
    )


@pytest.mark.parametrize("compiler", ["/nowhere/gcc", "false"])
def test_without_a_working_compiler_the_sentence_says_what_to_install(tmp_path: Path, compiler: str) -> None:
    done = build(tmp_path, CC=compiler)
    assert done.returncode == 1
    assert "error: kvmbind's shim could not be compiled: the reason is above. " in done.stderr
    assert "    Debian:  apt-get install gcc libc6-dev linux-libc-dev python3-dev\n" in done.stderr
