"""The command line, `kvmbind COMMAND`: one module per command.

A command's module has one function, `register(commands)`: it adds the command's parser and sets its default `run`, a
function from the parsed arguments to the exit status. A start that names no command registers them all, so a module
imports what its command needs in `run`, not at its top.

A command prints its result on stdout, and what is for people alone, such as progress, on stderr. What it cannot do it
says by raising: `CommandError`, a `ZxError` or an `OSError` becomes one line on stderr.

Exit statuses: 0; 1 for a failure, or for what the command is there to find; 2 for wrong arguments; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from kvmbind.cli.failures import run_to_status
from kvmbind.cli.parser import CommandParser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmbind.cli.parser import Commands as Commands

#: In the order in which `kvmbind --help` lists them.
COMMANDS = ("run", "bench", "doctor")

_ALLOCATIONS_PER_COLLECTION = 100_000  # more than imports make, and few enough for a run of hours


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from kvmbind import __version__

        print(f"kvmbind {__version__}")
        parser.exit()


def build_parser(names: Sequence[str] = COMMANDS) -> CommandParser:
    """Returns the parser of the command line; `names` are the commands that it shall know."""
    parser = CommandParser(prog="kvmbind", description="Zircon's hypervisor objects on Linux KVM.")
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version and exit")
    # Without `prog` argparse formats a usage to find it, for which it imports the compressors by way of shutil.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, prog="kvmbind")
    for name in names:
        import_module(f"kvmbind.cli.{name}").register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, by default the process's own; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    named = [name for name in COMMANDS if [name] == list(words[:1])]  # spares the import of the others
    args = build_parser(named or COMMANDS).parse_args(words)
    return run_to_status(f"kvmbind {args.command}", lambda: args.run(args), sys.stderr)


def run_process() -> int:
    """Is the command `kvmbind`: runs the process's own command line, and returns the exit status.

    Python's garbage collector looks at everything that is imported again and again, and once more as the process ends:
    a sixth of the time of a short `kvmbind run`. Here it comes seldom, and finds nothing to look at in the end.
    """
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)
    status = main()
    gc.freeze()
    return status
