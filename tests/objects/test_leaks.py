"""Nothing is left behind: no fd, no thread, no mapping, whether things end well or half-way."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import guests
from kvmbind.kvm import epoll, eventfd, memory, slots, vcpu, vm

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Literal

    from tests.objects.conftest import Count

pytestmark = pytest.mark.kvm

ENTRY = 0x1000


def use_a_guest(irqchip: Literal["split", "pc"] = "split") -> None:
    """Makes a guest with all that belongs to it, delivers an interrupt, and closes everything."""
    with (
        kvmbind.Guest.create(memory=1 << 20, irqchip=irqchip) as guest,
        kvmbind.Interrupt.create(0x40) as irq,
        kvmbind.Interrupt.create() as other,
        kvmbind.Port.create(interrupts=True) as port,
    ):
        guest.write(guests.COUNTER, ENTRY)
        other.bind(port, key=1)
        with guest.start_vcpu(ENTRY) as running:
            irq.bind_vcpu(running)
            irq.trigger()
            guest.wait_u32(0x8000, 1, timeout_s=60)


@pytest.mark.parametrize(("irqchip", "times"), [("split", 1000), ("pc", 50)])
def test_guests_that_come_and_go_leave_fds_threads_and_mappings_as_they_were(
    held: Count, irqchip: Literal["split", "pc"], times: int
) -> None:
    use_a_guest(irqchip)
    before = held()
    for _ in range(times):
        use_a_guest(irqchip)
    assert held(before) == before


STEPS: list[tuple[type | ModuleType, str]] = [
    (vm.Vm, "__init__"),
    (memory.Memory, "__init__"),
    (memory.Mapping, "__init__"),
    (slots, "exchange"),
    (vcpu.Vcpu, "__init__"),
    (vcpu.Vcpu, "start_real"),
    (eventfd.EventFd, "create"),
    (vm.Vm, "set_gsi_routing"),
    (vm.Vm, "assign_irqfd"),
    (epoll.Epoll, "__init__"),
    (epoll.Epoll, "watch"),
    (epoll.Epoll, "watch_once"),
]


@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[f"{owner.__name__}.{step}" for owner, step in STEPS])
def test_a_step_that_fails_leaks_nothing_and_the_next_try_works(
    held: Count, owner: type | ModuleType, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_a_guest()
    before = held()

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        with pytest.raises(kvmbind.NoResourcesError):
            use_a_guest()
    assert held(before) == before
    use_a_guest()
    assert held(before) == before


def test_a_vmo_whose_mapping_is_refused_goes_with_its_last_handle(held: Count, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(exchanges: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with kvmbind.Guest.create(memory=1 << 20) as guest:
        before = held()
        for place, overwrite in [(1 << 20, False), (0, True)]:
            with kvmbind.Vmo.create(4096) as vmo, monkeypatch.context() as patch:
                patch.setattr(slots, "exchange", refuse)
                with pytest.raises(kvmbind.NoMemoryError):
                    guest.vmar.map(vmo, place, overwrite=overwrite)
            assert held(before) == before


def test_memory_that_changes_and_changes_back_leaves_fds_and_mappings_as_they_were(held: Count) -> None:
    with kvmbind.Guest.create(memory=1 << 20) as guest, kvmbind.Vmo.create(8 * 4096, resizable=True) as vmo:
        guest.vmar.map(vmo, 1 << 20)
        before = held()
        for _ in range(100):
            with kvmbind.Vmo.create(2 * 4096) as other:
                guest.vmar.map(other, (1 << 20) + 4096, overwrite=True)
            guest.vmar.protect(1 << 20, 4096, read=False, write=False, execute=False)
            vmo.resize(0)
            vmo.resize(9 * 4096)
            guest.vmar.track_dirty(0, 2 << 20)
            guest.vmar.map(vmo, 1 << 20, length=8 * 4096, overwrite=True)
        assert held(before) == before


@pytest.mark.parametrize("nth", [1, 2])
def test_a_second_eventfd_or_epoll_that_cannot_be_had_leaks_nothing(
    held: Count, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held()
    made = 0
    original = epoll.Epoll.__init__

    def sometimes(self: epoll.Epoll) -> None:
        nonlocal made
        made += 1
        if made == nth:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        original(self)

    monkeypatch.setattr(epoll.Epoll, "__init__", sometimes)
    with pytest.raises(kvmbind.NoResourcesError, match="file-max"):
        kvmbind.Port.create(interrupts=True)
    assert held(before) == before


def test_an_object_that_is_collected_open_warns_and_the_next_open_or_close_ends_it(held: Count) -> None:
    before = held()
    made = kvmbind.Vmo.create(4096)
    with pytest.warns(ResourceWarning, match="unclosed <kvmbind.Vmo"):
        del made
    with kvmbind.Vmo.create(4096):
        pass
    assert held(before) == before
