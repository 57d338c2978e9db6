"""Assemble real-mode images from .S files: those of `kvmbind.guests` from the files beside this script.

`python native/guests/build.py` writes the images; `--check` compares them with a fresh assembly instead. `--sources`
and `--images` name other directories. A file whose name begins with an underscore is included by the others and is no
image.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
IMAGES = SOURCES.parents[1] / "kvmbind" / "guests"
TOOLS = ("gcc", "ld", "objcopy")


def sources(folder: Path) -> list[Path]:
    """Return the source of every image, sorted by name."""
    return sorted(path for path in folder.glob("*.S") if not path.name.startswith("_"))


def assemble(source: Path) -> bytes:
    """Return the flat bytes of one source, linked at 0; `CalledProcessError` if a tool refuses it."""
    with tempfile.TemporaryDirectory() as scratch:
        unlinked, linked, flat = (f"{scratch}/image.{suffix}" for suffix in ("o", "elf", "bin"))
        for command in (
            ["gcc", "-m32", "-c", "-o", unlinked, str(source)],
            ["ld", "-m", "elf_i386", "--build-id=none", "-Ttext=0", "-e", "0", "-o", linked, unlinked],
            # Some assemblers add a note section at another address: the image is .text alone.
            ["objcopy", "-O", "binary", "-j", ".text", linked, flat],
        ):
            subprocess.run(command, check=True)
        return Path(flat).read_bytes()


def differences(fresh: dict[str, bytes], images: Path) -> list[str]:
    """Return one line for each file of `images` that is not what `fresh` says, by file name."""
    lines = []
    for name in sorted(fresh.keys() | {path.name for path in images.glob("*.bin")}):
        path = images / name
        if name not in fresh:
            lines.append(f"{name} has no source")
        elif not path.exists():
            lines.append(f"{name} is missing")
        elif path.read_bytes() != fresh[name]:
            lines.append(f"{name} differs from its source")
    return lines


def main() -> int:
    """Write or check the images; return the exit status."""
    parser = argparse.ArgumentParser(description="Assemble real-mode images.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if an image is stale")
    parser.add_argument("--sources", type=Path, default=SOURCES, metavar="DIR", help="where the .S files are")
    parser.add_argument("--images", type=Path, default=IMAGES, metavar="DIR", help="where the .bin files are")
    arguments = parser.parse_args()

    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"build.py: {', '.join(missing)} not found: install gcc and binutils", file=sys.stderr)
        return 1
    try:
        fresh = {f"{source.stem}.bin": assemble(source) for source in sources(arguments.sources)}
    except subprocess.CalledProcessError as error:
        print(f"build.py: {error.cmd[0]} failed, status {error.returncode}", file=sys.stderr)
        return 1

    if not arguments.check:
        for name, image in fresh.items():
            (arguments.images / name).write_bytes(image)
    stale = differences(fresh, arguments.images)
    for line in stale:
        print(f"build.py: {line}", file=sys.stderr)
    if stale and arguments.check:
        where = f" --sources {arguments.sources} --images {arguments.images}" if arguments.sources != SOURCES else ""
        print(f"build.py: run python native/guests/build.py{where}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
