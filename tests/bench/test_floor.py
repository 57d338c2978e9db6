"""The floor has a second opinion: a C program that shares no line with the benchmark."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("independent_floor.c")


@pytest.mark.kvm
def test_the_independent_program_builds_and_its_guest_counts_every_interrupt(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    assert compiler is not None, "the shim was built with gcc"
    program = tmp_path / "floor"
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program, SOURCE], check=True)
    done = subprocess.run([program, "50", "0"], capture_output=True, text=True, check=True, timeout=60)
    assert re.fullmatch(r"min \d+ p50 \d+ ns, 50 counted\n", done.stdout)
