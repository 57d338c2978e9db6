"""kvm.bell and the ioeventfds and ranges of kvm.vm: what the kernel counts, what is taken, and what may be where."""

from __future__ import annotations

import contextlib
import errno
import select
from typing import TYPE_CHECKING

import pytest

from kvmbind._shim import ffi
from kvmbind.abi.structs import PortPacket
from kvmbind.kvm.bell import Bell
from kvmbind.kvm.eventfd import EventFd
from kvmbind.kvm.port import PACKET, Port
from kvmbind.kvm.vm import SPACE_IO, SPACE_MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvmbind.kvm.vm import Vm

    Take = Callable[[], int | None]

pytestmark = pytest.mark.kvm

ADDR = 0xD0000
KEY = 7


@pytest.fixture
def bell(vm: Vm) -> Iterator[Bell]:
    """A bell at ADDR, not connected."""
    bell = Bell(vm, ADDR)
    yield bell
    bell.disconnect()
    bell.close()


def ring(bell: Bell, times: int = 1) -> None:
    """What the kernel does for stores to the bell's address."""
    with open(bell.fd, "wb", buffering=0, closefd=False) as eventfd:
        eventfd.write(times.to_bytes(8, "little"))


@pytest.fixture
def take(bell: Bell) -> Iterator[Take]:
    """Takes a ring of the bell by way of a port; returns its address, or None if there is none."""
    packet = PortPacket()

    def take() -> int | None:
        taken = port.wait(ffi.from_buffer("struct kb_packet *", packet), deadline_ns=0)
        assert taken in (PACKET, None)
        return packet.guest_bell.addr if taken == PACKET else None

    with contextlib.closing(Port(inner=False)) as port:
        port.add_bell(bell, KEY)
        yield take
        port.remove_bell(bell)


def is_readable(bell: Bell) -> bool:
    return bool(select.select([bell.fd], [], [], 0)[0])


def test_each_ring_is_taken_once_and_the_fd_is_readable_until_the_last_is(bell: Bell, take: Take) -> None:
    assert take() is None
    ring(bell, 3)
    for _ in range(3):
        assert is_readable(bell)
        assert take() == ADDR
    assert not is_readable(bell)
    assert take() is None


def test_rings_that_come_between_takes_are_not_lost(bell: Bell, take: Take) -> None:
    taken = 0
    for times in (2, 1, 5, 1):
        ring(bell, times)
        assert take() == ADDR
        taken += 1
    while take() is not None:
        taken += 1
    assert taken == 9


def test_a_silent_bell_has_dropped_its_rings(bell: Bell, take: Take) -> None:
    ring(bell, 3)
    assert take() == ADDR
    bell.silence()
    assert take() is None


def test_one_ioeventfd_is_at_an_address_and_taking_it_off_again_does_nothing(vm: Vm, bell: Bell) -> None:
    bell.connect()
    with contextlib.closing(EventFd.create()) as eventfd:
        with pytest.raises(FileExistsError):
            vm.assign_ioeventfd(eventfd.fd, ADDR)
        vm.assign_ioeventfd(eventfd.fd, ADDR + 1)
        vm.deassign_ioeventfd(eventfd.fd, ADDR)  # not its own: the bell's stays
        with pytest.raises(FileExistsError):
            vm.assign_ioeventfd(eventfd.fd, ADDR)
        bell.disconnect()
        bell.disconnect()
        vm.assign_ioeventfd(eventfd.fd, ADDR)


def test_ranges_of_memory_bells_and_reserved_addresses_do_not_overlap(vm: Vm, bell: Bell) -> None:
    vm.add_range(SPACE_MEMORY, 0x1000, 0x1000, 1)
    vm.add_bell_range(0x3000, 0x1000, bell.struct)
    vm.reserve(0x5008)
    for start, size in [(0x1FFF, 1), (0x0, 0x1001), (0x3000, 1), (0x2FFF, 2), (0x5000, 0x1000), (0x5008, 1)]:
        assert vm.has_range(SPACE_MEMORY, start, size)
        with pytest.raises(FileExistsError) as caught:
            vm.add_range(SPACE_MEMORY, start, size, 2)
        assert caught.value.errno == errno.EEXIST
    for start, size in [(0x0, 0x1000), (0x2000, 0x1000), (0x4000, 0x1008), (0x5009, 1)]:
        assert not vm.has_range(SPACE_MEMORY, start, size)
    assert not vm.has_range(SPACE_IO, 0x1000, 0x1000)


def test_a_range_that_is_removed_leaves_its_place_and_the_others(vm: Vm) -> None:
    for start in (0x1000, 0x2000, 0x3000):
        vm.add_range(SPACE_MEMORY, start, 0x1000, start)
    vm.remove_range(SPACE_MEMORY, 0x2000)
    vm.remove_range(SPACE_MEMORY, 0x2000)
    vm.remove_range(SPACE_MEMORY, 0x1800)  # inside one: that begins elsewhere
    assert [vm.has_range(SPACE_MEMORY, start, 1) for start in (0x1000, 0x2000, 0x3000)] == [True, False, True]
    vm.add_range(SPACE_MEMORY, 0x2000, 0x1000, 0)
