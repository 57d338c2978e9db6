"""VCPUs that wait for INIT and SIPI, and local APICs in xAPIC mode."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest, MpState, Vcpu
from kvmbind.guests import SMP

if TYPE_CHECKING:
    from tests.conftest import MakeInterrupt

pytestmark = pytest.mark.kvm

ENTRY, READY, COUNT = 0x1000, 0x7000, 0x8000
WAKE = 0x41
APIC_BASE_X2APIC, APIC_BASE_ENABLED = 1 << 10, 1 << 11
LAPIC_ID, LAPIC_SVR = 0x20, 0xF0
DEADLINE_S = 60

# mov dword [fee00310h], 1 << 24; mov dword [fee00300h], 4500h (INIT), then 4602h (SIPI, page 2); sti; hlt
SEND_BY_XAPIC = bytes.fromhex("6766c7051003e0fe00000001 6766c7050003e0fe00450000 6766c7050003e0fe02460000 fb f4 ebfd")
# mov ecx, 1bh; rdmsr; or ah, 4; wrmsr: into x2APIC mode; jmp 100h:0, where the image is
GO_TO_X2APIC = bytes.fromhex("66b91b000000 0f32 80cc04 0f30 ea00000001")


def smp(guest: Guest, waiting: int) -> list[Vcpu]:
    """The image on VCPU 0, and so many VCPUs that wait."""
    guest.write(SMP, ENTRY)
    vcpus = [guest.start_vcpu(ENTRY)] + [guest.start_vcpu(mode="wait-for-sipi") for _ in range(waiting)]
    guest.wait_u32(READY, 1, timeout_s=DEADLINE_S)
    return vcpus


def wait_ready(guest: Guest, apic_id: int) -> None:
    """Waits for the byte of one VCPU, whatever the bytes below it are."""
    addr = READY + apic_id - 3
    guest.wait_u32(addr, 1 << 24, timeout_s=DEADLINE_S)


def test_the_first_vcpu_starts_those_that_wait_and_each_counts_a_bound_interrupt(
    kvm_guest: Guest, make_interrupt: MakeInterrupt
) -> None:
    irq = make_interrupt(0x40)
    vcpus = smp(kvm_guest, waiting=2)
    vcpus[0].interrupt(WAKE)
    for vcpu in vcpus[1:]:
        wait_ready(kvm_guest, vcpu.apic_id)
    for vcpu in vcpus:
        irq.bind_vcpu(vcpu)
    for count in range(1, 101):
        irq.trigger()
        for vcpu in vcpus:
            kvm_guest.wait_u32(COUNT + 4 * vcpu.apic_id, count, timeout_s=DEADLINE_S)
    assert [vcpu.returns for vcpu in vcpus] == [0, 0, 0]


def test_until_it_is_started_it_runs_nothing_and_can_be_kicked(kvm_guest: Guest) -> None:
    smp(kvm_guest, waiting=0)
    with Vcpu.create(kvm_guest, mode="wait-for-sipi") as vcpu:
        assert vcpu.read_mp_state() is MpState.UNINITIALIZED
        for _ in range(2):
            with pytest.raises(kvmbind.TimedOutError):
                vcpu.enter(0.05)
        vcpu.kick()
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter()
        assert kvm_guest.read(READY + 1, 1) == b"\0"


def test_an_interrupt_bound_before_init_reaches_it_once_the_guest_has_switched_its_apic_on(
    kvm_guest: Guest, make_interrupt: MakeInterrupt
) -> None:
    irq = make_interrupt(0x40)
    first, second = smp(kvm_guest, waiting=1)
    irq.bind_vcpu(second)
    first.interrupt(WAKE)
    wait_ready(kvm_guest, 1)
    irq.trigger()
    kvm_guest.wait_u32(COUNT + 4, 1, timeout_s=DEADLINE_S)


def test_an_xapic_has_its_id_in_the_upper_byte_and_is_switched_on(kvm_guest: Guest) -> None:
    Vcpu.create(kvm_guest, apic="xapic").close()
    with Vcpu.create(kvm_guest, apic="xapic") as vcpu:
        base = vcpu.read_special().apic_base
        assert (base & APIC_BASE_X2APIC, base & APIC_BASE_ENABLED) == (0, APIC_BASE_ENABLED)
        page = vcpu.read_lapic()
        assert struct.unpack_from("<I", page, LAPIC_ID)[0] == 1 << 24
        assert struct.unpack_from("<I", page, LAPIC_SVR)[0] & 0x100


def test_the_first_vcpu_is_the_bootstrap_processor_in_both_modes(kvm_guest: Guest) -> None:
    with Vcpu.create(kvm_guest, apic="xapic") as first, Vcpu.create(kvm_guest, apic="xapic") as second:
        assert [vcpu.read_special().apic_base & 1 << 8 for vcpu in (first, second)] == [1 << 8, 0]


def test_in_xapic_mode_a_guest_starts_the_other_vcpu_through_memory(
    kvm_guest: Guest, make_interrupt: MakeInterrupt
) -> None:
    kvm_guest.write(SMP, ENTRY)
    kvm_guest.write(GO_TO_X2APIC, 0x2000)
    kvm_guest.write(SEND_BY_XAPIC, 0x3000)
    second = start_second(kvm_guest)
    wait_ready(kvm_guest, second.apic_id)
    irq = make_interrupt(0x40)
    irq.bind_vcpu(second)
    for count in range(1, 11):
        irq.trigger()
        kvm_guest.wait_u32(COUNT + 4 * second.apic_id, count, timeout_s=DEADLINE_S)


def start_second(guest: Guest) -> Vcpu:
    """Starts the second VCPU by the first, whose DS reaches all 4 GiB."""
    with Vcpu.create(guest, 0x3000, apic="xapic") as first:
        second = guest.start_vcpu(mode="wait-for-sipi", apic="xapic")
        special = first.read_special()
        first.write_special(special._replace(ds=special.ds._replace(limit=0xFFFFFFFF, g=1)))
        while first.read_mp_state() is not MpState.HALTED:
            with pytest.raises(kvmbind.TimedOutError):
                first.enter(0.05)
    return second


def test_no_xapic_has_an_id_above_254() -> None:
    with Guest.create() as guest:
        for _ in range(255):
            Vcpu.create(guest).close()
        with pytest.raises(kvmbind.InvalidArgsError, match="APIC id 255 is above 254: no xAPIC has it"):
            Vcpu.create(guest, apic="xapic")
        Vcpu.create(guest).close()


def test_create_refuses_what_is_no_mode_of_an_apic(kvm_guest: Guest) -> None:
    with pytest.raises(kvmbind.InvalidArgsError, match="'x3apic' is not"):
        Vcpu.create(kvm_guest, apic="x3apic")  # type: ignore[arg-type]
