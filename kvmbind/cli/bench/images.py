"""`kvmbind bench images`: what it costs to run a short image, beside bare Python and QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.cli.failures import CommandError

if TYPE_CHECKING:
    import argparse

    from kvmbind.cli.parser import Commands

_ABOUT = """Runs an image that prints a line and ends: in this process, and by kvmbind run; and by QEMU where it is
installed, a ROM as the BIOS of its microvm, and the boot sector under its SeaBIOS. They take turns in one run."""


def register(benches: Commands) -> None:
    """Adds the benchmark."""
    parser = benches.add_parser("images", help="a short image run, beside bare Python and QEMU", description=_ABOUT)
    parser.add_argument("-n", type=int, default=20, metavar="N", help="turns of each (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from kvmbind.bench import images

    if args.n < 1:
        raise CommandError(f"n is {args.n}: one turn of each at least")
    print(*images.lines(images.measure(args.n)), sep="\n")
    return 0
