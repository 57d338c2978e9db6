"""zx_vcpu_create: where a VCPU starts, which id it has, and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.zircon import handles
from kvmbind.zircon.guest import GuestDispatcher
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    ZX_VCPU_STATE,
    Status,
    VcpuState,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

pytestmark = pytest.mark.kvm

# call next; next: pop bx; mov ax, cs; out 80h, ax; mov ax, bx; out 80h, ax
WHERE = bytes.fromhex("e80000 5b 8cc8 e780 89d8 e780")
# mov ax, ds; out; mov ax, es; out; mov ax, ss; out; mov ax, fs; out; mov ax, gs; out; mov ax, sp; out; (all to 80h)
SEGMENTS = bytes.fromhex("8cd8 e780 8cc0 e780 8cd0 e780 8ce0 e780 8ce8 e780 89e0 e780")


def apic_id(vcpu: int) -> int:
    return kvmbind.Vcpu.borrow(vcpu).apic_id


def value_out(vcpu: int) -> int:
    status, packet = zx.zx_vcpu_enter(vcpu)
    assert status is Status.OK
    return packet.guest_io.u16


@pytest.mark.parametrize("entry", [0, 0x1000, 0x1237, 0xFFF0, 0x10000, 0xF0008])
def test_it_starts_in_real_mode_with_cs_and_ip_that_make_its_entry(make: Maker, entry: int) -> None:
    guest = make.guest()
    assert zx.zx_vmo_write(guest.memory, WHERE, entry) is Status.OK
    zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 2, 0, 0)
    vcpu = make.vcpu(guest.guest, entry)
    assert [value_out(vcpu), value_out(vcpu)] == [entry >> 4, (entry & 15) + 3]


def test_every_register_and_segment_is_zero_at_first(make: Maker) -> None:
    guest = make.guest(SEGMENTS)
    zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 2, 0, 0)
    vcpu = make.vcpu(guest.guest)
    assert zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE) == (Status.OK, VcpuState())
    assert [value_out(vcpu) for _ in range(6)] == [0] * 6


def test_apic_ids_count_up_from_zero_and_none_comes_again(make: Maker) -> None:
    guest = make.guest().guest
    first, second = make.vcpu(guest), make.vcpu(guest)
    assert zx.zx_handle_close_many([first, second]) is Status.OK
    assert [apic_id(make.vcpu(guest)) for _ in range(3)] == [2, 3, 4]
    assert apic_id(make.vcpu(make.guest().guest)) == 0


def test_a_thread_may_own_several_and_runs_each(make: Maker) -> None:
    guest = make.guest(WHERE)
    zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 2, 0, 0)
    vcpus = [make.vcpu(guest.guest), make.vcpu(guest.guest)]
    assert [value_out(vcpu) for vcpu in vcpus] == [0x100, 0x100]


def test_no_memory_need_be_mapped(make: Maker) -> None:
    status, guest, vmar = zx.zx_guest_create(make.resource(), 0)
    make.keep((status, guest))
    make.keep((status, vmar))
    make.vcpu(guest)


def test_a_vcpu_keeps_its_guest(make: Maker) -> None:
    guest = make.guest(WHERE)
    zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 2, 0, 0)
    vcpu = make.vcpu(guest.guest)
    assert zx.zx_handle_close_many(guest) is Status.OK
    assert value_out(vcpu) == 0x100


def test_a_refused_create_uses_no_id_up(make: Maker) -> None:
    guest = make.guest().guest
    for options, entry in [(1, 0), (0, 1 << 20)]:
        assert zx.zx_vcpu_create(guest, options, entry) == (Status.INVALID_ARGS, 0)
    assert apic_id(make.vcpu(guest)) == 0


def test_as_many_are_made_as_kvm_allows_and_closing_some_gives_no_more(make: Maker) -> None:
    guest = make.guest().guest
    handles.find(guest, GuestDispatcher)._vcpus_max = 3
    made = [make.vcpu(guest) for _ in range(3)]
    assert zx.zx_vcpu_create(guest, 0, 0) == (Status.NO_RESOURCES, 0)
    assert zx.zx_handle_close_many(made) is Status.OK
    assert zx.zx_vcpu_create(guest, 0, 0) == (Status.NO_RESOURCES, 0)


def test_the_limit_is_what_kvm_says(make: Maker) -> None:
    from kvmbind.kvm.system import NR_VCPUS_MAX, System

    system = System()
    assert handles.find(make.guest().guest, GuestDispatcher)._vcpus_max == system.capability(NR_VCPUS_MAX)
    system.close()
