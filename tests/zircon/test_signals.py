"""What the layers above cannot show of signals: refusals that no handle's rights reach, and races with closing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kvmbind
from kvmbind.zircon import handles, waits
from kvmbind.zircon.port import PortDispatcher
from kvmbind.zircon.vmo import VmoDispatcher
from kvmbind.zx import ZX_USER_SIGNAL_0, ZX_VMO_ZERO_CHILDREN


def opened(obj: PortDispatcher | VmoDispatcher) -> handles.Entry:
    return handles.entry_of(handles.add(obj, obj.DEFAULT_RIGHTS))


def test_an_object_that_is_of_no_waitable_type_has_no_signals_whatever_the_rights() -> None:
    port = PortDispatcher(interrupts=False)
    entry = opened(port)
    calls: list[Callable[[], object]] = [
        lambda: waits.wait_one(port, entry, 1, 0),
        lambda: waits.wait_async(port, port, entry, 1, 1, 0),
        lambda: waits.cancel(port, port, entry, 1),
        lambda: port.waitable_signals("zx_object_signal"),
    ]
    for call in calls:
        with pytest.raises(kvmbind.NotSupportedError):
            call()
    handles.close(entry.value)


def test_a_strobed_signal_is_seen_by_who_watches_and_not_by_who_looks_later() -> None:
    vmo, port = VmoDispatcher(0, resizable=False), PortDispatcher(interrupts=False)
    entry, queue = opened(vmo), opened(port)
    for options in range(4):
        waits.wait_async(port, vmo, entry, options, ZX_USER_SIGNAL_0, options)
    vmo.signals.strobe(ZX_USER_SIGNAL_0)
    for options in range(4):
        packet = port.wait(0)
        assert (packet.key, packet.signal.observed) == (options, ZX_USER_SIGNAL_0 | ZX_VMO_ZERO_CHILDREN)
    assert vmo.signals.value == ZX_VMO_ZERO_CHILDREN
    handles.close(entry.value)
    handles.close(queue.value)


def test_a_handle_that_closes_on_the_way_into_a_wait_is_a_bad_one() -> None:
    vmo, port = VmoDispatcher(0, resizable=False), PortDispatcher(interrupts=False)
    entry, other, queue = opened(vmo), opened(vmo), opened(port)
    handles.close(entry.value)
    with pytest.raises(kvmbind.BadHandleError):
        waits.wait_one(vmo, entry, ZX_USER_SIGNAL_0)
    with pytest.raises(kvmbind.BadHandleError):
        waits.wait_async(port, vmo, entry, 1, ZX_USER_SIGNAL_0, 0)
    assert vmo.signals._observers == []
    assert not port.packets._promised
    handles.close(other.value)
    handles.close(queue.value)


def test_a_port_that_closes_on_the_way_into_a_wait_is_a_bad_one() -> None:
    vmo, port = VmoDispatcher(0, resizable=False), PortDispatcher(interrupts=False)
    entry, queue = opened(vmo), opened(port)
    with port:
        handles.close(queue.value)
        with pytest.raises(kvmbind.BadHandleError):
            waits.wait_async(port, vmo, entry, 1, ZX_USER_SIGNAL_0, 0)
    assert vmo.signals._observers == []
    handles.close(entry.value)


def test_the_eventfds_of_waits_are_used_again_and_go_with_the_object(count_fds: Callable[[], int]) -> None:
    before = count_fds()
    vmo = VmoDispatcher(0, resizable=False)
    entry = opened(vmo)
    made = count_fds()
    for _ in range(10):
        with pytest.raises(kvmbind.TimedOutError):
            waits.wait_one(vmo, entry, ZX_USER_SIGNAL_0, 0)
        assert count_fds() == made + 1
    handles.close(entry.value)
    assert count_fds() == before


def test_a_wait_without_an_fd_says_so_and_the_next_one_works(fd_limit: Callable[[int], None]) -> None:
    vmo = VmoDispatcher(0, resizable=False)
    entry = opened(vmo)
    fd_limit(0)
    with pytest.raises(kvmbind.NoResourcesError, match=r"^zx_object_wait_one: "):
        waits.wait_one(vmo, entry, ZX_USER_SIGNAL_0, 0)
    fd_limit(-1)
    with pytest.raises(kvmbind.TimedOutError):
        waits.wait_one(vmo, entry, ZX_USER_SIGNAL_0, 0)
    handles.close(entry.value)
