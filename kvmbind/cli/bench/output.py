"""What every benchmark does with its report: print it, save it, draw it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvmbind.cli.failures import INTERRUPTED, CommandError, require_extra

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from kvmbind.bench.report import Report
    from kvmbind.bench.run import Run, Step


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `require_outputs` and `measure_and_tell` read."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    group.add_argument("--save", metavar="FILE", help="save the same document, with HDR histograms of all samples")
    group.add_argument("--hlog", metavar="FILE", help="save an HDR histogram log, which other viewers read")
    group.add_argument("--plot", metavar="FILE", help="draw percentile curves and histograms: .png or .svg")


def require_outputs(args: argparse.Namespace) -> None:
    """Makes sure, before anything is measured, that what is asked for can be made.

    Raises:
        CommandError: A library is missing, or a plot has another ending.
        OSError: A file cannot be written.
    """
    require_extra("bench", *_libraries(args))
    from kvmbind.bench.files import require_writable

    if args.plot is not None:
        from kvmbind.bench.plot import require_format

        try:
            require_format(args.plot)
        except ValueError as error:
            raise CommandError(str(error)) from error
    for path in (args.save, args.hlog, args.plot):
        if path is not None:
            require_writable(path)


def _libraries(args: argparse.Namespace) -> Iterator[str]:
    yield "rich"
    if args.json or args.save is not None or args.hlog is not None:
        yield "hdrh"
    if args.plot is not None:
        yield "matplotlib"


def measure_and_tell(run: Run, args: argparse.Namespace) -> int:
    """Measures, then prints and saves the report; after Ctrl-C, that of what was measured so far.

    Returns:
        The exit status.
    """
    interrupted = False
    with _progress_of(run):
        try:
            run.measure()
        except KeyboardInterrupt:
            interrupted = True
    report = run.report()
    if not interrupted or report.results:
        tell(report, args)
    return INTERRUPTED if interrupted else 0


def tell(report: Report, args: argparse.Namespace) -> None:
    """Prints the report, then saves it: whatever becomes of the files, it has been seen."""
    if args.json:
        from kvmbind.bench.document import dumps

        print(dumps(report), flush=True)
    else:
        from rich.console import Console

        from kvmbind.bench.show import show

        show(report, Console(highlight=False))
    sys.stdout.flush()
    if args.save is not None:
        report.save(args.save)
    if args.hlog is not None:
        report.save_log(args.hlog)
    if args.plot is not None:
        report.plot(args.plot)


@contextmanager
def _progress_of(run: Run) -> Iterator[None]:
    """Shows on a terminal's stderr how far the run is. It is drawn between turns: no thread runs beside them."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)

        def draw(step: Step) -> None:
            bar.update(task, description=f"{step.name:<12}", completed=step.done, total=step.total, refresh=True)

        run.on_step = draw
        yield
