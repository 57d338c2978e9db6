"""Memory traps: the packet of each access, answers to loads, string instructions, and accesses over a trap's edge."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.guests import MMIO
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    ZX_GUEST_TRAP_MEM,
    ZX_PKT_TYPE_GUEST_IO,
    ZX_PKT_TYPE_GUEST_MEM,
    ZX_VCPU_IO,
    ZX_VM_PERM_READ,
    PortPacket,
    Status,
    VcpuIo,
)

if TYPE_CHECKING:
    from tests.zx.conftest import GuestHandles, Maker

pytestmark = pytest.mark.kvm

OK = Status.OK
PAGE = 4096
TRAP = 0xD0000
KEY = 0x1122_3344_5566_7788

#: mov ax, D000h; mov ds, ax; mov es, ax
START = bytes.fromhex("b800d0 8ed8 8ec0")
#: out 80h, eax; then for ever: hlt
DONE = bytes.fromhex("66e780 fa f4 ebfd")


def set_trap(made: GuestHandles, addr: int, key: int = KEY, *, size: int = PAGE) -> None:
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_MEM, addr, size, 0, key) is OK


def guest_with_a_trap(make: Maker, code: str, addr: int = TRAP) -> GuestHandles:
    """A guest that runs `code` and gives EAX to port 80h."""
    made = make.guest(START + bytes.fromhex(code) + DONE)
    set_trap(made, addr)
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0) is OK
    return made


def write_to(addr: int, data: bytes, key: int = KEY) -> PortPacket:
    made = PortPacket(key=key, type=ZX_PKT_TYPE_GUEST_MEM)
    made.guest_mem.addr, made.guest_mem.access_size = addr, len(data)
    made.guest_mem.data = int.from_bytes(data, "little")
    return made


def read_of(addr: int, size: int, key: int = KEY) -> PortPacket:
    made = write_to(addr, bytes(size), key)
    made.guest_mem.read = 1
    return made


def enter(vcpu: int) -> PortPacket:
    status, packet = zx.zx_vcpu_enter(vcpu)
    assert status is OK
    return packet


def answer(vcpu: int, value: int, size: int = 4) -> None:
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=size, u32=value)) is OK


def at_the_end(vcpu: int) -> int:
    """What the guest gave at its end."""
    packet = enter(vcpu)
    assert packet.type == ZX_PKT_TYPE_GUEST_IO
    return packet.guest_io.u32


def memory_at(made: GuestHandles, addr: int, size: int) -> bytes:
    status, data = zx.zx_vmo_read(made.memory, addr, size)
    assert status is OK
    return data


def test_each_access_is_a_packet_with_the_traps_key_and_loads_get_their_answers(make: Maker) -> None:
    made = make.guest(MMIO)
    set_trap(made, TRAP)
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0) is OK
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == write_to(TRAP, b"\x11")
    assert enter(vcpu) == write_to(TRAP + 2, b"\x33\x22")
    assert enter(vcpu) == write_to(TRAP + 4, b"\x77\x66\x55\x44")
    for offset, size in [(8, 1), (10, 2), (12, 4)]:
        assert enter(vcpu) == read_of(TRAP + offset, size)
        answer(vcpu, 0xA1B2C3D4)
    assert enter(vcpu) == read_of(TRAP + 16, 4)  # inc dword
    answer(vcpu, 41)
    assert enter(vcpu) == write_to(TRAP + 16, struct.pack("<I", 42))
    at_the_end(vcpu)
    assert struct.unpack("<BxHI", memory_at(made, 0x6000, 8)) == (0xD4, 0xC3D4, 0xA1B2C3D4)


def test_a_load_that_nobody_answers_gives_all_ones(make: Maker) -> None:
    vcpu = make.vcpu(guest_with_a_trap(make, "66a10000").guest)  # mov eax, [0]
    assert enter(vcpu) == read_of(TRAP, 4)
    assert at_the_end(vcpu) == 0xFFFFFFFF


def test_a_string_of_stores_is_a_packet_for_each_element(make: Maker) -> None:
    vcpu = make.vcpu(guest_with_a_trap(make, "bf1000 b90300 b85aa5 fc f3ab").guest)  # mov di, cx, ax; cld; rep stosw
    for number in range(3):
        assert enter(vcpu) == write_to(TRAP + 0x10 + 2 * number, b"\x5a\xa5")
    assert at_the_end(vcpu) & 0xFFFF == 0xA55A


def test_a_string_of_loads_is_a_packet_for_each_element_with_its_own_answer(make: Maker) -> None:
    # mov si, 10h; mov di, 6000h; xor ax, ax; mov es, ax; mov cx, 3; cld; rep movsw
    made = guest_with_a_trap(make, "be1000 bf0060 31c0 8ec0 b90300 fc f3a5")
    vcpu = make.vcpu(made.guest)
    for number in range(3):
        assert enter(vcpu) == read_of(TRAP + 0x10 + 2 * number, 2)
        answer(vcpu, 0x1100 + number, 2)
    at_the_end(vcpu)
    assert struct.unpack("<3H", memory_at(made, 0x6000, 6)) == (0x1100, 0x1101, 0x1102)


def test_a_store_out_of_memory_into_a_trap_is_a_packet_of_the_part_that_lies_in_it(make: Maker) -> None:
    made = guest_with_a_trap(make, "66c706fe0f11223344", TRAP + PAGE)  # mov dword ptr [FFEh], 44332211h
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == write_to(TRAP + PAGE, b"\x33\x44")
    at_the_end(vcpu)
    assert memory_at(made, TRAP + 0xFFE, 4) == b"\x11\x22\x00\x00"


def test_a_store_out_of_a_trap_into_memory_is_a_packet_of_the_part_that_lies_in_it(make: Maker) -> None:
    made = guest_with_a_trap(make, "66c706fe0f11223344")
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == write_to(TRAP + 0xFFE, b"\x11\x22")
    at_the_end(vcpu)
    assert memory_at(made, TRAP + 0xFFE, 4) == b"\x00\x00\x33\x44"


def test_a_load_over_the_edge_of_a_trap_has_its_bytes_from_both_sides(make: Maker) -> None:
    made = guest_with_a_trap(make, "66a1fe0f", TRAP + PAGE)  # mov eax, [FFEh]
    assert zx.zx_vmo_write(made.memory, b"\x11\x22\x33\x44", TRAP + 0xFFE) is OK
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == read_of(TRAP + PAGE, 2)
    answer(vcpu, 0xBBAA, 2)
    assert at_the_end(vcpu) == 0xBBAA2211


def test_an_access_over_the_edge_between_two_traps_is_a_packet_of_each(make: Maker) -> None:
    made = guest_with_a_trap(make, "66c706fe0f11223344 66a1fe0f")
    set_trap(made, TRAP + PAGE, 9)
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == write_to(TRAP + 0xFFE, b"\x11\x22")
    assert enter(vcpu) == write_to(TRAP + PAGE, b"\x33\x44", 9)
    assert enter(vcpu) == read_of(TRAP + 0xFFE, 2)
    answer(vcpu, 0x2211, 2)
    assert enter(vcpu) == read_of(TRAP + PAGE, 2, 9)
    answer(vcpu, 0x4433, 2)
    assert at_the_end(vcpu) == 0x44332211


def test_what_reaches_out_of_a_trap_into_nothing_is_not_found(make: Maker) -> None:
    made = guest_with_a_trap(make, "66c706fe0f11223344")
    assert zx.zx_vmar_unmap(made.vmar, TRAP + PAGE, PAGE) is OK
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == write_to(TRAP + 0xFFE, b"\x11\x22")
    with pytest.raises(kvmbind.NotFoundError) as caught:
        kvmbind.Vcpu.borrow(vcpu).enter()
    assert caught.value.access == kvmbind.Access("memory", TRAP + PAGE, 2, is_write=True, data=b"\x33\x44")
    at_the_end(vcpu)


def test_an_io_access_over_the_edge_of_a_trap_belongs_to_what_its_first_port_is_in(make: Maker) -> None:
    made = make.guest(bytes.fromhex("b83412 e77f e781"))  # mov ax, 1234h; out 7Fh, ax; out 81h, ax
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_IO, 0x80, 2, 0, 5) is OK
    vcpu = make.vcpu(made.guest)
    assert zx.zx_vcpu_enter(vcpu) == (Status.NOT_FOUND, PortPacket())
    packet = enter(vcpu)
    assert (packet.key, packet.guest_io.port, packet.guest_io.access_size, packet.guest_io.u16) == (5, 0x81, 2, 0x1234)


def test_trapped_addresses_are_told_apart_from_their_neighbours(make: Maker) -> None:
    made = guest_with_a_trap(make, "c606000001 c606001002 c606002003")  # a byte to each of three pages
    set_trap(made, TRAP + 2 * PAGE, 9)
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == write_to(TRAP, b"\x01")
    assert enter(vcpu) == write_to(TRAP + 2 * PAGE, b"\x03", 9)
    at_the_end(vcpu)
    assert memory_at(made, TRAP + PAGE, 1) == b"\x02"


def test_memory_that_is_mapped_over_a_trap_hides_it(make: Maker) -> None:
    made = guest_with_a_trap(make, "c606000001 c606000002")
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == write_to(TRAP, b"\x01")
    make.map(made.vmar, make.vmo(PAGE), TRAP, PAGE)
    at_the_end(vcpu)
    assert zx.zx_vmar_unmap(made.vmar, TRAP, PAGE) is OK
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_MEM, TRAP, PAGE, 0, 0) is Status.ALREADY_EXISTS


def test_a_store_to_trapped_memory_that_is_read_only_again_is_a_packet(make: Maker) -> None:
    made = guest_with_a_trap(make, "a00000 c606000002")  # mov al, [0]; mov byte ptr [0], 2
    make.map(made.vmar, make.vmo(PAGE), TRAP, PAGE, ZX_VM_PERM_READ)
    vcpu = make.vcpu(made.guest)
    assert enter(vcpu) == write_to(TRAP, b"\x02")
    at_the_end(vcpu)
