"""The parser of a command."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Commands = argparse._SubParsersAction["CommandParser"]


_STDOUT = 1
_FALLBACK_COLUMNS = 80


class Formatter(argparse.HelpFormatter):
    """argparse's, with the width of the terminal; argparse itself imports shutil, and the compressors, to find it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


class RawFormatter(Formatter, argparse.RawDescriptionHelpFormatter):
    """The same, with the lines of descriptions as they are."""


def _columns() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(_STDOUT).columns or _FALLBACK_COLUMNS
    except OSError:  # closed, or no terminal
        return _FALLBACK_COLUMNS


class CommandParser(argparse.ArgumentParser):
    """A parser whose own commands may have a default: arguments that begin with no command's name are for that one."""

    _default: str | None = None
    _commands: Commands

    def __init__(
        self,
        *,
        prog: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
        formatter_class: type[Formatter] = Formatter,
    ) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, formatter_class=formatter_class)

    def add_commands(self, default: str, metavar: str) -> Commands:
        """Makes room for its commands; the name of the chosen one is in the arguments as `metavar` in lower case."""
        self._default = default
        self._commands = self.add_subparsers(dest=metavar.lower(), metavar=metavar, required=True)
        return self._commands

    def parse_known_args(  # type: ignore[override]  # the overloads differ in the namespace's class alone
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Puts the default's name in front where there is none."""
        if self._default is not None and args is not None:
            named = args and args[0] in (*self._commands.choices, "-h", "--help")
            args = args if named else [self._default, *args]
        return super().parse_known_args(args, namespace)
