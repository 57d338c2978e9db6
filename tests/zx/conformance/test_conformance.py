"""Each call against its table: it works, each fault has its answer, and of several the earliest is answered."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import Status
from tests.zx.conformance import guests, handles, interrupts, memory, objects, ports, resources, vcpus
from tests.zx.conformance.table import Check, Scene, Table

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable

    from tests.zx.conftest import Maker

pytestmark = pytest.mark.kvm

MODULES = (guests, handles, interrupts, memory, objects, ports, resources, vcpus)
TABLES: list[Table] = [table for module in MODULES for table in module.TABLES]
CHECKS = [(table, place) for table in TABLES for place in range(len(table.checks))]
CHECK_IDS = [f"{table.name}: {table.checks[place].fault}" for table, place in CHECKS]
LATER = [
    (table, place)
    for table, place in CHECKS
    if any(table.checks[place].goes_with(other) for other in table.checks[place + 1 :])
]


class Stage:
    """Makes the calls of one test."""

    def __init__(self, make: Maker, opened: contextlib.ExitStack) -> None:
        self._make = make
        self._opened = opened

    def scene(self, table: Table, faults: Iterable[Check] = ()) -> Scene:
        """Sets a call up, with faults that are given in their order: the last of each turn is made first."""
        scene = Scene(self._make, self._opened, table.good(self._make))
        last_first = list(faults)[::-1]
        for fault in sorted(last_first, key=lambda fault: fault.turn):
            fault.spoil(scene)
        return scene

    def call(self, table: Table, scene: Scene) -> object:
        """Makes it."""
        arguments = list(scene.arguments.values())
        if scene.elsewhere:
            return self._make.elsewhere(lambda: table.call(*arguments))
        return self._call(table, arguments)

    def _call(self, table: Table, arguments: list[object]) -> object:
        returned = table.call(*arguments)
        if isinstance(returned, tuple) and returned[0] is Status.OK and is_handle(table):
            for handle in returned[1:]:
                self._make.keep((Status.OK, handle))
        return returned


def is_handle(table: Table) -> bool:
    """Whether what the call returns beside its status are handles."""
    return table.call.__name__.endswith(("_create", "_duplicate", "_replace"))


def status_of(returned: object) -> object:
    return returned[0] if isinstance(returned, tuple) else returned


@pytest.fixture
def stage(make: Maker, opened: contextlib.ExitStack) -> Stage:
    return Stage(make, opened)


def test_every_call_that_has_a_status_has_a_table() -> None:
    with_status = {
        name
        for name, function in vars(zx).items()
        if name.startswith("zx_") and "Status" in str(inspect.signature(function).return_annotation)
    }
    assert with_status - {"zx_vcpu_resume"} == {table.call.__name__ for table in TABLES}
    assert zx.zx_vcpu_resume is zx.zx_vcpu_enter


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_arguments_of_a_table_are_those_of_the_prototype_in_its_order(table: Table, stage: Stage) -> None:
    assert list(stage.scene(table).arguments) == list(inspect.signature(table.call).parameters)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_call_without_a_fault_works_with_all_arguments_that_it_takes(table: Table, stage: Stage) -> None:
    for changes in ({}, *table.also):
        scene = stage.scene(table)
        scene.arguments |= changes
        returned = stage.call(table, scene)
        assert status_of(returned) is Status.OK, changes
        results = returned[1:] if isinstance(returned, tuple) else ()
        assert [type(result) for result in results] == [type(nothing) for nothing in table.nothing]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_call_needs_no_other_right_than_those_in_its_table(table: Table, stage: Stage, make: Maker) -> None:
    scene = stage.scene(table)
    for argument, rights in table.rights().items():
        scene.arguments[argument] = make.keep(zx.zx_handle_replace(scene.number(argument), rights))
    # Waits were another handle's: zx_port_cancel finds none any more.
    assert status_of(stage.call(table, scene)) is (Status.NOT_FOUND if table is ports.CANCEL else Status.OK)


@pytest.mark.parametrize(("table", "place"), CHECKS, ids=CHECK_IDS)
def test_one_fault_has_its_own_answer_and_changes_nothing(
    table: Table, place: int, stage: Stage, count_fds: Callable[[], int]
) -> None:
    check = table.checks[place]
    scene = stage.scene(table)
    good = dict(scene.arguments)
    check.spoil(scene)
    fds = count_fds()
    assert stage.call(table, scene) == table.answer(check)
    assert count_fds() == fds
    if not check.lasts:
        scene.arguments, scene.elsewhere = good, False
        assert status_of(stage.call(table, scene)) is Status.OK


@pytest.mark.parametrize(("table", "place"), LATER, ids=[f"{t.name}: {t.checks[p].fault}" for t, p in LATER])
def test_of_several_faults_the_earliest_is_answered(table: Table, place: int, stage: Stage) -> None:
    first = table.checks[place]
    at_once = [first]
    for later in table.checks[place + 1 :]:
        if not first.goes_with(later):
            continue
        if later.status is not first.status:
            assert stage.call(table, stage.scene(table, [first, later])) == table.answer(first), later.fault
        if all(later.goes_with(other) for other in at_once):
            at_once.append(later)
    assert stage.call(table, stage.scene(table, at_once)) == table.answer(first)
