"""GSIs with their routes and irqfds: allocated, routed and connected, in this order, and undone in reverse."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind._shim import ffi
from kvmbind.kvm import msi
from kvmbind.kvm.routing import Line, Routing
from kvmbind.kvm.vm import Vm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from kvmbind._shim import CData

HEADER, ENTRY = struct.Struct("<II"), struct.Struct("<IIII32s")
TO_PIN, TO_MSI = 1, 2
FIRST, SECOND, THIRD = (msi.physical(0, vector) for vector in (0x40, 0x41, 0x42))


class Route(NamedTuple):
    """One entry of struct kvm_irq_routing."""

    gsi: int
    type: int
    target: bytes


class Recorder(Vm):
    """Stands where the VM fd is: keeps the calls in their order, and refuses those that it is told to."""

    def __init__(self, irqchip: Literal["split", "pc"] = "split", limit: int = 64) -> None:
        self.irqchip = irqchip
        self.limit = limit
        self.calls: list[str] = []
        self.table: list[Route] = []
        self.tables = 0
        self.irqfds: set[tuple[int, int]] = set()
        self.refused: dict[str, OSError] = {}

    def set_gsi_routing(self, table: CData) -> None:
        data = bytes(ffi.buffer(table, HEADER.size + self.limit * ENTRY.size))
        count, _ = HEADER.unpack_from(data)
        self._call("route")
        self.tables += 1
        self.table = []
        for index in range(count):
            gsi, kind, _, _, target = ENTRY.unpack_from(data, HEADER.size + index * ENTRY.size)
            self.table.append(Route(gsi, kind, target))

    def assign_irqfd(self, eventfd: int, gsi: int, *, resample_fd: int = -1) -> None:
        self._call(f"connect {eventfd}")
        assert gsi in self.gsis(), "a route comes before its irqfd"
        self.irqfds.add((eventfd, gsi))

    def deassign_irqfd(self, eventfd: int, gsi: int) -> None:
        self._call(f"disconnect {eventfd}")
        assert gsi in self.gsis(), "an irqfd goes before its route"
        self.irqfds.remove((eventfd, gsi))

    def gsis(self) -> list[int]:
        return [route.gsi for route in self.table]

    def messages(self) -> dict[int, tuple[int, ...]]:
        """What each connected eventfd sends, by the table that the kernel has."""
        of_gsi = {route.gsi: struct.unpack("<III", route.target[:12]) for route in self.table if route.type == TO_MSI}
        return {eventfd: of_gsi[gsi] for eventfd, gsi in self.irqfds}

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if error := self.refused.pop(name, None):
            raise error


def routing(recorder: Recorder) -> Routing:
    return Routing(recorder, recorder.limit)


def test_a_new_line_is_routed_and_then_connected() -> None:
    vm = Recorder()
    (line,) = routing(vm).update([(7, FIRST)])
    assert vm.calls == ["route", "connect 7"]
    assert vm.table == [Route(line.gsi, TO_MSI, struct.pack("<III20x", *FIRST))]
    assert vm.irqfds == {(7, line.gsi)}
    assert (line.eventfd, line.message) == (7, FIRST)


def test_a_line_ends_in_reverse_irqfd_then_route() -> None:
    vm = Recorder()
    table = routing(vm)
    lines = table.update([(7, FIRST)])
    vm.calls.clear()
    table.disconnect(lines)
    assert vm.calls == ["disconnect 7", "route"]
    assert (vm.table, vm.irqfds) == ([], set())


def test_a_batch_is_one_table_update_whatever_its_size() -> None:
    vm = Recorder()
    table = routing(vm)
    lines = table.update([(fd, FIRST) for fd in range(10, 40)])
    assert (vm.tables, vm.calls[0]) == (1, "route")
    assert [line.eventfd for line in lines] == list(range(10, 40))
    assert len(set(vm.gsis())) == 30
    table.disconnect(lines)
    assert (vm.tables, vm.calls[-1]) == (2, "route")


def test_new_lines_and_changed_ones_are_one_table_update_together() -> None:
    vm = Recorder()
    table = routing(vm)
    (line,) = table.update([(7, FIRST)])
    vm.calls.clear()
    table.update([(8, SECOND)], [(line, THIRD)])
    assert vm.calls == ["route", "connect 8"]
    assert vm.messages() == {7: THIRD, 8: SECOND}


def test_a_line_that_is_sent_where_it_goes_already_costs_no_system_call() -> None:
    vm = Recorder()
    table = routing(vm)
    (line,) = table.update([(7, FIRST)])
    vm.calls.clear()
    table.update([], [(line, FIRST)])
    table.update([])
    table.disconnect([])
    assert vm.calls == []


def test_a_gsi_is_used_again_once_it_is_free() -> None:
    vm = Recorder(limit=2)
    table = routing(vm)
    for _ in range(10):
        table.disconnect(table.update([(7, FIRST), (8, SECOND)]))
    assert {line.gsi for line in table.update([(7, FIRST), (8, SECOND)])} == {0, 1}


@pytest.mark.parametrize(
    ("refused", "calls"),
    [
        ("route", ["route", "route"]),
        ("connect 8", ["route", "connect 8", "route"]),
        ("connect 9", ["route", "connect 8", "connect 9", "disconnect 8", "route"]),
    ],
)
def test_a_failure_undoes_everything_and_gives_the_table_back(refused: str, calls: list[str]) -> None:
    vm = Recorder()
    table = routing(vm)
    (line,) = table.update([(7, FIRST)])
    before = vm.table, vm.irqfds.copy()
    vm.calls.clear()
    vm.refused[refused] = OSError(errno.EBUSY, "KVM_IRQFD")
    with pytest.raises(OSError, match="KVM_IRQFD"):
        table.update([(8, SECOND), (9, SECOND)], [(line, THIRD)])
    assert vm.calls == calls
    assert (vm.table, vm.irqfds) == before
    assert line.message == FIRST
    table.update([(8, SECOND), (9, SECOND)], [(line, THIRD)])
    assert vm.messages() == {7: THIRD, 8: SECOND, 9: SECOND}


def test_used_up_gsis_are_an_error_that_says_so_and_changes_nothing() -> None:
    vm = Recorder(limit=3)
    table = routing(vm)
    lines = table.update([(7, FIRST), (8, FIRST)])
    vm.calls.clear()
    with pytest.raises(OSError, match=r"GSIs are used up: 2 are connected, 2 more do not fit .* table of 3") as caught:
        table.update([(9, SECOND), (10, SECOND)], [(lines[0], THIRD)])
    assert caught.value.errno == errno.ENOSPC
    assert vm.calls == []
    table.update([(9, SECOND)])
    assert vm.messages() == {7: FIRST, 8: FIRST, 9: SECOND}


def test_a_pc_keeps_the_routes_of_its_24_lines_beside_the_messages() -> None:
    vm = Recorder("pc")
    table = routing(vm)
    (line,) = table.update([(7, FIRST)])
    pins = [route for route in vm.table if route.type == TO_PIN]
    assert line.gsi == 24
    assert [route.gsi for route in pins] == sorted([*range(24), *range(16)])
    of_chip: dict[int, list[tuple[int, int]]] = {}
    for route in pins:
        chip, pin = struct.unpack_from("<II", route.target)
        of_chip.setdefault(chip, []).append((route.gsi, pin))
    master, slave = [(gsi, gsi) for gsi in range(8)], [(gsi, gsi - 8) for gsi in range(8, 16)]
    assert of_chip == {0: master, 1: slave, 2: [(0, 2), *((gsi, gsi) for gsi in range(1, 24))]}
    table.disconnect([line])
    assert vm.table == pins


@given(st.lists(st.tuples(st.sampled_from(["connect", "disconnect", "retarget"]), st.integers(0, 99)), max_size=40))
def test_the_kernels_table_is_always_that_of_the_lines_which_are_connected(steps: list[tuple[str, int]]) -> None:
    vm = Recorder(limit=12)
    table, alive, next_fd = routing(vm), list[Line](), 100
    for step, number in steps:
        message = msi.physical(0, 16 + number)
        if step == "connect" and len(alive) < 12:
            alive += table.update([(next_fd, message)])
            next_fd += 1
        elif step == "disconnect" and alive:
            table.disconnect([alive.pop(number % len(alive))])
        elif step == "retarget" and alive:
            table.update([], [(alive[number % len(alive)], message)])
        assert vm.messages() == {line.eventfd: line.message for line in alive}
        assert sorted(vm.gsis()) == sorted(line.gsi for line in alive)


def eventfds(count: int) -> list[int]:
    return [os.eventfd(0) for _ in range(count)]


def close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


@pytest.mark.kvm
def test_the_kernel_takes_the_table_and_refuses_an_eventfd_that_has_an_irqfd(vm: Vm) -> None:
    fds = eventfds(3)
    table = Routing(vm, 64)
    lines = table.update([(fds[0], FIRST)])
    with pytest.raises(OSError, match="KVM_IRQFD: ") as caught:
        table.update([(fds[1], SECOND), (fds[0], SECOND), (fds[2], SECOND)])
    assert caught.value.errno == errno.EBUSY
    lines += table.update([(fds[1], SECOND), (fds[2], SECOND)])  # nothing was left connected
    table.disconnect(lines)
    table.disconnect(table.update([(fd, FIRST) for fd in fds]))
    close(fds)


@pytest.mark.kvm
def test_the_kernel_takes_as_many_lines_as_it_says_and_not_one_more(vm: Vm) -> None:
    fds = eventfds(4)
    table = Routing(vm, 4096)
    table._next_gsi = 4093  # the other GSIs behave alike
    lines = table.update([(fd, FIRST) for fd in fds[:3]])
    assert [line.gsi for line in lines] == [4093, 4094, 4095]
    with pytest.raises(OSError, match="used up"):
        table.update([(fds[3], FIRST)])
    table.disconnect(lines)
    close(fds)


@pytest.mark.kvm
def test_the_table_of_a_pc_is_one_that_the_kernel_takes() -> None:
    from kvmbind.kvm.system import IRQ_ROUTING, System

    system = System()
    vm = Vm(system, irqchip="pc", pit=True)
    vm.create_irqchip()
    fds = eventfds(1)
    table = Routing(vm, system.capability(IRQ_ROUTING))
    table.disconnect(table.update([(fds[0], FIRST)]))
    vm.close()
    system.close()
    close(fds)
