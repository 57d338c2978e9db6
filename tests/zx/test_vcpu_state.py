"""zx_vcpu_read_state and zx_vcpu_write_state: registers, flags, and the low bytes of RAX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.guests import ECHO, PORT_LOOP
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    ZX_VCPU_IO,
    ZX_VCPU_STATE,
    Status,
    VcpuIo,
    VcpuState,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

pytestmark = pytest.mark.kvm

OK, BAD_STATE, INVALID_ARGS = Status.OK, Status.BAD_STATE, Status.INVALID_ARGS
USER_FLAGS = 0x244DD5
CF, ZF, IF, ALWAYS = 1 << 0, 1 << 6, 1 << 9, 1 << 1
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))

# sti; out 80h, al; pushf; pop ax; out 80h, ax; cli; out 80h, al; pushf; pop ax; out 80h, ax
FLAGS = bytes.fromhex("fb e680 9c 58 e780 fa e680 9c 58 e780")


def vcpu_of(make: Maker, image: bytes) -> int:
    guest = make.guest(image)
    zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x60, 0x40, 0, 0)
    return make.vcpu(guest.guest)


def state_of(vcpu: int) -> VcpuState:
    status, state = zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)
    assert status is OK
    return state


def value_out(vcpu: int) -> int:
    status, packet = zx.zx_vcpu_enter(vcpu)
    assert status is OK
    return packet.guest_io.u16


def test_every_register_is_kept_in_full(make: Maker) -> None:
    vcpu = vcpu_of(make, b"")
    state = VcpuState()
    for number, register in enumerate(REGISTERS, 1):
        setattr(state, register, number << 60 | 0x0123_4567_89AB_CDE0 | number)
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, state) is OK
    assert state_of(vcpu) == state


def test_what_is_written_before_the_first_enter_reaches_the_guest(make: Maker) -> None:
    vcpu = vcpu_of(make, bytes.fromhex("89f0 e780"))  # mov ax, si; out 80h, ax
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, VcpuState(rsi=0x1234)) is OK
    assert value_out(vcpu) == 0x1234


def test_what_is_written_between_enters_reaches_the_guest_and_rip_stays(make: Maker) -> None:
    vcpu = vcpu_of(make, PORT_LOOP)
    assert value_out(vcpu) == 0
    for value in (0x10, 0x7F, 0x20):
        assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, VcpuState(rax=value)) is OK
        assert value_out(vcpu) & 0xFF == value + 1


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (ALWAYS, 0),
        (ALWAYS | CF | ZF, CF | ZF),
        (ALWAYS | USER_FLAGS, USER_FLAGS),
        (ALWAYS | IF | 3 << 12 | 1 << 17, 0),
        (USER_FLAGS, 0),
        (CF, 0),
        (0, 0),
    ],
)
def test_flags_are_set_only_with_bit_1_and_only_those_of_the_user(make: Maker, written: int, read: int) -> None:
    vcpu = vcpu_of(make, b"")
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, VcpuState(rflags=written)) is OK
    assert state_of(vcpu).rflags == read


def test_writing_back_what_was_read_leaves_the_flags(make: Maker) -> None:
    vcpu = vcpu_of(make, b"")
    zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, VcpuState(rflags=ALWAYS | CF))
    state = state_of(vcpu)
    state.rax = 5
    state.rflags = 0
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, state) is OK
    assert state_of(vcpu) == VcpuState(rax=5, rflags=CF)


def test_the_interrupt_flag_is_hidden_and_the_guests_own(make: Maker) -> None:
    vcpu = vcpu_of(make, FLAGS)
    value_out(vcpu)
    assert state_of(vcpu).rflags == 0
    for flags, seen in [(ALWAYS | CF, IF | ALWAYS | CF), (ALWAYS | IF | ZF, ALWAYS | ZF)]:
        state = VcpuState(rflags=flags)
        assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, state) is OK
        assert value_out(vcpu) == seen
        if seen & IF:
            value_out(vcpu)


@pytest.mark.parametrize(
    ("size", "rax"), [(1, 0x1122_3344_5566_77DD), (2, 0x1122_3344_5566_CCDD), (4, 0x1122_3344_AABB_CCDD)]
)
def test_io_with_no_read_open_writes_the_low_bytes_of_rax(make: Maker, size: int, rax: int) -> None:
    vcpu = vcpu_of(make, b"")
    zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, VcpuState(rax=0x1122_3344_5566_7788, rbx=3))
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=size, u32=0xAABBCCDD)) is OK
    assert state_of(vcpu) == VcpuState(rax=rax, rbx=3)


def test_io_after_an_out_writes_rax_behind_the_instruction(make: Maker) -> None:
    vcpu = vcpu_of(make, PORT_LOOP)
    value_out(vcpu)
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=1, u8=0x40)) is OK
    assert value_out(vcpu) & 0xFF == 0x41


def test_a_second_answer_writes_rax_behind_the_read(make: Maker) -> None:
    vcpu = vcpu_of(make, ECHO)
    zx.zx_vcpu_enter(vcpu)
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=1, u8=1)) is OK
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=1, u8=2)) is OK
    assert value_out(vcpu) & 0xFF == 2


@pytest.mark.parametrize("size", [0, 3, 5, 8, 255])
def test_io_of_another_size_is_refused_and_leaves_the_read_open(make: Maker, size: int) -> None:
    vcpu = vcpu_of(make, ECHO)
    zx.zx_vcpu_enter(vcpu)
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=size, u32=1)) is INVALID_ARGS
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=1, u8=7)) is OK
    assert value_out(vcpu) & 0xFF == 7


def test_a_call_on_another_thread_changes_nothing(make: Maker) -> None:
    vcpu = vcpu_of(make, ECHO)
    zx.zx_vcpu_enter(vcpu)
    io = VcpuIo(access_size=1, u8=9)
    assert make.elsewhere(lambda: zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, io)) is BAD_STATE
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=1, u8=4)) is OK
    assert value_out(vcpu) & 0xFF == 4
