"""The fixture kvm_machine, and what a failed test tells of its machines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from kvmbind import Machine

_MACHINES = pytest.StashKey["list[Machine]"]()


class StartMachine(Protocol):
    """Starts a machine that ends with the test."""

    def __call__(self, image: bytes | bytearray | memoryview | str | os.PathLike[str], **options: object) -> Machine:
        """Takes what `kvmbind.Machine` takes, and returns it started."""


@pytest.fixture
def kvm_machine(request: pytest.FixtureRequest) -> Iterator[StartMachine]:
    """Starts machines that end with the test.

    Write ``machine = kvm_machine(image, format="com")``, then ``machine.expect("ready", timeout_s=5)``. It takes what
    ``kvmbind.Machine`` takes. Each machine is stopped and closed after the test, also when that fails; then the report
    shows its final screen, its registers and its last exits.
    """
    from kvmbind import Machine

    with contextlib.ExitStack() as running:

        def start(image: bytes | bytearray | memoryview | str | os.PathLike[str], **options: object) -> Machine:
            machine = running.enter_context(Machine(image, **options))  # type: ignore[arg-type]  # they are Machine's own
            machine.start()
            watch(request.node, machine)
            return machine

        yield start


def watch(item: pytest.Item, machine: Machine) -> None:
    """Lets the report of a test show a machine if it fails."""
    item.stash.setdefault(_MACHINES, []).append(machine)


def add_reports(item: pytest.Item, report: pytest.TestReport) -> None:
    """Stops the machines of a failed test, and adds a section for each to its report."""
    machines = item.stash.get(_MACHINES, [])
    for number, machine in enumerate(machines, 1):
        name = "kvmbind machine" if len(machines) == 1 else f"kvmbind machine {number}"
        report.sections.append((name, _describe(machine)))


def _describe(machine: Machine) -> str:
    from kvmbind import ZxError
    from kvmbind.machine import diagnosis

    try:
        ending = machine.stop()
    except ZxError as error:
        return f"it ended with {error}"
    screen = ending.screen or "(empty)"
    parts = [f"screen:\n{screen}", *diagnosis.describe(ending, machine.pc)]
    if ending.serial:
        parts.insert(1, f"serial: {ending.serial.decode('latin-1')!r}")
    return "\n".join(parts)
