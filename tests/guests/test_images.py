"""The guest images in the package are what their sources say, and small."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvmbind import guests

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "native" / "guests"
IMAGES = Path(guests.__file__).parent


def build(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the build script, with `path` for PATH if given."""
    return subprocess.run(
        [sys.executable, str(SOURCES / "build.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=None if path is None else {"PATH": path},
    )


def test_the_committed_images_are_a_fresh_assembly() -> None:
    """A change to a .S file comes with its .bin."""
    done = build("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_every_source_is_an_image_and_every_image_has_a_name() -> None:
    """Nothing is assembled that no one can use."""
    names = sorted(name.lower() for name in guests.__all__)
    assert names == sorted(path.stem for path in IMAGES.glob("*.bin"))
    assert names == sorted(path.stem for path in SOURCES.glob("[!_]*.S"))


@pytest.mark.parametrize("name", guests.__all__)
def test_an_image_is_its_file_and_fits_in_a_page(name: str) -> None:
    """Images end below 2000h and are read once."""
    image = getattr(guests, name)
    assert image == (IMAGES / f"{name.lower()}.bin").read_bytes()
    assert 0 < len(image) < 4096
    assert getattr(guests, name) is image


def test_an_unknown_image_is_an_attribute_error() -> None:
    """For mypy too: the ignore below is needed."""
    with pytest.raises(AttributeError, match=r"'kvmbind\.guests' has no attribute 'counter'"):
        guests.counter  # type: ignore[attr-defined]  # noqa: B018


def test_dir_lists_the_images() -> None:
    """Completion in a shell finds images that are not loaded yet."""
    assert set(guests.__all__) <= set(dir(guests))


def test_the_check_names_the_file_that_differs(tmp_path: Path) -> None:
    """Changed, lost and stray images, and no other."""
    copy = Path(shutil.copytree(IMAGES, tmp_path / "images"))
    (copy / "stamp.bin").write_bytes(guests.STAMP + b"\x90")
    (copy / "echo.bin").unlink()
    (copy / "stray.bin").write_bytes(b"\xf4")
    done = build("--check", "--images", str(copy))
    assert done.returncode == 1
    assert "echo.bin is missing" in done.stderr
    assert "stamp.bin differs from its source" in done.stderr
    assert "stray.bin has no source" in done.stderr
    assert "counter.bin" not in done.stderr


def test_building_writes_every_image(tmp_path: Path) -> None:
    """Building into an empty directory gives what is committed."""
    assert build("--images", str(tmp_path)).returncode == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in IMAGES.glob("*.bin")
    }


def test_a_missing_assembler_is_one_clear_line(tmp_path: Path) -> None:
    """It says what to install, and nothing else."""
    done = build("--check", path=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "build.py: gcc, ld, objcopy not found: install gcc and binutils\n"
