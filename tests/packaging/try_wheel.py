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

SAMPLE = Path(__file__).resolve().parent / "sample"
KVM = "require" if os.path.exists("/dev/kvm") else "auto"


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
    if KVM == "require":
        place.run("kvmbind", "doctor")
    shutil.copytree(SAMPLE, folder / "sample")
    place.run("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", f"--kvm={KVM}", "sample")
    place.run("mypy", "--strict", "--no-incremental", "sample")
    place.pip("uninstall", "--yes", "kvmbind")
    left = sorted(place.files() - before)
    expect(not left, f"uninstalling leaves {left}")


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

    def run(self, program: str, *arguments: str) -> str:
        """Runs one of its programs and returns what it printed; exits with what it said if it failed."""
        command = [str(self._folder / "venv" / "bin" / program), *arguments]
        unwanted = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        environ = {name: value for name, value in os.environ.items() if name not in unwanted}
        done = subprocess.run(command, cwd=self._folder, env=environ, stdout=subprocess.PIPE, text=True, check=False)
        expect(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
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
