"""Directives that take from the package what would otherwise be written twice."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
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


class Exports(SphinxDirective):
    """``.. exports:: MODULE``: the classes that a module exports, but errors; with ``:functions:`` the functions."""

    required_arguments = 1
    option_spec: ClassVar = {"functions": directives.flag, "except": str.split}

    def run(self) -> list[nodes.Node]:
        """Documents each, in the order of the alphabet."""
        module, omitted = self.arguments[0], self.options.get("except", ())
        wanted, directive, options = _is_class, "autoclass", ["   :members:", "   :exclude-members: count, index"]
        if "functions" in self.options:
            wanted, directive, options = inspect.isfunction, "autofunction", []
        lines = []
        for name in sorted(set(dir(import_module(module))) - set(omitted)):
            if not name.startswith("_") and wanted(getattr(import_module(module), name)):
                lines += [f".. {directive}:: {module}.{name}", *options, ""]
        return _parse(self, lines, module)


def _is_class(value: object) -> bool:
    return inspect.isclass(value) and not issubclass(value, Exception)


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
    app.add_directive("exports", Exports)
    return {"parallel_read_safe": True}
