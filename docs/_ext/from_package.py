"""Directives that take from the package what would otherwise be written twice."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class ModuleDocstring(SphinxDirective):
    """``{module-docstring} kvmbind.guests``: the docstring of a module, in the markup of the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parses the docstring where the directive is."""
        name = self.arguments[0]
        return _parse(self, (inspect.getdoc(import_module(name)) or "").splitlines(), name)


class ZxCalls(SphinxDirective):
    """``.. zx-calls::``: every call of `kvmbind.zx`, in the order in which that imports them."""

    def run(self) -> list[nodes.Node]:
        """Documents each by autofunction."""
        zx = import_module("kvmbind.zx")
        names = [name for name, value in vars(zx).items() if inspect.isfunction(value) and not name.startswith("_")]
        lines = [line for name in names for line in (f".. autofunction:: kvmbind.zx.{name}", "")]
        return _parse(self, lines, "kvmbind.zx")


def _parse(directive: SphinxDirective, lines: list[str], source: str) -> list[nodes.Node]:
    holder = nodes.Element()
    directive.state.nested_parse(StringList(lines, source), directive.content_offset, holder)
    return holder.children


def _quote_numbers(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keeps "options: 0." from being a list with one item."""
    lines[:] = [re.sub(r"^(\s+\w+: )(\d+)\.$", r"\1``\2``.", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directives, and what is done to docstrings before napoleon reads them."""
    app.connect("autodoc-process-docstring", _quote_numbers, priority=100)
    app.add_directive("module-docstring", ModuleDocstring)
    app.add_directive("zx-calls", ZxCalls)
    return {"parallel_read_safe": True}
