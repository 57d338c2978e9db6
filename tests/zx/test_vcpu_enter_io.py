"""zx_vcpu_enter: I/O ports, trapped and not, element by element."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.guests import ECHO, PORT_LOOP, STRINGS
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    ZX_PKT_TYPE_GUEST_IO,
    ZX_RIGHT_EXECUTE,
    ZX_VCPU_IO,
    ZX_VCPU_STATE,
    PortPacket,
    Status,
    VcpuIo,
    VcpuState,
)

if TYPE_CHECKING:
    from tests.zx.conftest import GuestHandles, Maker

pytestmark = pytest.mark.kvm

KEY = 0xFEDC_BA98_7654_3210

# mov al, 11h; out 80h, al; mov ax, 2233h; out 80h, ax; mov eax, 44556677h; out 80h, eax; mov dx, 1234h; out dx, al
OUTS = bytes.fromhex("b011 e680 b83322 e780 66b877665544 66e780 ba3412 ee")
# mov eax, AABBCCDDh before each of: in al, 60h; in ax, 60h; in eax, 60h; then out 80h, eax
INS = bytes.fromhex("66b8ddccbbaa e460 66e780 66b8ddccbbaa e560 66e780 66b8ddccbbaa 66e560 66e780")
# inc si; in al, 60h; inc si; out 80h, al; inc si; out 80h, al
STEPS = bytes.fromhex("46 e460 46 e680 46 e680")


def trap(guest: GuestHandles, port: int, size: int, key: int = KEY) -> None:
    assert zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, port, size, 0, key) is Status.OK


def enter(vcpu: int) -> PortPacket:
    status, packet = zx.zx_vcpu_enter(vcpu)
    assert status is Status.OK
    assert (packet.type, packet.status) == (ZX_PKT_TYPE_GUEST_IO, 0)
    return packet


def written(vcpu: int) -> tuple[int, int, int]:
    """The port, size and value of the OUT that comes next."""
    io = enter(vcpu).guest_io
    assert io.input == 0
    assert io.data[io.access_size :] == bytes(4 - io.access_size)
    return io.port, io.access_size, io.u32


def read(vcpu: int) -> tuple[int, int]:
    """The port and size of the IN that comes next."""
    io = enter(vcpu).guest_io
    assert (io.input, io.u32) == (1, 0)
    return io.port, io.access_size


def answer(vcpu: int, value: int, size: int = 4) -> None:
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=size, u32=value)) is Status.OK


def rsi(vcpu: int) -> int:
    status, state = zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)
    assert status is Status.OK
    return state.rsi


def test_out_of_each_width_is_a_packet_with_the_traps_key(make: Maker) -> None:
    guest = make.guest(OUTS)
    trap(guest, 0x80, 4, KEY)
    trap(guest, 0x1000, 0x1000, 7)
    vcpu = make.vcpu(guest.guest)
    packet = enter(vcpu)
    expected = PortPacket(key=KEY, type=ZX_PKT_TYPE_GUEST_IO)
    expected.guest_io.port, expected.guest_io.access_size, expected.guest_io.u8 = 0x80, 1, 0x11
    assert packet == expected
    assert [written(vcpu), written(vcpu)] == [(0x80, 2, 0x2233), (0x80, 4, 0x44556677)]
    packet = enter(vcpu)
    assert (packet.key, packet.guest_io.port, packet.guest_io.u8) == (7, 0x1234, 0x77)


def test_in_of_each_width_is_a_packet_and_takes_as_many_bytes_of_the_answer(make: Maker) -> None:
    guest = make.guest(INS)
    trap(guest, 0x60, 4)
    trap(guest, 0x80, 4)
    vcpu = make.vcpu(guest.guest)
    for size, result in [(1, 0xAABBCC44), (2, 0xAABB3344), (4, 0x11223344)]:
        assert read(vcpu) == (0x60, size)
        answer(vcpu, 0x11223344)
        assert written(vcpu) == (0x80, 4, result)


def test_a_trapped_read_that_nobody_answers_gives_all_ones(make: Maker) -> None:
    guest = make.guest(INS)
    trap(guest, 0x60, 4)
    trap(guest, 0x80, 4)
    vcpu = make.vcpu(guest.guest)
    for size, result in [(1, 0xAABBCCFF), (2, 0xAABBFFFF), (4, 0xFFFFFFFF)]:
        assert read(vcpu) == (0x60, size)
        assert written(vcpu) == (0x80, 4, result)


def test_each_answer_reaches_the_read_it_answers(make: Maker) -> None:
    guest = make.guest(ECHO)
    trap(guest, 0x60, 2)
    vcpu = make.vcpu(guest.guest)
    for value in range(0, 256, 5):
        assert read(vcpu) == (0x60, 1)
        answer(vcpu, value, 1)
        assert written(vcpu) == (0x61, 1, value)


def test_an_untrapped_out_is_not_found_with_no_packet_and_the_next_enter_goes_on_behind_it(make: Maker) -> None:
    guest = make.guest(OUTS)
    trap(guest, 0x1234, 1)
    vcpu = make.vcpu(guest.guest)
    for _ in range(3):
        assert zx.zx_vcpu_enter(vcpu) == (Status.NOT_FOUND, PortPacket())
    assert written(vcpu) == (0x1234, 1, 0x77)


def test_the_object_layer_says_what_the_untrapped_access_was(make: Maker) -> None:
    guest = make.guest(STEPS)
    vcpu = kvmbind.Vcpu.borrow(make.vcpu(guest.guest))
    with pytest.raises(kvmbind.NotFoundError, match=r"read of 1 byte from I/O port 0x60") as caught:
        vcpu.enter()
    assert caught.value.access == kvmbind.Access("io", 0x60, 1, is_write=False)
    vcpu.write_io(VcpuIo(access_size=1, u8=0x5A))
    with pytest.raises(kvmbind.NotFoundError, match=r"write of 1 byte \(5a\) to I/O port 0x80") as caught:
        vcpu.enter()
    assert caught.value.access == kvmbind.Access("io", 0x80, 1, is_write=True, data=b"\x5a")
    assert "at 0100:" in str(caught.value)


def test_an_untrapped_read_gives_all_ones_unless_it_is_answered(make: Maker) -> None:
    guest = make.guest(INS)
    trap(guest, 0x80, 4)
    vcpu = make.vcpu(guest.guest)
    results = []
    for value in (None, 0x1234, None):
        assert zx.zx_vcpu_enter(vcpu)[0] is Status.NOT_FOUND
        if value is not None:
            answer(vcpu, value)
        results.append(written(vcpu))
    assert results == [(0x80, 4, 0xAABBCCFF), (0x80, 4, 0xAABB1234), (0x80, 4, 0xFFFFFFFF)]


def test_string_io_is_one_packet_per_element_in_both_directions_and_all_widths(make: Maker) -> None:
    guest = make.guest(STRINGS)
    trap(guest, 0x60, 8)
    trap(guest, 0x80, 1)
    vcpu = make.vcpu(guest.guest)
    for in_port, out_port, size in [(0x60, 0x61, 1), (0x62, 0x63, 2), (0x66, 0x67, 4)]:
        values = [0x11223344 * n & (1 << 8 * size) - 1 for n in (1, 2, 3)]
        for value in values:
            assert read(vcpu) == (in_port, size)
            answer(vcpu, value, size)
        assert [written(vcpu) for _ in values] == [(out_port, size, value) for value in values]
    assert written(vcpu)[:2] == (0x80, 1)
    assert zx.zx_vmo_read(guest.memory, 0x6200, 12)[1] == b"".join(v.to_bytes(4, "little") for v in values)


def test_untrapped_string_io_is_not_found_for_each_element(make: Maker) -> None:
    guest = make.guest(STRINGS)
    trap(guest, 0x61, 1)
    vcpu = make.vcpu(guest.guest)
    for value in (1, 2, None):
        assert zx.zx_vcpu_enter(vcpu)[0] is Status.NOT_FOUND
        if value is not None:
            answer(vcpu, value, 1)
    assert [written(vcpu)[2] for _ in range(3)] == [1, 2, 0xFF]


def test_between_the_elements_of_ins_the_registers_are_those_before_the_batch(make: Maker) -> None:
    guest = make.guest(STRINGS)
    trap(guest, 0x60, 1)
    vcpu = make.vcpu(guest.guest)
    for value in range(3):
        assert read(vcpu) == (0x60, 1)
        status, state = zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)
        assert status is Status.OK
        assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, state) is Status.BAD_STATE
        assert state.rdi - 0x6000 == 3 - state.rcx  # the kernel may have made it one batch or several
        answer(vcpu, value, 1)
    status, state = zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)
    assert (status, state.rdi, state.rcx) == (Status.OK, 0x6003, 0)


def test_a_kick_between_elements_is_canceled_and_loses_none(make: Maker) -> None:
    guest = make.guest(STRINGS)
    trap(guest, 0x60, 2)
    vcpu = make.vcpu(guest.guest)
    for value in (1, 2, 3):
        assert read(vcpu) == (0x60, 1)
        answer(vcpu, value, 1)
        assert zx.zx_vcpu_kick(vcpu) is Status.OK
        assert zx.zx_vcpu_enter(vcpu) == (Status.CANCELED, PortPacket())
    for value in (1, 2, 3):
        assert written(vcpu) == (0x61, 1, value)
        zx.zx_vcpu_kick(vcpu)
        assert zx.zx_vcpu_enter(vcpu) == (Status.CANCELED, PortPacket())


def test_a_kick_before_the_answer_leaves_the_read_open(make: Maker) -> None:
    guest = make.guest(ECHO)
    trap(guest, 0x60, 2)
    vcpu = make.vcpu(guest.guest)
    assert read(vcpu) == (0x60, 1)
    zx.zx_vcpu_kick(vcpu)
    assert zx.zx_vcpu_enter(vcpu)[0] is Status.CANCELED
    answer(vcpu, 0x42, 1)
    assert written(vcpu) == (0x61, 1, 0x42)


def test_registers_after_an_access_are_those_behind_the_instruction(make: Maker) -> None:
    guest = make.guest(STEPS)
    trap(guest, 0x60, 1)
    trap(guest, 0x80, 1)
    vcpu = make.vcpu(guest.guest)
    read(vcpu)
    assert rsi(vcpu) == 1
    answer(vcpu, 9, 1)
    status, state = zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)
    assert (status, state.rax & 0xFF, state.rsi) == (Status.OK, 9, 1)
    assert (written(vcpu)[2], rsi(vcpu)) == (9, 2)
    state = VcpuState(rax=0x33, rsi=7)
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, state) is Status.OK
    assert (written(vcpu)[2], rsi(vcpu)) == (0x33, 8)


def test_a_trap_that_is_set_between_enters_holds_from_the_next_one_on(make: Maker) -> None:
    guest = make.guest(PORT_LOOP)
    vcpu = make.vcpu(guest.guest)
    assert zx.zx_vcpu_enter(vcpu)[0] is Status.NOT_FOUND
    trap(guest, 0x80, 1)
    assert written(vcpu) == (0x80, 1, 1)


def test_an_enter_that_is_refused_runs_nothing(make: Maker) -> None:
    guest = make.guest(PORT_LOOP)
    trap(guest, 0x80, 1)
    vcpu = make.vcpu(guest.guest)
    assert make.elsewhere(partial(zx.zx_vcpu_enter, vcpu)) == (Status.BAD_STATE, PortPacket())
    assert zx.zx_vcpu_enter(make.without(vcpu, ZX_RIGHT_EXECUTE)) == (Status.ACCESS_DENIED, PortPacket())
    assert written(vcpu) == (0x80, 1, 0)


def test_a_vcpu_whose_thread_has_ended_can_be_entered_by_nobody(make: Maker) -> None:
    guest = make.guest(PORT_LOOP)
    vcpu = make.elsewhere(lambda: make.vcpu(guest.guest))
    for _ in range(20):  # threads idents are used again
        assert make.elsewhere(lambda: zx.zx_vcpu_enter(vcpu)) == (Status.BAD_STATE, PortPacket())


def test_resume_is_the_older_name_of_enter() -> None:
    assert zx.zx_vcpu_resume is zx.zx_vcpu_enter
