"""Every call on an fd that is no VM or vCPU any more raises an OSError that names the call."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from kvmbind._shim import ffi, lib
from kvmbind.kvm import msi
from kvmbind.kvm.calls import NEVER, check
from kvmbind.kvm.registers import DebugRegisters, MpState, Registers, SpecialRegisters, VcpuEvents

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.kvm.system import System
    from kvmbind.kvm.vcpu import Vcpu
    from kvmbind.kvm.vm import Vm

VM_CALLS: dict[str, Callable[[Vm], object]] = {
    "KVM_SET_USER_MEMORY_REGION": lambda vm: vm.set_memory(0, 0, 4096, ffi.NULL),
    "KVM_SET_GSI_ROUTING": lambda vm: vm.set_gsi_routing(ffi.from_buffer(bytearray(8))),
    "KVM_IRQFD": lambda vm: vm.assign_irqfd(0, 0),
    "KVM_IRQFD (de-assign)": lambda vm: vm.deassign_irqfd(0, 0),
    "KVM_SIGNAL_MSI": lambda vm: vm.signal_msi(msi.physical(0, 0x40)),
}
VCPU_CALLS: list[tuple[str, Callable[[Vcpu], object]]] = [
    ("KVM_SET_SREGS", lambda vcpu: vcpu.start_real(0)),
    ("KVM_SET_SREGS", lambda vcpu: vcpu.start_long(0)),
    ("KVM_GET_REGS", lambda vcpu: vcpu.read_registers()),
    ("KVM_GET_REGS", lambda vcpu: vcpu.code_position()),
    ("KVM_SET_REGS", lambda vcpu: vcpu.write_registers(Registers())),
    ("KVM_GET_SREGS", lambda vcpu: vcpu.read_special()),
    ("KVM_SET_SREGS", lambda vcpu: vcpu.write_special(SpecialRegisters.unpack(bytes(312)))),
    ("KVM_GET_MSRS", lambda vcpu: vcpu.read_msr(0x1B)),
    ("KVM_SET_MSRS", lambda vcpu: vcpu.write_msr(0x1B, 0)),
    ("KVM_GET_LAPIC", lambda vcpu: vcpu.read_lapic()),
    ("KVM_SET_LAPIC", lambda vcpu: vcpu.write_lapic(bytes(1024))),
    ("KVM_GET_MP_STATE", lambda vcpu: vcpu.read_mp_state()),
    ("KVM_SET_MP_STATE", lambda vcpu: vcpu.write_mp_state(MpState.RUNNABLE)),
    ("KVM_GET_VCPU_EVENTS", lambda vcpu: vcpu.read_events()),
    ("KVM_SET_VCPU_EVENTS", lambda vcpu: vcpu.write_events(VcpuEvents.unpack(bytes(64)))),
    ("KVM_GET_DEBUGREGS", lambda vcpu: vcpu.read_debug_registers()),
    ("KVM_SET_DEBUGREGS", lambda vcpu: vcpu.write_debug_registers(DebugRegisters())),
    ("KVM_SET_GUEST_DEBUG", lambda vcpu: vcpu.set_guest_debug()),
    ("KVM_SET_REGS", lambda vcpu: vcpu.answer(4, 0)),
]


def sentence(call: str) -> str:
    return f"[Errno {errno.EBADF}] {call}: Bad file descriptor"


def test_a_result_that_is_no_error_passes_through() -> None:
    assert [check(result, "KVM_ANYTHING") for result in (0, 1, 2**31 - 1)] == [0, 1, 2**31 - 1]


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOENT, errno.EBUSY, errno.EEXIST])
def test_a_negative_result_is_the_os_error_of_its_errno_and_names_the_call(error: int) -> None:
    with pytest.raises(OSError, match="KVM_ANYTHING: ") as caught:
        check(-error, "KVM_ANYTHING")
    assert caught.value.errno == error


@pytest.mark.kvm
@pytest.mark.parametrize("call", VM_CALLS)
def test_a_call_on_a_dead_vm_fd_raises_and_names_itself(vm: Vm, call: str) -> None:
    fd, vm.struct.fd = vm.struct.fd, -1
    try:
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            VM_CALLS[call](vm)
    finally:
        vm.struct.fd = fd
    assert str(caught.value) == sentence(call)


@pytest.mark.kvm
@pytest.mark.parametrize(("name", "call"), VCPU_CALLS)
def test_a_call_on_a_dead_vcpu_fd_raises_and_names_itself(
    vcpu: Vcpu, name: str, call: Callable[[Vcpu], object]
) -> None:
    fd, vcpu.struct.fd = vcpu.struct.fd, -1
    try:
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            call(vcpu)
    finally:
        vcpu.struct.fd = fd
    assert str(caught.value) == sentence(name)


@pytest.mark.kvm
def test_entering_a_dead_vcpu_fd_is_the_kernels_error(vcpu: Vcpu) -> None:
    fd, vcpu.struct.fd = vcpu.struct.fd, -1
    try:
        while (result := lib.kb_vcpu_enter(vcpu.struct, vcpu.exit, NEVER)) == -errno.EINTR:
            continue  # a signal from before
        assert result == -errno.EBADF
    finally:
        vcpu.struct.fd = fd


@pytest.mark.kvm
def test_making_a_vcpu_of_a_dead_vm_raises_and_names_the_call(vm: Vm, system: System) -> None:
    from kvmbind.kvm.vcpu import Vcpu

    fd, vm.struct.fd = vm.struct.fd, -1
    with pytest.raises(OSError, match=r"^\[Errno 9\] KVM_CREATE_VCPU: Bad file descriptor$"):
        Vcpu(vm, system, 0)
    vm.struct.fd = fd


@pytest.mark.kvm
def test_making_a_vm_of_a_dead_device_raises_and_names_the_call(system: System) -> None:
    from kvmbind.kvm.vm import Vm

    fd, system.fd = system.fd, -1
    with pytest.raises(OSError, match=r"^\[Errno 9\] KVM_CREATE_VM: Bad file descriptor$"):
        Vm(system, irqchip="split")
    system.fd = fd


@pytest.mark.kvm
def test_an_id_that_the_vm_has_had_cannot_be_made_again(vm: Vm, system: System) -> None:
    from kvmbind.kvm.vcpu import Vcpu

    Vcpu(vm, system, 7).close()
    with pytest.raises(FileExistsError, match="KVM_CREATE_VCPU: File exists"):
        Vcpu(vm, system, 7)


@pytest.mark.kvm
def test_ranges_of_one_space_may_not_overlap_and_those_of_two_may(vm: Vm) -> None:
    vm.add_range(0, 0x60, 4, 1)
    for start, size in [(0x60, 4), (0x5F, 2), (0x63, 1), (0x50, 0x40), (0x61, 1)]:
        with pytest.raises(FileExistsError, match="adding a range"):
            vm.add_range(0, start, size, 2)
    vm.add_range(0, 0x64, 1, 3)
    vm.add_range(0, 0x5F, 1, 4)
    vm.add_range(1, 0x60, 4, 5)
