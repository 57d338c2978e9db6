"""Runs machines with random images, and with mutations of good ones, and prints how they ended.

`make fuzz FUZZ_ARGS="--count 10000"`, or `python -m tests.machine.fuzz` from the root of the tree. With the seed that
it prints, `--seed S --kind K --case N` runs one case again.
"""

from __future__ import annotations

import argparse
import faulthandler
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.machine.fuzz.cases import KINDS, Case, make_case
from tests.machine.fuzz.runs import CaseError, Endings, run_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOLD_EVERY = 1000


def main() -> int:
    """Returns the exit status: 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.machine.fuzz", description="Run machines with bad images.")
    parser.add_argument("--seed", type=int, help="of all cases; default: a new one, which is printed")
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="cases of each kind (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case")
    parser.add_argument("--case", type=int, metavar="N", help="run this one alone")
    args = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if args.seed is None else args.seed
    numbers = range(args.first, args.first + args.count) if args.case is None else [args.case]
    faulthandler.enable()
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="kvmbind-fuzz-"))
    console.print(f"seed {seed}; an image that fails is kept in {folder}", highlight=False)
    began_s = time.monotonic()

    def cases() -> Iterator[Case]:
        for kind in args.kind or KINDS:
            for number in numbers:
                if number % _TOLD_EVERY == 0:
                    console.print(f"{kind} {number}: {time.monotonic() - began_s:.0f} s", highlight=False)
                yield make_case(seed, kind, number)

    try:
        endings = run_cases(cases(), folder)
    except (CaseError, AssertionError):
        console.print_exception()
        return 1
    folder.rmdir()
    console.print(_table(endings, args.kind or list(KINDS)))
    return 0


def _table(endings: Endings, kinds: list[str]) -> Table:
    table = Table(title=f"{endings.total} images")
    table.add_column("ended by")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for way in endings.ways:
        table.add_row(way, *(str(endings.of(kind, way)) for kind in kinds))
    return table


if __name__ == "__main__":
    sys.exit(main())
