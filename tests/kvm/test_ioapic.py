"""Ioapic: inputs as level-triggered interrupts; redirection entries; what failure leaves."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING

import pytest

from kvmbind.kvm.eventfd import EventFd
from kvmbind.kvm.ioapic import FIRST, LAST, Ioapic
from kvmbind.kvm.vm import Vm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmbind.kvm.system import System

pytestmark = pytest.mark.kvm

KVM_GET_IRQCHIP = 0xC208AE62
IOAPIC = 2
MASKED, LEVEL = 1 << 16, 1 << 15


@pytest.fixture
def vm(system: System) -> Iterator[Vm]:
    """A VM with an IOAPIC."""
    vm = Vm(system, irqchip="pc")
    vm.create_irqchip()
    yield vm
    vm.close()


@pytest.fixture
def fds() -> Iterator[tuple[int, int]]:
    """An eventfd to raise an input and one for its end."""
    source, end = EventFd.create(), EventFd.create()
    yield source.fd, end.fd
    source.close()
    end.close()


def entries(vm: Vm) -> list[int]:
    """The redirection entries as the kernel has them."""
    chip = bytearray(struct.pack("<II512x", IOAPIC, 0))
    fcntl.ioctl(vm.struct.fd, KVM_GET_IRQCHIP, chip)
    return list(struct.unpack_from("<24Q", chip, 32))


def test_an_entry_has_the_vector_the_level_and_the_apic_id_and_no_other_changes(vm: Vm, fds: tuple[int, int]) -> None:
    before = entries(vm)
    connected = Ioapic(vm).connect(*fds, 0x41, 7)
    after = entries(vm)
    assert (connected.gsi, after[FIRST]) == (FIRST, 0x41 | LEVEL | 7 << 56)
    before[FIRST] = after[FIRST]
    assert after == before


def test_an_input_that_is_freed_is_used_again(vm: Vm, fds: tuple[int, int]) -> None:
    chip = Ioapic(vm)
    for _ in range(2 * (LAST - FIRST + 1)):
        chip.disconnect(chip.connect(*fds, 0x41, 0))


def test_an_eventfd_that_has_an_irqfd_is_refused_and_its_input_stays_masked_and_free(
    vm: Vm, fds: tuple[int, int]
) -> None:
    chip, (source, end) = Ioapic(vm), fds
    first = chip.connect(source, end, 0x41, 0)
    with pytest.raises(OSError, match="KVM_IRQFD") as caught:
        chip.connect(source, end, 0x42, 0)
    assert caught.value.errno == errno.EBUSY
    assert entries(vm)[FIRST + 1] & MASKED
    chip.disconnect(first)
    others = [EventFd.create() for _ in range(LAST - FIRST + 1)]
    for other in others:
        chip.connect(other.fd, end, 0x41, 0)
    with pytest.raises(OSError, match="inputs 16 to 23 are in use"):
        chip.connect(source, end, 0x41, 0)
    for other in others:
        other.close()


def test_on_what_is_no_vm_the_error_names_the_call(vm: Vm, fds: tuple[int, int]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    fd, vm.struct.fd = vm.struct.fd, null
    try:
        with pytest.raises(OSError, match=r"^\[Errno 25\] KVM_GET_IRQCHIP: "):
            Ioapic(vm).connect(*fds, 0x41, 0)
    finally:
        vm.struct.fd = fd
        os.close(null)
