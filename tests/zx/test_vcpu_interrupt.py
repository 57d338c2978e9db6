"""zx_vcpu_interrupt and zx_vcpu_kick: what comes to a VCPU from any thread."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.guests import COUNTER, NMI, PORT_LOOP, VECTORS
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    PortPacket,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zx.conftest import GuestHandles, Maker

pytestmark = pytest.mark.kvm

READY, COUNT = 0x7000, 0x8000


def dword(guest: GuestHandles, addr: int) -> int:
    status, data = zx.zx_vmo_read(guest.memory, addr, 4)
    assert status is Status.OK
    return int.from_bytes(data, "little")


def dword_is(guest: GuestHandles, addr: int, value: int) -> bool:
    return dword(guest, addr) == value


def wait_ready(make: Maker, guest: GuestHandles, vcpus: int = 1) -> None:
    make.until(lambda: zx.zx_vmo_read(guest.memory, READY, vcpus)[1] == b"\1" * vcpus)


def test_every_vector_from_16_on_and_2_is_taken(make: Maker) -> None:
    vcpu = make.vcpu(make.guest().guest)
    assert {zx.zx_vcpu_interrupt(vcpu, vector) for vector in (2, *range(16, 256))} == {Status.OK}


def test_each_vector_reaches_the_guest_as_itself(make: Maker) -> None:
    guest = make.guest(VECTORS)
    running = make.running(guest.guest)
    wait_ready(make, guest)
    for vector in (*range(0x20, 0x100), 0x20, 0xFF):
        before = dword(guest, COUNT + 4 * vector)
        assert zx.zx_vcpu_interrupt(running.vcpu, vector) is Status.OK
        make.until(partial(dword_is, guest, COUNT + 4 * vector, before + 1))
    counts = [dword(guest, COUNT + 4 * vector) for vector in range(0x20, 0x100)]
    assert counts == [2, *[1] * 222, 2]


def test_vector_2_is_a_non_maskable_interrupt(make: Maker) -> None:
    guest = make.guest(NMI)
    running = make.running(guest.guest)
    wait_ready(make, guest)
    for count in range(1, 20):
        assert zx.zx_vcpu_interrupt(running.vcpu, 2) is Status.OK
        make.until(partial(dword_is, guest, COUNT, count))


def test_only_the_vcpu_that_is_named_is_interrupted(make: Maker) -> None:
    guest = make.guest(COUNTER)
    vcpus = [make.running(guest.guest).vcpu for _ in range(3)]
    wait_ready(make, guest, 3)
    for count in range(1, 10):
        assert zx.zx_vcpu_interrupt(vcpus[1], 0x40) is Status.OK
        make.until(partial(dword_is, guest, COUNT + 4, count))
    assert [dword(guest, COUNT), dword(guest, COUNT + 8)] == [0, 0]


def test_an_interrupt_before_the_first_enter_waits_for_it(make: Maker) -> None:
    guest = make.guest(COUNTER)
    vcpu = make.vcpu(guest.guest)
    assert make.elsewhere(lambda: zx.zx_vcpu_interrupt(vcpu, 0x40)) is Status.OK
    kick_when(make, vcpu, lambda: dword(guest, COUNT) == 1)
    assert zx.zx_vcpu_enter(vcpu)[0] is Status.CANCELED
    assert dword(guest, COUNT) == 1


def test_a_vcpu_whose_thread_has_ended_can_still_be_interrupted_and_kicked(make: Maker) -> None:
    guest = make.guest()
    vcpu = make.elsewhere(lambda: make.vcpu(guest.guest))
    assert zx.zx_vcpu_interrupt(vcpu, 0x40) is Status.OK
    assert zx.zx_vcpu_kick(vcpu) is Status.OK


def kick_when(make: Maker, vcpu: int, condition: Callable[[], bool]) -> None:
    """Lets another thread kick the VCPU once a condition is true."""
    import threading

    def run() -> None:
        make.until(condition)
        zx.zx_vcpu_kick(vcpu)

    threading.Thread(target=run).start()


def test_a_kick_cancels_the_enter_that_runs(make: Maker) -> None:
    guest = make.guest(COUNTER)
    running = make.running(guest.guest)
    wait_ready(make, guest)
    assert zx.zx_vcpu_kick(running.vcpu) is Status.OK
    running.join()
    assert running.statuses == [Status.CANCELED]


def test_a_kick_before_an_enter_cancels_it_once_before_any_guest_code(make: Maker) -> None:
    guest = make.guest(PORT_LOOP)
    zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0)
    vcpu = make.vcpu(guest.guest)
    for _ in range(5):  # they coalesce
        assert make.elsewhere(lambda: zx.zx_vcpu_kick(vcpu)) is Status.OK
    assert zx.zx_vcpu_enter(vcpu) == (Status.CANCELED, PortPacket())
    status, packet = zx.zx_vcpu_enter(vcpu)
    assert (status, packet.guest_io.u8) == (Status.OK, 0)


def test_closing_the_last_handle_cancels_the_enter_that_runs(make: Maker) -> None:
    guest = make.guest(COUNTER)
    running = make.running(guest.guest)
    wait_ready(make, guest)
    assert zx.zx_handle_close(running.vcpu) is Status.OK
    running.join()
    assert running.statuses == [Status.CANCELED]


def test_closing_one_of_two_handles_cancels_nothing(make: Maker) -> None:
    guest = make.guest(COUNTER)
    running = make.running(guest.guest)
    wait_ready(make, guest)
    zx.zx_handle_close(make.with_rights(running.vcpu, 0))
    zx.zx_vcpu_interrupt(running.vcpu, 0x40)
    make.until(lambda: dword(guest, COUNT) == 1)
    assert running.statuses == []
