"""`kvmbind bench compare A.json B.json`: what moved between two saved reports, and whether it is more than noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.cli.failures import FAILED, CommandError, require_extra

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from kvmbind.bench.compare import Change
    from kvmbind.cli.parser import Commands

_ABOUT = """Compares two reports that --save wrote: p50, p90 and p99 of every result. A change counts if it is larger
than the threshold and its confidence interval excludes none. Exit status: 0 if nothing is slower, 1 if anything is."""


def register(benches: Commands) -> None:
    """Adds the command."""
    parser = benches.add_parser("compare", help="two saved reports beside each other", description=_ABOUT)
    parser.add_argument("before", metavar="A.json", help="a saved report")
    parser.add_argument("after", metavar="B.json", help="a later one")
    parser.add_argument(
        "--threshold", type=float, default=5.0, metavar="PERCENT", help="the least change that counts (default: 5)"
    )
    parser.add_argument(
        "--ratios", action="store_true", help="compare ratios to each report's floor, for machines that differ"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    require_extra("bench", "rich", "hdrh")
    from kvmbind.bench.compare import IncomparableError, Verdict, compare
    from kvmbind.bench.document import DocumentError, load

    if args.threshold < 0:
        raise CommandError(f"a threshold of {args.threshold:g} % is negative")
    try:
        before, after = load(args.before), load(args.after)
        changes = compare(before, after, threshold=args.threshold / 100, to_base=args.ratios)
    except (DocumentError, IncomparableError) as error:
        raise CommandError(str(error)) from error
    if args.json:
        print(_as_json(changes))
    else:
        _show(changes, before_path=args.before, after_path=args.after)
    return FAILED if any(change.verdict is Verdict.SLOWER for change in changes) else 0


def _as_json(changes: Sequence[Change]) -> str:
    import json

    listed = [change._asdict() | {"ratio": change.ratio._asdict()} for change in changes]
    return json.dumps({"schema": "kvmbind.bench.compare/1", "changes": listed}, indent=1)


def _show(changes: Sequence[Change], *, before_path: str, after_path: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from kvmbind.bench.compare import Verdict
    from kvmbind.bench.show import microseconds

    styles = {Verdict.SLOWER: "bold red", Verdict.FASTER: "bold green", Verdict.SAME: ""}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("")
    for head in ("A, us", "B, us", "change", "95 %"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("")
    for change in changes:
        ratio = change.ratio
        table.add_row(
            change.name,
            f"p{change.percent:g}",
            microseconds(change.before),
            microseconds(change.after),
            _percent(ratio.value),
            f"{_percent(ratio.low)} .. {_percent(ratio.high)}",
            change.verdict.value,
            style=styles[change.verdict],
        )
    console = Console(highlight=False)
    console.print(f"A: {before_path}\nB: {after_path}\n", soft_wrap=True)
    console.print(table)


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f} %"
