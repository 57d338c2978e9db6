"""zx_vcpu_enter: accesses to what is no memory: addresses, widths, reads, writes, both in one, and memory's end."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.guests import MMIO
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    ZX_PKT_TYPE_GUEST_IO,
    ZX_VCPU_IO,
    ZX_VCPU_STATE,
    ZX_VM_PERM_READ,
    PortPacket,
    Status,
    VcpuIo,
    VcpuState,
)

if TYPE_CHECKING:
    from tests.zx.conftest import GuestHandles, Maker

pytestmark = pytest.mark.kvm

PAGE = 0xD0000
#: What the image writes and reads there: offset, size, data or None.
WRITES = [(0, 1, 0x11), (2, 2, 0x2233), (4, 4, 0x44556677)]
READS = [(8, 1), (10, 2), (12, 4)]


def guest_with_a_hole(make: Maker) -> GuestHandles:
    guest = make.guest(MMIO)
    assert zx.zx_vmar_unmap(guest.vmar, PAGE, 4096) is Status.OK
    assert zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0) is Status.OK
    return guest


def access(vcpu: int) -> kvmbind.Access:
    """The untrapped access that comes next."""
    with pytest.raises(kvmbind.NotFoundError, match="neither memory nor trapped") as caught:
        kvmbind.Vcpu.borrow(vcpu).enter()
    assert caught.value.access is not None
    return caught.value.access


def pass_writes_and_reads(vcpu: int) -> None:
    for _ in (*WRITES, *READS):
        assert zx.zx_vcpu_enter(vcpu) == (Status.NOT_FOUND, PortPacket())


def write_to(offset: int, size: int, value: int) -> kvmbind.Access:
    return kvmbind.Access("memory", PAGE + offset, size, is_write=True, data=value.to_bytes(size, "little"))


def read_of(offset: int, size: int) -> kvmbind.Access:
    return kvmbind.Access("memory", PAGE + offset, size, is_write=False)


def answer(vcpu: int, value: int, size: int = 4) -> None:
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=size, u32=value)) is Status.OK


def stored(guest: GuestHandles) -> tuple[int, ...]:
    """What the guest has kept of its three reads."""
    status, data = zx.zx_vmo_read(guest.memory, 0x6000, 8)
    assert status is Status.OK
    return struct.unpack("<BxHI", data)


def at_the_end(vcpu: int) -> bool:
    status, packet = zx.zx_vcpu_enter(vcpu)
    return status is Status.OK and (packet.type, packet.guest_io.port) == (ZX_PKT_TYPE_GUEST_IO, 0x80)


def test_each_untrapped_access_is_not_found_and_says_address_width_direction_and_data(make: Maker) -> None:
    vcpu = make.vcpu(guest_with_a_hole(make).guest)
    assert [access(vcpu) for _ in WRITES] == [write_to(*write) for write in WRITES]
    assert [access(vcpu) for _ in READS] == [read_of(*read) for read in READS]
    assert access(vcpu) == read_of(16, 4)
    assert access(vcpu) == write_to(16, 4, 0)  # all ones, and one more
    assert at_the_end(vcpu)


def test_reads_that_nobody_answers_give_all_ones_in_their_width(make: Maker) -> None:
    guest = guest_with_a_hole(make)
    vcpu = make.vcpu(guest.guest)
    pass_writes_and_reads(vcpu)
    assert access(vcpu) == read_of(16, 4)
    assert stored(guest) == (0xFF, 0xFFFF, 0xFFFFFFFF)


def test_an_answer_gives_the_read_as_many_bytes_as_it_has(make: Maker) -> None:
    guest = guest_with_a_hole(make)
    vcpu = make.vcpu(guest.guest)
    for _ in WRITES:
        access(vcpu)
    for read in READS:
        assert access(vcpu) == read_of(*read)
        answer(vcpu, 0xA1B2C3D4)
    assert access(vcpu) == read_of(16, 4)
    assert stored(guest) == (0xD4, 0xC3D4, 0xA1B2C3D4)


def test_a_read_modify_write_is_a_read_and_then_a_write_of_what_was_answered(make: Maker) -> None:
    vcpu = make.vcpu(guest_with_a_hole(make).guest)
    pass_writes_and_reads(vcpu)
    assert access(vcpu) == read_of(16, 4)
    answer(vcpu, 41)
    assert access(vcpu) == write_to(16, 4, 42)
    assert at_the_end(vcpu)


def test_reading_the_state_amid_a_read_modify_write_loses_nothing(make: Maker) -> None:
    vcpu = make.vcpu(guest_with_a_hole(make).guest)
    pass_writes_and_reads(vcpu)
    access(vcpu)
    before = zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)
    assert before[0] is Status.OK
    answer(vcpu, 41)
    assert zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)[0] is Status.OK
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, before[1]) is Status.BAD_STATE
    assert access(vcpu) == write_to(16, 4, 42)
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, before[1]) is Status.OK
    assert at_the_end(vcpu)


def test_a_kick_between_an_answer_and_the_write_loses_nothing(make: Maker) -> None:
    vcpu = make.vcpu(guest_with_a_hole(make).guest)
    pass_writes_and_reads(vcpu)
    access(vcpu)
    answer(vcpu, 41)
    zx.zx_vcpu_kick(vcpu)
    assert zx.zx_vcpu_enter(vcpu)[0] is Status.CANCELED
    assert access(vcpu) == write_to(16, 4, 42)


def test_while_a_read_is_unanswered_the_state_is_that_before_it_and_cannot_be_written(make: Maker) -> None:
    guest = guest_with_a_hole(make)
    vcpu = make.vcpu(guest.guest)
    for _ in WRITES:
        access(vcpu)
    access(vcpu)
    status, state = zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)
    assert (status, state.rax) == (Status.OK, 0xD000)
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, VcpuState(rax=1)) is Status.BAD_STATE
    answer(vcpu, 0x77)
    status, state = zx.zx_vcpu_read_state(vcpu, ZX_VCPU_STATE)
    assert (status, state.rax) == (Status.OK, 0xD077)
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_STATE, VcpuState(rax=0x99)) is Status.OK
    assert access(vcpu) == read_of(10, 2)
    assert stored(guest)[0] == 0x99


# mov ax, FFFFh; mov ds, ax; mov bx, 1010h; then mov al, [bx] or mov [bx], al; out 80h, al
READ_BEYOND, WRITE_BEYOND = (bytes.fromhex(f"b8ffff 8ed8 bb1010 {op} e680") for op in ("8a07", "8807"))


@pytest.mark.parametrize("image", [READ_BEYOND, WRITE_BEYOND], ids=["read", "write"])
def test_an_access_past_the_end_of_a_vmo_is_not_found(make: Maker, image: bytes) -> None:
    guest = make.guest(image)
    make.map(guest.vmar, make.vmo(4096), 0x100000, 2 * 4096)
    zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0)
    vcpu = make.vcpu(guest.guest)
    assert zx.zx_vcpu_enter(vcpu) == (Status.NOT_FOUND, PortPacket())


@pytest.mark.parametrize("image", [READ_BEYOND, WRITE_BEYOND], ids=["read", "write"])
def test_an_access_to_an_address_without_memory_is_not_found(make: Maker, image: bytes) -> None:
    vcpu = make.vcpu(make.guest(image).guest)
    is_write = image is WRITE_BEYOND
    assert access(vcpu) == kvmbind.Access("memory", 0x101000, 1, is_write, data=b"\xff" if is_write else b"")


def test_a_write_to_a_read_only_mapping_is_not_found_and_a_read_is_none_of_the_hosts_business(make: Maker) -> None:
    # mov ax, FFFFh; mov ds, ax; mov bx, 0010h; mov al, [bx]; out 80h, al; mov [bx], al; mov al, [bx]; out 80h, al
    guest = make.guest(bytes.fromhex("b8ffff 8ed8 bb1000 8a07 e680 fec0 8807 8a07 e680"))
    vmo = make.vmo(4096)
    zx.zx_vmo_write(vmo, b"\x51", 0)
    make.map(guest.vmar, vmo, 0x100000, 4096, ZX_VM_PERM_READ)
    zx.zx_guest_set_trap(guest.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0)
    vcpu = make.vcpu(guest.guest)
    assert zx.zx_vcpu_enter(vcpu)[1].guest_io.u8 == 0x51
    assert access(vcpu) == kvmbind.Access("memory", 0x100000, 1, is_write=True, data=b"\x52")
    assert zx.zx_vcpu_enter(vcpu)[1].guest_io.u8 == 0x51
    assert zx.zx_vmo_read(vmo, 0, 1) == (Status.OK, b"\x51")


def test_the_message_says_where_the_guest_was(make: Maker) -> None:
    vcpu = make.vcpu(guest_with_a_hole(make).guest)
    with pytest.raises(kvmbind.NotFoundError) as caught:
        kvmbind.Vcpu.borrow(vcpu).enter()
    sentence = (
        r"zx_vcpu_enter: NOT_FOUND \(-25\): .*, at 0100:00[0-9a-f]{2}: write of 1 byte \(11\) to guest memory 0xd0000"
    )
    assert re.fullmatch(sentence, str(caught.value))
