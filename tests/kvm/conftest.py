"""A device and VMs for the tests of the kvm layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.kvm.system import System
from kvmbind.kvm.vcpu import Vcpu
from kvmbind.kvm.vm import Vm

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def system() -> Iterator[System]:
    """An open /dev/kvm."""
    system = System()
    yield system
    system.close()


@pytest.fixture
def vm(system: System) -> Iterator[Vm]:
    """A VM with local APICs only."""
    vm = Vm(system, irqchip="split")
    yield vm
    vm.close()


@pytest.fixture
def vcpu(vm: Vm, system: System) -> Iterator[Vcpu]:
    """The VM's vCPU 0."""
    vcpu = Vcpu(vm, system, 0)
    yield vcpu
    vcpu.close()
