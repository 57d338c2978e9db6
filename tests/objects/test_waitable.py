"""Signals of interrupts, VCPUs and VMOs: set, waited for, sent to a port, canceled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Interrupt, Port, Vmo
from kvmbind.zircon.signals import Observer
from kvmbind.zx import (
    ZX_PKT_TYPE_SIGNAL_ONE,
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WAIT,
    ZX_RIGHT_WRITE,
    ZX_SIGNAL_HANDLE_CLOSED,
    ZX_USER_SIGNAL_0,
    ZX_USER_SIGNAL_1,
    ZX_VMO_ZERO_CHILDREN,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import WaitUntil

ALWAYS = ZX_VMO_ZERO_CHILDREN


@pytest.fixture
def vmo() -> Iterator[Vmo]:
    with Vmo.create(4096) as vmo:
        yield vmo


@pytest.fixture
def port() -> Iterator[Port]:
    with Port.create() as port:
        yield port


def observers(vmo: Vmo) -> list[Observer]:
    return vmo._object("").signals._observers


def test_a_signal_that_is_set_is_seen_until_it_is_cleared(vmo: Vmo) -> None:
    vmo.signal(set=ZX_USER_SIGNAL_0)
    assert vmo.wait_one(ZX_USER_SIGNAL_0) == ALWAYS | ZX_USER_SIGNAL_0
    vmo.signal(clear=ZX_USER_SIGNAL_0, set=ZX_USER_SIGNAL_1)
    assert vmo.wait_one(ZX_USER_SIGNAL_1, 0) == ALWAYS | ZX_USER_SIGNAL_1
    with pytest.raises(TimeoutError, match=r"^zx_object_wait_one: TIMED_OUT") as caught:
        vmo.wait_one(ZX_USER_SIGNAL_0, 0)
    assert isinstance(caught.value, kvmbind.TimedOutError)
    assert caught.value.observed == ALWAYS | ZX_USER_SIGNAL_1


def test_closing_the_object_cancels_who_waits_with_it_and_not_who_waits_with_another(
    vmo: Vmo, wait_until: WaitUntil
) -> None:
    seen = dict[str, object]()

    def wait(name: str, waited: Vmo) -> None:
        try:
            seen[name] = waited.wait_one(ZX_USER_SIGNAL_0, 60)
        except kvmbind.CanceledError as error:
            seen[name] = error.observed

    with vmo.duplicate() as other:
        threads = [threading.Thread(target=wait, args=pair) for pair in (("closed", vmo), ("open", other))]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(observers(other)) == 2)
        vmo.close()
        threads[0].join(60)
        assert seen == {"closed": ALWAYS | ZX_SIGNAL_HANDLE_CLOSED}
        other.signal(set=ZX_USER_SIGNAL_0)
        threads[1].join(60)
    assert seen["open"] == ALWAYS | ZX_USER_SIGNAL_0


@pytest.mark.kvm
def test_a_vcpu_and_an_interrupt_have_signals_too(kvm_guest: kvmbind.Guest) -> None:
    with kvmbind.Vcpu.create(kvm_guest) as vcpu, Interrupt.create() as irq:
        for waitable in (vcpu, irq):
            waitable.signal(set=ZX_USER_SIGNAL_1)
            assert waitable.wait_one(ZX_USER_SIGNAL_1, 0) & ZX_USER_SIGNAL_1


def test_a_wait_to_a_port_sends_one_packet(vmo: Vmo, port: Port) -> None:
    vmo.wait_async(port, 7, ZX_USER_SIGNAL_0)
    vmo.signal(set=ZX_USER_SIGNAL_0)
    packet = port.wait(0)
    assert (packet.key, packet.type, packet.signal.trigger) == (7, ZX_PKT_TYPE_SIGNAL_ONE, ZX_USER_SIGNAL_0)
    assert (packet.signal.observed, packet.signal.count) == (ALWAYS | ZX_USER_SIGNAL_0, 1)
    with pytest.raises(kvmbind.TimedOutError):
        port.wait(0)


def test_by_edge_and_with_a_timestamp(vmo: Vmo, port: Port) -> None:
    vmo.signal(set=ZX_USER_SIGNAL_0)
    vmo.wait_async(port, 1, ZX_USER_SIGNAL_0, timestamp=True)
    vmo.wait_async(port, 2, ZX_USER_SIGNAL_0, edge=True)
    vmo.signal(clear=ZX_USER_SIGNAL_0)
    first = port.wait(0)
    assert (first.key, first.signal.timestamp > 0) == (1, True)
    vmo.signal(set=ZX_USER_SIGNAL_0)
    second = port.wait(0)
    assert (second.key, second.signal.timestamp) == (2, 0)


def test_cancel_takes_back_what_this_very_object_has_begun(vmo: Vmo, port: Port) -> None:
    with vmo.duplicate() as other:
        vmo.wait_async(port, 1, ZX_USER_SIGNAL_0)
        other.wait_async(port, 1, ZX_USER_SIGNAL_0)
        vmo.signal(set=ZX_USER_SIGNAL_0)
        port.cancel(vmo, 1)
        with pytest.raises(kvmbind.NotFoundError, match=r"^zx_port_cancel: .* has key 0x1$"):
            port.cancel(vmo, 1)
        assert port.wait(0).key == 1
        with pytest.raises(kvmbind.NotFoundError):
            port.cancel(other, 1)


USES: list[tuple[str, int, Callable[[Vmo, Port], object]]] = [
    ("zx_object_signal", ZX_RIGHT_SIGNAL, lambda vmo, port: vmo.signal(set=ZX_USER_SIGNAL_0)),
    ("zx_object_wait_one", ZX_RIGHT_WAIT, lambda vmo, port: vmo.wait_one(ALWAYS)),
    ("zx_object_wait_async", ZX_RIGHT_WAIT, lambda vmo, port: vmo.wait_async(port, 1, ALWAYS)),
    ("zx_port_cancel", ZX_RIGHT_WAIT, lambda vmo, port: port.cancel(vmo, 1)),
]


@pytest.mark.parametrize(("call", "right", "use"), USES)
def test_a_use_needs_its_right_and_an_open_object(
    vmo: Vmo, port: Port, call: str, right: int, use: Callable[[Vmo, Port], object]
) -> None:
    with vmo.duplicate(vmo.rights & ~right) as less, pytest.raises(kvmbind.AccessDeniedError, match=f"^{call}: "):
        use(less, port)
    vmo.close()
    with pytest.raises(kvmbind.BadHandleError, match=f"^{call}: .*the Vmo is closed"):
        use(vmo, port)


def test_a_port_needs_the_right_to_write(vmo: Vmo, port: Port) -> None:
    with port.duplicate(port.rights & ~ZX_RIGHT_WRITE) as less:
        with pytest.raises(kvmbind.AccessDeniedError):
            vmo.wait_async(less, 1, ALWAYS)
        with pytest.raises(kvmbind.AccessDeniedError):
            less.cancel(vmo, 1)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_what_does_not_fit_is_refused_at_once(vmo: Vmo, port: Port, value: int) -> None:
    for use in (
        lambda: vmo.signal(set=value),
        lambda: vmo.wait_one(value, 0),
        lambda: vmo.wait_async(port, 1, value),
        lambda: vmo.wait_async(port, value, ALWAYS),
        lambda: port.cancel(vmo, value),
    ):
        with pytest.raises(kvmbind.InvalidArgsError):
            use()
