"""Directives that take from the package what would otherwise be written twice, and what autodoc does not know of it."""

from __future__ import annotations

import ctypes
import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from kvmbind.abi.layout import Octets
from kvmbind.zx import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

#: Each class and function that these offer is documented under its name in one of them.
PUBLIC = ("kvmbind", "kvmbind.zx", "kvmbind.bench", "kvmbind.doctor")

COLON, STAND_IN = ":", "\N{RATIO}"


class ModuleDocstring(SphinxDirective):
    """``{module-docstring} kvmbind.guests``: the docstring of a module, in the markup of the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parses the docstring where the directive is."""
        name = self.arguments[0]
        return _parse(self, (inspect.getdoc(import_module(name)) or "").splitlines(), name)


class Exports(SphinxDirective):
    """``.. exports:: MODULE``: the classes that a module exports; or with ``:functions:`` or ``:errors:`` those."""

    required_arguments = 1
    option_spec: ClassVar = {"functions": directives.flag, "errors": directives.flag, "except": str.split}

    def run(self) -> list[nodes.Node]:
        """Documents each, in the order of the alphabet."""
        module, omitted = self.arguments[0], self.options.get("except", ())
        wanted, directive, options = _is_class, "autoclass", ["   :members:", "   :exclude-members: count, index"]
        if "functions" in self.options:
            wanted, directive, options = inspect.isfunction, "autofunction", []
        elif "errors" in self.options:
            wanted, directive, options = _is_error, "autoexception", ["   :show-inheritance:"]
        lines = []
        for name in _exported(module, wanted):
            if name not in omitted:
                lines += [f".. {directive}:: {module}.{name}", *options, ""]
        return _parse(self, lines, module)


def _exported(module: str, wanted: Callable[[object], bool]) -> list[str]:
    home = import_module(module)
    return [name for name in sorted(dir(home)) if not name.startswith("_") and wanted(getattr(home, name))]


def _is_class(value: object) -> bool:
    return inspect.isclass(value) and not issubclass(value, Exception)


def _is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


def _parse(directive: SphinxDirective, lines: list[str], source: str) -> list[nodes.Node]:
    holder = nodes.Element()
    directive.state.nested_parse(StringList(lines, source), directive.content_offset, holder)
    return holder.children


# What autodoc and napoleon make of docstrings


def _prepare(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Before napoleon: keeps "options: 0." from being a list, and "The id: of the APIC" from being a type."""
    lines[:] = [re.sub(r"^(\s+\w+: )(\d+)\.$", r"\1``\2``.", line) for line in lines]
    if what in ("property", "attribute"):
        lines[:] = [line.replace(COLON, STAND_IN) for line in lines]


def _finish(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Behind napoleon: puts the colons back, and says what fields a structure of C has."""
    lines[:] = [line.replace(STAND_IN, COLON) for line in lines]
    if what == "class" and hasattr(obj, "_fields_"):
        lines += ["", f"Fields: {', '.join(_fields(obj))}.", ""]


def _fields(structure: type) -> Iterator[str]:
    for name, kind, *_ in structure._fields_:
        if name in getattr(structure, "_anonymous_", ()):
            yield from _fields(kind)
        elif not name.startswith(("_", "reserved")):
            yield f"``{name}`` {_c_name(kind)}"
    yield from (f"``{name}`` bytes" for name, value in vars(structure).items() if isinstance(value, Octets))


def _c_name(kind: type) -> str:
    if issubclass(kind, ctypes.Array):
        return f"{_c_name(kind._type_)}[{kind._length_}]"
    if issubclass(kind, ctypes.Structure | ctypes.Union):
        return f":py:class:`{kind.__name__}`"
    sign = "" if kind(-1).value < 0 else "u"
    return f"{sign}int{8 * ctypes.sizeof(kind)}"


def _skip_aliases(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leaves out the fields of a named tuple: its signature has them, and its docstring says what they are."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def _hide_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Leaves out how the one class for each status is made, and an enum: nobody outside does that."""
    return ("", None) if isinstance(getattr(obj, "status", None), Status) or hasattr(obj, "__members__") else None


def _check_public(app: Sphinx, env: BuildEnvironment) -> None:
    """Warns of each public name that no page documents."""
    documented = env.domains.python_domain.objects
    for module in PUBLIC:
        for name in _exported(module, lambda value: inspect.isclass(value) or inspect.isfunction(value)):
            home = getattr(import_module(module), name).__module__
            if home.startswith("kvmbind.") and not {f"{each}.{name}" for each in PUBLIC} & documented.keys():
                logging.getLogger(__name__).warning("no page documents %s.%s", module, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directives, and what is done around napoleon (whose priority is 500)."""
    app.connect("autodoc-process-docstring", _prepare, priority=100)
    app.connect("autodoc-process-docstring", _finish, priority=900)
    app.connect("autodoc-skip-member", _skip_aliases)
    app.connect("autodoc-process-signature", _hide_signature)
    app.connect("env-check-consistency", _check_public)
    app.add_directive("module-docstring", ModuleDocstring)
    app.add_directive("exports", Exports)
    return {"parallel_read_safe": True}
