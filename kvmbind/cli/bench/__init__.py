"""`kvmbind bench`: measurements beside raw C. One module for each benchmark; with no name it is `latency`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.cli.bench import compare, images, latency, others, ratios

if TYPE_CHECKING:
    from kvmbind.cli.parser import Commands

DEFAULT = "latency"
BENCHES = (latency, others, images, compare, ratios)

_ABOUT = f"""Measures, beside raw C in the same run. Options that follow no name of a benchmark are those of {DEFAULT}:
see kvmbind bench {DEFAULT} --help."""


def register(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("bench", help="measure interrupts, beside raw C in the same run", description=_ABOUT)
    benches = parser.add_commands(DEFAULT, "BENCH")
    for bench in BENCHES:
        bench.register(benches)
