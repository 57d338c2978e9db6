"""The shim's three faces agree: native/shim.cdef, kvmbind/_shim.pyi and the module that was built."""

from __future__ import annotations

import ast
import re
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

from kvmbind import _shim

ROOT = Path(__file__).resolve().parents[2]
CDEF = re.sub(r"/\*.*?\*/", "", (ROOT / "native" / "shim.cdef").read_text(encoding="ascii"), flags=re.DOTALL)
STUB = ast.parse((ROOT / "kvmbind" / "_shim.pyi").read_text(encoding="utf-8"))

#: What a C type is in Python. An address is an address, a typed one is its own class.
PYTHON_TYPES = {
    **{
        key: {"int"}
        for key in ["int", "unsigned", "unsigned long", "size_t", "int64_t", "uint64_t", "uint32_t", "uint8_t"]
    },
    "double": {"float"},
    "void": {"None"},
    "const char *": {"bytes"},
    "void *": {"CData", "Host"},
    "const void *": {"CData", "bytes"},
    "void **": {"HostSlot"},
    "int *": {"Ints"},
    "const int *": {"Ints"},
    "const uint32_t *": {"Counts"},
    "uint8_t *": {"CData"},
    "uint16_t *": {"Short"},
    "uint64_t *": {"Array"},
    "const uint64_t *": {"Array"},
    "struct kb_cpuid *": {"Cpuid"},
    "const struct kb_cpuid *": {"Cpuid"},
    "struct kb_vm *": {"Vm"},
    "struct kb_vcpu *": {"Vcpu"},
    "struct kb_exit *": {"Exit"},
    "struct kb_bell *": {"Bell"},
    "const struct kb_bell *": {"Bell"},
    "struct kb_packet": {"Packet"},
    "struct kb_packet *": {"Packet"},
    "struct kb_port *": {"Port"},
    "struct kb_trigger *": {"Trigger"},
    "struct kb_injector *": {"Injector"},
    "struct kb_probe *": {"Probe"},
    "struct kb_waker *": {"Waker"},
    "struct kb_round *": {"Round"},
    "const struct kb_slot *": {"Slot"},
    "const struct kb_exchange *": {"Exchange"},
}
CLASSES = {
    "kb_cpuid": "Cpuid",
    "kb_vm": "Vm",
    "kb_vcpu": "Vcpu",
    "kb_exit": "Exit",
    "kb_bell": "Bell",
    "kb_packet": "Packet",
    "kb_port": "Port",
    "kb_trigger": "Trigger",
    "kb_injector": "Injector",
    "kb_probe": "Probe",
    "kb_waker": "Waker",
    "kb_round": "Round",
    "kb_slot": "Slot",
    "kb_exchange": "Exchange",
}


class Named(NamedTuple):
    """A parameter or a field."""

    type: str
    name: str


class Function(NamedTuple):
    """A function's result and parameters, in the words of one language."""

    result: str
    parameters: list[Named]


def c_declaration(text: str) -> Named:
    """Reads "const uint64_t registers[17]"; an array parameter is a pointer."""
    match = re.fullmatch(r"(.*?)\s*(\w+)(\[\d*\])?", text.strip())
    assert match is not None, text
    kind, name, array = match.groups()
    kind = re.sub(r"\s*(\*+)$", r" \1", kind)
    return Named(f"{kind} *" if array else kind, name)


def c_functions() -> dict[str, Function]:
    found = {}
    for result, name, parameters in re.findall(r"^(\w+) (kb_\w+)\(([^)]*)\);$", CDEF, re.MULTILINE):
        listed = [] if parameters == "void" else [c_declaration(text) for text in parameters.split(",")]
        found[name] = Function(result, listed)
    return found


def c_structures() -> dict[str, list[Named]]:
    found = {}
    for name, fields in re.findall(r"^struct (kb_\w+) \{([^}]*)\};$", CDEF, re.MULTILINE):
        found[name] = [c_declaration(text) for text in fields.split(";") if text.strip(" \n.")]
    return found


def c_constants() -> list[str]:
    return re.findall(r"^#define (\w+) \.\.\.$", CDEF, re.MULTILINE)


def python_class(name: str) -> list[ast.stmt]:
    return next(node.body for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == name)


def words(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


def python_functions() -> dict[str, Function]:
    found = {}
    for method in python_class("_Lib"):
        if not isinstance(method, ast.FunctionDef):
            continue
        parameters = [Named(words(argument.annotation), argument.arg) for argument in method.args.args[1:]]
        found[method.name] = Function(words(method.returns), parameters)
    return found


def python_fields(name: str) -> list[Named]:
    return [
        Named(words(node.annotation), node.target.id)
        for node in python_class(name)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


C, PYTHON = c_functions(), python_functions()


def test_nothing_in_the_cdef_is_overlooked() -> None:
    assert CDEF.count("(") == len(C)
    assert CDEF.count("{") == len(c_structures())
    assert CDEF.count("#") == len(c_constants())


def test_both_declare_the_same_constants() -> None:
    assert python_fields("_Lib") == [Named("int", name) for name in c_constants()]


def test_both_declare_the_same_functions_in_the_same_order() -> None:
    assert list(PYTHON) == list(C)


@pytest.mark.parametrize("name", C)
def test_a_function_has_the_same_parameters_in_both(name: str) -> None:
    assert [parameter.name for parameter in PYTHON[name].parameters] == [p.name for p in C[name].parameters]


@pytest.mark.parametrize("name", C)
def test_a_function_has_the_types_in_python_that_it_has_in_c(name: str) -> None:
    assert PYTHON[name].result in PYTHON_TYPES[C[name].result]
    for python, c in zip(PYTHON[name].parameters, C[name].parameters, strict=True):
        assert python.type in PYTHON_TYPES[c.type], c.name


@pytest.mark.parametrize(("name", "fields"), c_structures().items())
def test_a_structure_has_the_same_fields_of_the_same_types_in_both(name: str, fields: list[Named]) -> None:
    declared = python_fields(CLASSES[name])
    assert [field.name for field in declared] == [field.name for field in fields]
    for python, c in zip(declared, fields, strict=True):
        assert python.type in PYTHON_TYPES[c.type]


def test_the_built_module_has_every_function_and_constant_and_no_other() -> None:
    assert sorted(dir(_shim.lib)) == sorted([*C, *c_constants()])


def test_the_built_module_has_every_field() -> None:
    made = {
        "kb_cpuid": _shim.ffi.new("struct kb_cpuid *"),
        "kb_packet": _shim.ffi.addressof(_shim.ffi.new("struct kb_exit *"), "packet"),
        "kb_port": _shim.ffi.new("struct kb_port *"),
        "kb_vm": _shim.ffi.new("struct kb_vm *"),
        "kb_vcpu": _shim.ffi.new("struct kb_vcpu *"),
        "kb_exit": _shim.ffi.new("struct kb_exit *"),
        "kb_bell": _shim.ffi.new("struct kb_bell *"),
        "kb_trigger": _shim.ffi.new("struct kb_trigger *"),
        "kb_injector": _shim.ffi.new("struct kb_injector *"),
        "kb_probe": _shim.ffi.new("struct kb_probe *"),
        "kb_waker": _shim.ffi.new("struct kb_waker *"),
        "kb_round": _shim.ffi.new("struct kb_round[]", 1) + 0,
        "kb_slot": _shim.ffi.new("struct kb_slot[]", 1)[0],
        "kb_exchange": _shim.ffi.new("struct kb_exchange[]", 1)[0],
    }
    assert {name: sorted(dir(struct)) for name, struct in made.items()} == {
        name: sorted(field.name for field in fields) for name, fields in c_structures().items()
    }


def test_the_built_module_is_for_any_python_from_3_11_on() -> None:
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("a free-threaded Python has no stable ABI")
    assert _shim.__file__.endswith(".abi3.so")
