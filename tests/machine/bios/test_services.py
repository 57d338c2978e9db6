"""The table of services: what a call is counted and named by."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvmbind.machine.bios import services


@pytest.mark.parametrize(
    ("vector", "function", "name"),
    [
        (0x10, 0x0E, "10/0E teletype"),
        (0x13, 0x77, "13/77 other disk"),
        (0x16, 0x77, "16/77 unknown"),
        (0x20, 0x77, "20 terminate"),
        (0x77, 0x12, "77 unknown"),
    ],
)
@pytest.mark.usefixtures("bench")
def test_a_call_has_a_name(vector: int, function: int, name: str) -> None:
    assert services.name(vector, function) == name


@pytest.mark.usefixtures("bench")
def test_ah_counts_only_where_it_is_a_function() -> None:
    assert services.key(0x10, 0x0E) == (0x10, 0x0E)
    assert services.key(0x09, 0x0E) == (0x09, 0)


def test_a_service_lies_in_a_module_that_its_interrupts_first_call_imports() -> None:
    for vector, groups in services.GROUPS.items():
        for function in range(0x100):
            serving = services.find(vector, function)
            assert serving is services.refuse or serving.__module__.rpartition(".")[2] in groups


def test_every_module_of_services_is_some_interrupts() -> None:
    """A module is one if it decorates a function; and every interrupt that it serves names it."""
    named = {group for groups in services.GROUPS.values() for group in groups}
    folder = Path(services.__file__).parent
    serving = {path.stem for path in folder.glob("*.py") if "\n@service(" in path.read_text(encoding="utf-8")}
    assert serving == named
    for group in serving:
        text = (folder / f"{group}.py").read_text(encoding="utf-8")
        vectors = {int(vector, 16) for vector in re.findall(r"^@service\(0x(\w\w)", text, re.MULTILINE)}
        assert vectors == {vector for vector, groups in services.GROUPS.items() if group in groups}
