"""A KeyboardInterrupt that comes behind any step of a call loses no fd.

Python looks for signals where a function begins and where one written in C returns, and a profiler is told of just
these: it raises there, at the first, then at the second, until a call has had no more.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import sys
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind.zx import ZX_RSRC_KIND_IRQ, ZX_USER_SIGNAL_0

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType


class Interrupter:
    """Raises KeyboardInterrupt at one of the places where a signal handler could."""

    def __init__(self, place: int) -> None:
        """Counts places from 0."""
        self._left = place
        self.raised = False
        self.where = ""

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """What sys.setprofile calls."""
        if event not in ("call", "c_return") or frame.f_code is _UNINTERRUPTED or self.raised:
            return
        self._left -= 1
        if self._left < 0:
            self.raised = True
            self.where = f"{event} {argument} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
            raise KeyboardInterrupt


def interrupt(call: Callable[[], object], place: int) -> str:
    """Makes a call and raises KeyboardInterrupt at a place; says which that is, "" if the call has none so late."""
    interrupter = Interrupter(place)
    with contextlib.suppress(KeyboardInterrupt):
        sys.setprofile(interrupter)
        try:
            call()
        finally:
            sys.setprofile(None)
    return interrupter.where


_UNINTERRUPTED: CodeType = interrupt.__code__


def open_fds() -> set[str]:
    gc.collect()
    kvmbind.Vmo.create(4096).close()  # an object that was collected open is closed by the next open
    return set(os.listdir("/proc/self/fd"))


def make_an_interrupt() -> None:
    with kvmbind.Interrupt.create(0x40):
        pass


def wait_for_an_interrupt() -> None:
    with kvmbind.Interrupt.create() as irq:
        irq.trigger()
        irq.wait()


def wait_for_a_signal() -> None:
    with kvmbind.Vmo.create(4096) as vmo, contextlib.suppress(kvmbind.TimedOutError):
        vmo.wait_one(ZX_USER_SIGNAL_0, timeout_s=0)


def cancel_a_wait() -> None:
    with kvmbind.Vmo.create(4096) as vmo, kvmbind.Port.create() as port:
        vmo.wait_async(port, 1, ZX_USER_SIGNAL_0)
        vmo.signal(set=ZX_USER_SIGNAL_0)
        port.cancel(vmo, 1)


def make_a_port() -> None:
    with kvmbind.Port.create(interrupts=True) as port:
        port.queue(kvmbind.PortPacket(key=1))
        port.wait()


def make_a_vmo() -> None:
    with kvmbind.Vmo.create(4096) as vmo:
        vmo.write(b"x", 0)


def make_a_resource() -> None:
    with (
        kvmbind.Resource.root() as root,
        kvmbind.Resource.create(root, ZX_RSRC_KIND_IRQ, 0x40, 1, exclusive=True),
    ):
        pass


def make_a_guest() -> None:
    with (
        kvmbind.Guest.create(memory=4096) as guest,
        kvmbind.Vcpu.create(guest) as vcpu,
        kvmbind.Interrupt.create(0x40) as irq,
    ):
        irq.bind_vcpu(vcpu)


def set_traps() -> None:
    with kvmbind.Guest.create(memory=4096) as guest, kvmbind.Port.create() as port:
        guest.set_trap_mem(0x10000, 4096, 0)
        guest.set_trap_bell(0x20000, 4096, port, 0)


def connect_a_bell() -> None:
    with kvmbind.Guest.create(memory=4096) as guest, kvmbind.Interrupt.create(0x40) as irq:
        guest.connect_bell(0x30000, irq)


@pytest.fixture
def _quick_collections() -> Iterator[None]:
    """What is there already need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_quick_collections")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one raised inside a finalizer
@pytest.mark.parametrize(
    "call",
    [
        make_an_interrupt,
        wait_for_an_interrupt,
        wait_for_a_signal,
        cancel_a_wait,
        make_a_port,
        make_a_vmo,
        pytest.param(make_a_resource, marks=pytest.mark.kvm),
        pytest.param(make_a_guest, marks=pytest.mark.kvm),
        pytest.param(set_traps, marks=pytest.mark.kvm),
        pytest.param(connect_a_bell, marks=pytest.mark.kvm),
    ],
)
def test_ctrl_c_behind_any_step_loses_no_fd(call: Callable[[], object]) -> None:
    call()
    before = open_fds()
    for place in itertools.count():
        where = interrupt(call, place)
        if not where:
            break
        assert open_fds() == before, where
    assert place > 10
