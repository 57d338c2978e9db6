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
    from collections.abc import Callable
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
    gc.disable()  # a collection runs callbacks of others, and what is raised in there is not for the call
    with contextlib.suppress(KeyboardInterrupt):
        sys.setprofile(interrupter)
        try:
            call()
        finally:
            sys.setprofile(None)
            gc.enable()
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


PAGE = 4096
PLACE = 0x80000
#: mov ax, 8000h; mov ds, ax; again: for each of four pages: mov al, [page]; out 80h, al; and then: jmp again
READ_FOUR = bytes.fromhex("b80080 8ed8" + "".join(f"a000{page:x}0 e680" for page in range(4)) + "ebea")
FOUND = [0x10, 0x11, 0x12, 0x13]


class Memory:
    """A guest that reads four pages, and what may be mapped there."""

    def __init__(self, opened: contextlib.ExitStack) -> None:
        self.guest = opened.enter_context(kvmbind.Guest.create(memory=PLACE))
        self.vmo = opened.enter_context(kvmbind.Vmo.create(4 * PAGE, resizable=True))
        self.other = opened.enter_context(kvmbind.Vmo.create(PAGE))
        for page, byte in enumerate(FOUND):
            self.vmo.write(bytes([byte]), page * PAGE)
        self.other.write(b"\x77", 0)
        self.guest.write(READ_FOUR, 0x1000)
        self.guest.set_trap_io(0x80, 1, key=0)
        self.guest.vmar.map(self.vmo, PLACE)
        self.guest.vmar.track_dirty(PLACE, PAGE)
        self.vcpu = opened.enter_context(kvmbind.Vcpu.create(self.guest, 0x1000))

    def found(self) -> list[int]:
        """What the guest finds in a round: all ones where nothing is."""
        found: list[int] = []
        while len(found) < 4:
            with contextlib.suppress(kvmbind.NotFoundError):
                found.append(self.vcpu.enter(timeout_s=60).guest_io.u8)
        return found


CHANGES: list[tuple[str, Callable[[Memory], object], list[int]]] = [
    ("unmap", lambda memory: memory.guest.vmar.unmap(PLACE + PAGE, 2 * PAGE), [0x10, 0xFF, 0xFF, 0x13]),
    ("protect", lambda memory: memory.guest.vmar.protect(PLACE + PAGE, PAGE, read=False, write=False, execute=False),
     [0x10, 0xFF, 0x12, 0x13]),
    ("overwrite", lambda memory: memory.guest.vmar.map(memory.other, PLACE + PAGE, overwrite=True),
     [0x10, 0x77, 0x12, 0x13]),
    ("shrink", lambda memory: memory.vmo.resize(2 * PAGE), [0x10, 0x11, 0xFF, 0xFF]),
    ("track", lambda memory: memory.guest.vmar.track_dirty(PLACE + PAGE, PAGE), FOUND),
    ("ask", lambda memory: memory.guest.vmar.dirty_pages(PLACE, PAGE), FOUND),
]  # fmt: skip


@pytest.mark.kvm
@pytest.mark.parametrize(("change", "after"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_ctrl_c_behind_any_step_leaves_memory_as_it_was_or_as_it_was_to_be(
    change: Callable[[Memory], object], after: list[int]
) -> None:
    before = open_fds()
    seen = []
    for place in itertools.count():
        with contextlib.ExitStack() as opened:
            memory = Memory(opened)
            where = interrupt(lambda: change(memory), place)  # noqa: B023  # called at once
            seen.append(memory.found())
            assert seen[-1] in (FOUND, after), where
            change(memory)
            assert memory.found() == after, where
            memory.guest.vmar.unmap(PLACE, 4 * PAGE)
            memory.guest.vmar.map(memory.vmo, PLACE)
        if not where:
            break
    assert open_fds() == before
    assert place > 10
    assert seen[0] == FOUND
    assert after in seen[:-1]  # an interrupted one was done
