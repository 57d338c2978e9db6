"""Tries a wheel and an sdist as a user meets them: installed in new environments, outside the source tree.

usage: python tests/packaging/try_wheel.py DIST_FOLDER

The folder has one wheel and one sdist. Ends with 1 and one sentence at the first thing that is not as it should be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "tests/packaging/sample"
IMAGES = ROOT / "examples/images"
PYTEST = ("pytest", "-W", "error", "-p", "no:cacheprovider")
HAS_KVM = os.path.exists("/dev/kvm")

HIDE_THE_DEVICE = """
from kvmbind import pytest_plugin
pytest_plugin.DEVICE = "/dev/kvm-of-nowhere"
"""


def main() -> None:
    """Tries both."""
    dist = Path(sys.argv[1]).resolve()
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        try_wheel(wheel, Path(folder) / "wheel")
        try_sdist(sdist, Path(folder) / "sdist")
    print(f"{wheel.name} and {sdist.name} are as they should be")


def try_wheel(wheel: Path, folder: Path) -> None:
    """Installs, runs, tests with, type-checks against, and uninstalls a wheel."""
    place = Environment(folder, "cffi", "pytest", "pytest-xdist", "mypy")
    before = place.files()
    place.pip("install", "--no-deps", str(wheel))
    version = wheel.name.split("-")[1]
    expect(place.run("kvmbind", "--version") == f"kvmbind {version}\n", "kvmbind --version tells another version")
    where = place.run("python", "-c", "import kvmbind._shim; print(kvmbind._shim.__file__)")
    expect(where.startswith(str(folder)), f"the shim is loaded from {where}")
    shutil.copytree(SAMPLE, folder / "sample")
    shutil.copytree(IMAGES, folder / "sample/images")
    place.run("mypy", "--strict", "--no-incremental", "sample")
    if HAS_KVM:
        place.run("kvmbind", "doctor")
        try_sample(place, folder)
    else:
        place.run(*PYTEST, "--kvm=auto", "sample")
    place.pip("uninstall", "--yes", "kvmbind")
    left = sorted(place.files() - before)
    expect(not left, f"uninstalling leaves {left}")


def try_sample(place: Environment, folder: Path) -> None:
    """Runs the sample project's tests: as they are, with a broken image, and with the device hidden."""
    place.run(*PYTEST, "--kvm=require", "-n", "2", "sample")
    hello = folder / "sample/images/hello.bin"
    hello.write_bytes(hello.read_bytes().replace(b"Hello", b"Jello"))
    said = place.run(*PYTEST, "--kvm=require", "sample", status=1)
    shown = (
        "'Hello from real mode' did not come" in said and "\nJello from real mode\n" in said and "last exits:" in said
    )
    expect(shown, f"a broken image fails with:\n{said}")
    (folder / "sample/conftest.py").write_text(HIDE_THE_DEVICE)
    said = place.run(*PYTEST, "--kvm=require", "sample", status=1)
    refused = said.count("KVM is required, but /dev/kvm-of-nowhere does not exist")
    expect(refused >= 4 and " passed" not in said, f"without a device the tests say:\n{said}")


def try_sdist(sdist: Path, folder: Path) -> None:
    """Builds an sdist where nothing can be downloaded, and cffi and setuptools are there."""
    place = Environment(folder, "cffi", "setuptools>=77")
    place.pip("install", "--no-index", "--no-build-isolation", str(sdist))
    place.run("python", "-c", "import kvmbind._shim, kvmbind.guests; kvmbind.guests.COUNTER")


class Environment:
    """A virtual environment in a folder of its own. Commands run in that folder, with nothing of the caller's."""

    def __init__(self, folder: Path, *requirements: str) -> None:
        """Makes it and installs what it needs."""
        self._folder = folder
        venv.create(folder / "venv", with_pip=True)
        self.pip("install", *requirements)

    def pip(self, *arguments: str) -> None:
        """Runs pip."""
        self.run("python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)

    def run(self, program: str, *arguments: str, status: int = 0) -> str:
        """Runs one of its programs and returns what it printed; exits with that if it ended otherwise than wanted."""
        command = [str(self._folder / "venv" / "bin" / program), *arguments]
        unwanted = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        environ = {name: value for name, value in os.environ.items() if name not in unwanted}
        done = subprocess.run(command, cwd=self._folder, env=environ, stdout=subprocess.PIPE, text=True, check=False)
        expect(done.returncode == status, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def files(self) -> set[str]:
        """Returns the paths of all that is installed."""
        return {str(path) for path in (self._folder / "venv").rglob("*") if path.name != "__pycache__"}


def expect(so: bool, otherwise: str) -> None:
    """Exits with a sentence unless something is so."""
    if not so:
        sys.exit(otherwise)


if __name__ == "__main__":
    main()
