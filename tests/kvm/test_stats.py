"""The kernel's statistics of a vCPU are read by name, at any time."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from kvmbind._shim import lib
from kvmbind.guests import PORT_LOOP
from kvmbind.kvm.calls import NEVER
from kvmbind.kvm.memory import Memory
from kvmbind.kvm.stats import VcpuStats, offset_of, read

if TYPE_CHECKING:
    from kvmbind.kvm.vcpu import Vcpu
    from kvmbind.kvm.vm import Vm

pytestmark = pytest.mark.kvm


def test_a_new_vcpu_has_counted_nothing(vcpu: Vcpu) -> None:
    assert vcpu.read_stats() == VcpuStats(*[0] * len(VcpuStats._fields))


def test_every_field_is_a_statistic_that_some_kernel_has(vcpu: Vcpu) -> None:
    header = os.pread(vcpu.struct.stats_fd, 1 << 16, 0)
    known = [name for name in VcpuStats._fields if name.encode() + b"\0" in header]
    assert {"exits", "io_exits", "irq_injections", "halt_wakeup", "blocking"} <= set(known)


def test_returns_count_what_kvm_run_came_back_with_and_stats_are_the_kernels_own(vm: Vm, vcpu: Vcpu) -> None:
    memory = Memory(1 << 16)
    memory.write(PORT_LOOP, 0x1000)
    mapping = memory.map(0, 1 << 16)
    vm.set_memory(0, 0, 1 << 16, mapping.at(0))
    vcpu.start_real(0x1000)
    for _ in range(10):
        while lib.kb_vcpu_enter(vcpu.struct, vcpu.exit, NEVER) == -errno.EINTR:
            continue  # a signal from before
    assert (vcpu.returns, vcpu.interrupted) == (10, 0)
    assert vcpu.exit.addr == 0x80
    assert read(vcpu.struct.stats_fd).exits >= 10
    memory.close()
    vm.set_memory(0, 0, 0, mapping.at(0))


def test_without_a_stats_fd_it_says_so(vcpu: Vcpu) -> None:
    fd, vcpu.struct.stats_fd = vcpu.struct.stats_fd, -1
    with pytest.raises(OSError, match="KVM_GET_STATS_FD") as caught:
        vcpu.read_stats()
    vcpu.struct.stats_fd = fd
    assert caught.value.errno == errno.EOPNOTSUPP


def test_the_place_of_a_statistic_is_where_its_value_is_read(vcpu: Vcpu) -> None:
    place = offset_of(vcpu.struct.stats_fd, "exits")
    assert place is not None
    assert int.from_bytes(os.pread(vcpu.struct.stats_fd, 8, place), "little") == vcpu.read_stats().exits
    assert offset_of(vcpu.struct.stats_fd, "pigeons") is None
