"""`kvmbind bench ratios`: what the library's calls cost, as ratios to raw C."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from kvmbind.cli.parser import Commands


def register(benches: Commands) -> None:
    """Adds the benchmark."""
    parser = benches.add_parser("ratios", help="the library's calls against the same in C", description=_ABOUT)
    parser.set_defaults(run=_run)


_ABOUT = "Prints what the library's calls cost as ratios to raw C, each pair measured in turn in one run."


def _run(_: argparse.Namespace) -> int:
    from kvmbind.bench import ratios

    return ratios.main()
