"""zx_object_wait_one: what wakes a thread that waits for signals, and what it has seen by then."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zircon import handles
from kvmbind.zx import (
    ZX_RIGHT_NONE,
    ZX_RIGHT_SAME_RIGHTS,
    ZX_RIGHT_WAIT,
    ZX_SIGNAL_HANDLE_CLOSED,
    ZX_TIME_INFINITE,
    ZX_TIME_INFINITE_PAST,
    ZX_USER_SIGNAL_0,
    ZX_USER_SIGNAL_1,
    ZX_USER_SIGNAL_2,
    ZX_VMO_ZERO_CHILDREN,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, TIMED_OUT, CANCELED = Status.OK, Status.TIMED_OUT, Status.CANCELED
ALWAYS = ZX_VMO_ZERO_CHILDREN  # no VMO has clones here


class Waiter:
    """A thread inside zx_object_wait_one."""

    def __init__(self, handle: int, signals: int, deadline: int = ZX_TIME_INFINITE) -> None:
        self._entry = handles.entry_of(handle)
        self._obj = handles.find_any(handle)
        self._result: tuple[Status, int] | None = None
        self._thread = threading.Thread(target=self._run, args=(handle, signals, deadline))
        self._thread.start()

    def _run(self, handle: int, signals: int, deadline: int) -> None:
        self._result = zx.zx_object_wait_one(handle, signals, deadline)

    def is_inside(self) -> bool:
        return any(observer.entry is self._entry for observer in self._obj.signals._observers)

    def ended(self) -> tuple[Status, int] | None:
        self._thread.join(60)
        return self._result


def waiting(make: Maker, handle: int, signals: int) -> Waiter:
    waiter = Waiter(handle, signals)
    make.until(waiter.is_inside)
    return waiter


def signal(handle: int, clear: int, set_: int) -> None:
    assert zx.zx_object_signal(handle, clear, set_) is OK


@pytest.mark.parametrize("deadline", [ZX_TIME_INFINITE_PAST, -1, 0, ZX_TIME_INFINITE])
def test_a_signal_that_is_there_is_enough_even_if_the_deadline_has_passed(make: Maker, deadline: int) -> None:
    vmo = make.vmo(4096)
    signal(vmo, 0, ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_1)
    seen = ALWAYS | ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_1
    assert zx.zx_object_wait_one(vmo, ZX_USER_SIGNAL_1 | ZX_USER_SIGNAL_2, deadline) == (OK, seen)


@pytest.mark.parametrize("deadline", [ZX_TIME_INFINITE_PAST, 0])
@pytest.mark.parametrize("signals", [ZX_USER_SIGNAL_1, 0])
def test_a_signal_that_is_not_there_times_out_with_what_is(make: Maker, signals: int, deadline: int) -> None:
    vmo = make.vmo(4096)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert zx.zx_object_wait_one(vmo, signals, deadline) == (TIMED_OUT, ALWAYS | ZX_USER_SIGNAL_0)


def test_a_wait_does_not_end_before_its_deadline(make: Maker) -> None:
    deadline = zx.zx_deadline_after(3_000_000)
    assert zx.zx_object_wait_one(make.vmo(4096), ZX_USER_SIGNAL_0, deadline) == (TIMED_OUT, ALWAYS)
    assert zx.zx_clock_get_monotonic() >= deadline


def test_a_sleeping_wait_is_woken_by_any_of_its_signals_and_has_seen_all_that_came_meanwhile(make: Maker) -> None:
    vmo = make.vmo(4096)
    waiter = waiting(make, vmo, ZX_USER_SIGNAL_1 | ZX_USER_SIGNAL_2)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    signal(vmo, ZX_USER_SIGNAL_0, 0)
    assert waiter.is_inside()
    signal(vmo, 0, ZX_USER_SIGNAL_2)
    assert waiter.ended() == (OK, ALWAYS | ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_2)


def test_a_signal_that_is_gone_again_before_the_thread_runs_has_woken_it(make: Maker) -> None:
    vmo = make.vmo(4096)
    waiter = waiting(make, vmo, ZX_USER_SIGNAL_0)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    signal(vmo, ZX_USER_SIGNAL_0, 0)
    assert waiter.ended() == (OK, ALWAYS | ZX_USER_SIGNAL_0)


def test_a_wait_that_times_out_has_seen_all_that_came_meanwhile(make: Maker) -> None:
    vmo = make.vmo(4096)
    waiter = Waiter(vmo, ZX_USER_SIGNAL_1, zx.zx_deadline_after(200_000_000))
    make.until(waiter.is_inside)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    signal(vmo, ZX_USER_SIGNAL_0, 0)
    assert waiter.ended() == (TIMED_OUT, ALWAYS | ZX_USER_SIGNAL_0)


def test_every_thread_that_waits_for_a_signal_is_woken_and_no_other(make: Maker) -> None:
    vmo = make.vmo(4096)
    first = [waiting(make, make.with_rights(vmo, ZX_RIGHT_WAIT), ZX_USER_SIGNAL_0) for _ in range(4)]
    others = [waiting(make, make.with_rights(vmo, ZX_RIGHT_WAIT), ZX_USER_SIGNAL_1) for _ in range(4)]
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert [waiter.ended() for waiter in first] == [(OK, ALWAYS | ZX_USER_SIGNAL_0)] * 4
    assert all(waiter.is_inside() for waiter in others)
    signal(vmo, 0, ZX_USER_SIGNAL_1)
    assert [waiter.ended() for waiter in others] == [(OK, ALWAYS | ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_1)] * 4


def test_closing_the_handle_that_is_watched_cancels_the_wait(make: Maker) -> None:
    vmo = make.vmo(4096)
    make.with_rights(vmo, ZX_RIGHT_NONE)  # keeps the object
    waiter = waiting(make, vmo, ZX_USER_SIGNAL_0)
    signal(vmo, 0, ZX_USER_SIGNAL_2)
    assert zx.zx_handle_close(vmo) is OK
    assert waiter.ended() == (CANCELED, ALWAYS | ZX_USER_SIGNAL_2 | ZX_SIGNAL_HANDLE_CLOSED)


def test_closing_the_last_handle_cancels_the_wait(make: Maker) -> None:
    interrupt = make.interrupt()
    waiter = waiting(make, interrupt, ZX_USER_SIGNAL_0)
    assert zx.zx_handle_close(interrupt) is OK
    status, observed = waiter.ended() or (OK, 0)
    assert (status, observed & ZX_SIGNAL_HANDLE_CLOSED) == (CANCELED, ZX_SIGNAL_HANDLE_CLOSED)


def test_closing_another_handle_of_the_object_does_not(make: Maker) -> None:
    vmo = make.vmo(4096)
    other = make.with_rights(vmo, ZX_RIGHT_SAME_RIGHTS)
    waiter = waiting(make, vmo, ZX_USER_SIGNAL_0)
    assert zx.zx_handle_close(other) is OK
    assert waiter.is_inside()
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert waiter.ended() == (OK, ALWAYS | ZX_USER_SIGNAL_0)


@pytest.mark.parametrize("rights", [ZX_RIGHT_SAME_RIGHTS, 1 << 20])
def test_replacing_the_handle_that_is_watched_closes_it(make: Maker, rights: int) -> None:
    vmo = make.vmo(4096)
    waiter = waiting(make, vmo, ZX_USER_SIGNAL_0)
    _, replacement = zx.zx_handle_replace(vmo, rights)
    assert waiter.ended() == (CANCELED, ALWAYS | ZX_SIGNAL_HANDLE_CLOSED)
    zx.zx_handle_close(replacement)


def test_a_signal_before_the_close_wins(make: Maker) -> None:
    vmo = make.vmo(4096)
    waiter = waiting(make, vmo, ZX_USER_SIGNAL_0)
    signal(vmo, 0, ZX_USER_SIGNAL_0)
    assert zx.zx_handle_close(vmo) is OK
    assert waiter.ended() == (OK, ALWAYS | ZX_USER_SIGNAL_0)


def test_waits_come_and_go_while_others_signal(make: Maker) -> None:
    vmo, results = make.vmo(4096), list[Status]()

    def wait_for(signals: int) -> None:
        for _ in range(200):
            results.append(zx.zx_object_wait_one(vmo, signals, ZX_TIME_INFINITE)[0])
            signal(vmo, signals, signals << 4)  # hands it on

    threads = [threading.Thread(target=partial(wait_for, ZX_USER_SIGNAL_0 << bit)) for bit in range(4)]
    for thread in threads:
        thread.start()
    for bit in range(4):
        for _ in range(200):
            signal(vmo, 0, ZX_USER_SIGNAL_0 << bit)
            handed_on = zx.zx_object_wait_one(vmo, ZX_USER_SIGNAL_0 << 4 + bit, ZX_TIME_INFINITE)
            assert handed_on[0] is OK
            signal(vmo, ZX_USER_SIGNAL_0 << 4 + bit, 0)
    for thread in threads:
        thread.join(60)
    assert results == [OK] * 800
    assert handles.find_any(vmo).signals._observers == []


@pytest.mark.kvm
def test_a_vcpu_has_no_signals_of_its_own_but_a_users(make: Maker) -> None:
    vcpu = make.vcpu(make.guest().guest)
    assert zx.zx_object_wait_one(vcpu, 0xFFFFFFFF, 0) == (TIMED_OUT, 0)
    signal(vcpu, 0, ZX_USER_SIGNAL_0)
    assert zx.zx_object_wait_one(vcpu, 0xFFFFFFFF, 0) == (OK, ZX_USER_SIGNAL_0)


@pytest.mark.kvm
def test_guests_vmars_ports_and_resources_cannot_be_waited_for(make: Maker) -> None:
    guest = make.guest()
    for handle in (guest.guest, guest.vmar, make.port(), make.resource()):
        assert zx.zx_object_wait_one(handle, ZX_USER_SIGNAL_0, 0) == (Status.ACCESS_DENIED, 0)
