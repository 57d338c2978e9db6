"""Exits that are no access: what enter says, and what the next enter does."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import DescriptorTable, ExitReason, Guest, Registers, Segment, Status, Vcpu, zx

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kvm

ENTRY = 0x4000
PRESENT, WRITABLE, LARGE = 1, 2, 0x80
OUT = bytes.fromhex("e680")  # out 80h, al

# A KVM that interprets does not check a state as a processor does.
INTERPRETS = Path("/sys/module/kvm_pvm").exists()


@pytest.fixture
def guest() -> Iterator[Guest]:
    """64 KiB of memory; port 80h is trapped; OUT at the entry."""
    with Guest.create(memory=1 << 16) as guest:
        guest.write(OUT, ENTRY)
        guest.set_trap_io(0x80, 1, 0)
        yield guest


def stop(vcpu: Vcpu) -> kvmbind.ZxError:
    with pytest.raises(kvmbind.ZxError) as caught:
        vcpu.enter(60)
    return caught.value


def exit_of(vcpu: Vcpu) -> kvmbind.Exit:
    exit = stop(vcpu).exit
    assert exit is not None
    return exit


def shut_down(guest: Guest, code_before: str = "") -> Vcpu:
    """A VCPU in protected mode that meets UD2 with no interrupt table at all."""
    guest.write(bytes.fromhex(code_before + "0f0b"), 0x1000)
    vcpu = Vcpu.create(guest, 0x1000)
    special = vcpu.read_special()
    data = Segment(selector=16, limit=0xFFFFFFFF, g=1, db=1)
    code = data._replace(selector=8, type=11)
    vcpu.write_special(
        special._replace(cs=code, ds=data, es=data, ss=data, cr0=special.cr0 | 1, idt=DescriptorTable(0, 0))
    )
    vcpu.write_registers(Registers(rip=0x1000))
    return vcpu


def test_code_that_kvm_cannot_fetch_is_an_internal_error_that_says_where(guest: Guest) -> None:
    guest.write(bytes.fromhex("ea000000d0"), 0x1000)  # jmp d000h:0, where no memory is
    with Vcpu.create(guest, 0x1000) as vcpu:
        error = stop(vcpu)
        assert error.status is Status.NOT_SUPPORTED
        assert error.exit is not None
        assert (error.exit.reason, error.exit.suberror) == (ExitReason.INTERNAL_ERROR, 1)
        assert "KVM_RUN returned with KVM_EXIT_INTERNAL_ERROR, suberror 0x1, at d000:0000" in str(error)


def test_after_an_internal_error_the_next_enter_tries_again_from_where_it_is_told(guest: Guest) -> None:
    guest.write(bytes.fromhex("ea000000d0"), 0x1000)
    with Vcpu.create(guest, 0x1000) as vcpu:
        assert [exit_of(vcpu).reason for _ in range(3)] == [ExitReason.INTERNAL_ERROR] * 3
        vcpu.write_special(vcpu.read_special()._replace(cs=Segment.real(ENTRY >> 4, code=True)))
        vcpu.write_registers(Registers(rip=0))
        assert vcpu.enter(60).guest_io.port == 0x80


def test_a_triple_fault_is_a_shutdown_again_and_again_with_no_run_in_between(guest: Guest) -> None:
    with shut_down(guest) as vcpu:
        error = stop(vcpu)
        assert error.status is Status.NOT_SUPPORTED
        assert error.exit == kvmbind.Exit(ExitReason.SHUTDOWN)
        returns = vcpu.returns
        assert [exit_of(vcpu).reason for _ in range(3)] == [ExitReason.SHUTDOWN] * 3
        assert zx.zx_vcpu_enter(vcpu.handle)[0] is Status.NOT_SUPPORTED
        assert vcpu.returns == returns


def test_a_vcpu_that_has_shut_down_runs_again_once_its_registers_are_written(guest: Guest) -> None:
    with Vcpu.create(guest, ENTRY) as fresh:
        special, registers = fresh.read_special(), fresh.read_registers()
    with shut_down(guest) as vcpu:
        assert exit_of(vcpu).reason is ExitReason.SHUTDOWN
        vcpu.write_special(special)
        vcpu.write_registers(registers)
        assert vcpu.enter(60).guest_io.port == 0x80


def test_the_registers_of_the_last_exit_outlive_a_triple_fault_if_they_are_kept(guest: Guest) -> None:
    """MOV EBX, 1234h; OUT; MOV EBX, 0; UD2."""
    with shut_down(guest, "bb34120000 e680 bb00000000") as vcpu:
        vcpu.keep_exit_registers()
        assert vcpu.read_exit_registers() is None
        assert vcpu.enter(60).guest_io.port == 0x80
        kept = vcpu.read_exit_registers()
        assert kept is not None
        assert (kept[0].rbx, kept[1].cr0 & 1, kept[1].cs.selector) == (0x1234, 1, 8)
        assert exit_of(vcpu).reason is ExitReason.SHUTDOWN
        assert vcpu.read_exit_registers() == kept


def test_registers_that_are_kept_are_read_and_written_as_ever(guest: Guest) -> None:
    with Vcpu.create(guest, ENTRY) as vcpu:
        vcpu.keep_exit_registers()
        for value in (1, 2):
            vcpu.write_registers(Registers(rip=0, rbx=value))
            assert vcpu.enter(60).guest_io.port == 0x80
            assert vcpu.read_registers().rip == len(OUT)
            kept = vcpu.read_exit_registers()
            assert kept is not None
            assert kept[0].rbx == vcpu.read_registers().rbx == value


def test_without_being_asked_no_registers_are_kept(guest: Guest) -> None:
    with Vcpu.create(guest, ENTRY) as vcpu:
        vcpu.enter(60)
        assert vcpu.read_exit_registers() is None


def test_a_kick_and_a_deadline_come_before_a_shutdown_that_is_known(guest: Guest) -> None:
    with shut_down(guest) as vcpu:
        stop(vcpu)
        vcpu.kick()
        assert stop(vcpu).status is Status.CANCELED
        with pytest.raises(kvmbind.TimedOutError):
            vcpu.enter(0)
        assert exit_of(vcpu).reason is ExitReason.SHUTDOWN


@pytest.mark.xfail(INTERPRETS, reason="a KVM that interprets runs what a processor refuses", strict=True)
def test_a_state_that_the_processor_refuses_is_bad_state_until_it_is_mended(guest: Guest) -> None:
    guest.write(struct.pack("<Q", 0x1000 | WRITABLE | PRESENT), 0)
    guest.write(struct.pack("<Q", 0x2000 | WRITABLE | PRESENT), 0x1000)
    guest.write(struct.pack("<Q", LARGE | WRITABLE | PRESENT), 0x2000)
    with Vcpu.create(guest, ENTRY, mode="long") as vcpu:
        special, registers = vcpu.read_special(), vcpu.read_registers()
        vcpu.write_special(special._replace(cs=special.cs._replace(db=1)))  # 64-bit code has no D bit
        for _ in range(2):
            error = stop(vcpu)
            assert error.status is Status.BAD_STATE
            assert error.exit is not None
            assert error.exit.reason is ExitReason.FAIL_ENTRY
            assert error.exit.suberror
        vcpu.write_special(special)
        vcpu.write_registers(registers)
        assert vcpu.enter(60).guest_io.port == 0x80


def test_an_untrapped_access_has_no_exit_and_an_exit_no_access(guest: Guest) -> None:
    guest.write(bytes.fromhex("e681"), ENTRY)
    with Vcpu.create(guest, ENTRY) as vcpu:
        error = stop(vcpu)
        assert (error.access is None, error.exit) == (False, None)
    with shut_down(guest) as vcpu:
        error = stop(vcpu)
        assert (error.access, error.exit is None) == (None, False)
