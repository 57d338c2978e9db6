"""`kvmbind bench`: measurements beside raw C."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from kvmbind.cli import Commands


def register(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("bench", help="measure, beside raw C in the same run", description=__doc__)
    benches = parser.add_subparsers(dest="bench", metavar="BENCH", required=True)
    ratios = benches.add_parser("ratios", help="the library's calls against the same in C", description=_RATIOS)
    ratios.set_defaults(run=_run_ratios)


_RATIOS = "Prints what the library's calls cost as ratios to raw C, each pair measured in turn in one run."


def _run_ratios(_: argparse.Namespace) -> int:
    from kvmbind.bench import ratios

    return ratios.main()
