"""mode="long": Zircon's first VCPU, in 64-bit mode with its page tables at 0; and accesses of 8 bytes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest, Vcpu, VcpuIo, VcpuState

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kvm

ENTRY = 0x3000
HOLE = 0x200000  # past the memory, inside what the page tables map
PRESENT, WRITABLE, LARGE = 1, 2, 0x80

# mov rax, 1234567800000000h; shr rax, 32; out 80h, eax
WIDE = bytes.fromhex("48b80000000078563412 48c1e820 e780")
# mov rbx, 200000h; mov rax, 1122334455667788h; mov [rbx], rax; mov rcx, [rbx + 8]; out 80h, al
EIGHT = bytes.fromhex("48c7c300002000 48b88877665544332211 488903 488b4b08 e680")


@pytest.fixture
def guest() -> Iterator[Guest]:
    """Memory of 1 MiB, with page tables at 0 that map the first GiB to itself; ports 80h-8Fh are trapped."""
    with Guest.create(memory=1 << 20) as guest:
        guest.write(struct.pack("<Q", 0x1000 | WRITABLE | PRESENT), 0)
        guest.write(struct.pack("<Q", 0x2000 | WRITABLE | PRESENT), 0x1000)
        pages = (number << 21 | LARGE | WRITABLE | PRESENT for number in range(512))
        guest.write(struct.pack("<512Q", *pages), 0x2000)
        guest.set_trap_io(0x80, 0x10, 0)
        yield guest


def vcpu_of(guest: Guest, image: bytes) -> Vcpu:
    guest.write(image, ENTRY)
    return Vcpu.create(guest, ENTRY, mode="long")


def access(vcpu: Vcpu) -> kvmbind.Access | None:
    with pytest.raises(kvmbind.NotFoundError) as caught:
        vcpu.enter()
    return caught.value.access


def test_it_runs_64_bit_code_from_its_entry_on_with_registers_of_zero(guest: Guest) -> None:
    with vcpu_of(guest, WIDE) as vcpu:
        assert vcpu.read_state() == VcpuState()
        assert vcpu.enter().guest_io.u32 == 0x12345678
        assert vcpu.read_state().rax == 0x12345678


def test_a_started_vcpu_may_be_in_long_mode_too(guest: Guest) -> None:
    seen = list[int]()
    guest.write(WIDE, ENTRY)

    def on_packet(vcpu: Vcpu, packet: kvmbind.PortPacket) -> None:
        seen.append(packet.guest_io.u32)
        vcpu.kick()

    with guest.start_vcpu(ENTRY, mode="long", on_packet=on_packet) as vcpu:
        vcpu.join(60)
    assert seen == [0x12345678]


def test_a_write_of_8_bytes_is_two_of_4_low_half_first(guest: Guest) -> None:
    with vcpu_of(guest, EIGHT) as vcpu:
        for addr, data in [(HOLE, "88776655"), (HOLE + 4, "44332211")]:
            assert access(vcpu) == kvmbind.Access("memory", addr, 4, is_write=True, data=bytes.fromhex(data))


def test_a_read_of_8_bytes_is_two_of_4_low_half_first_each_with_its_answer(guest: Guest) -> None:
    with vcpu_of(guest, EIGHT) as vcpu:
        access(vcpu)
        access(vcpu)
        for addr, value in [(HOLE + 8, 0xCAFEBABE), (HOLE + 12, 0x01234567)]:
            assert access(vcpu) == kvmbind.Access("memory", addr, 4, is_write=False)
            assert vcpu.read_state().rcx == 0
            with pytest.raises(kvmbind.BadStateError, match="answer its read"):
                vcpu.write_state(VcpuState())
            vcpu.write_io(VcpuIo(access_size=4, u32=value))
        assert vcpu.read_state().rcx == 0x01234567_CAFEBABE
        assert vcpu.enter().guest_io.port == 0x80


def test_a_half_that_nobody_answers_is_all_ones(guest: Guest) -> None:
    with vcpu_of(guest, EIGHT) as vcpu:
        for _ in range(4):
            access(vcpu)
        vcpu.write_io(VcpuIo(access_size=4, u32=5))
        vcpu.enter()
        assert vcpu.read_state().rcx == 0x00000005_FFFFFFFF


def test_a_kick_between_the_halves_loses_neither(guest: Guest) -> None:
    with vcpu_of(guest, EIGHT) as vcpu:
        access(vcpu)
        vcpu.kick()
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter()
        second = access(vcpu)
        assert second is not None
        assert second.addr == HOLE + 4
        for value in (1, 2):
            access(vcpu)
            vcpu.write_io(VcpuIo(access_size=4, u32=value))
            vcpu.kick()
            with pytest.raises(kvmbind.CanceledError):
                vcpu.enter()
        vcpu.enter()
        assert vcpu.read_state().rcx == 0x00000002_00000001


def test_8_bytes_to_and_from_trapped_memory_are_two_packets_each_low_half_first(guest: Guest) -> None:
    guest.set_trap_mem(HOLE, 4096, 7)
    with vcpu_of(guest, EIGHT) as vcpu:
        for addr, data in [(HOLE, 0x55667788), (HOLE + 4, 0x11223344)]:
            packet = vcpu.enter()
            mem = packet.guest_mem
            assert (packet.key, mem.addr, mem.access_size, mem.read, mem.data) == (7, addr, 4, 0, data)
        for addr, value in [(HOLE + 8, 0xCAFEBABE), (HOLE + 12, 0x01234567)]:
            mem = vcpu.enter().guest_mem
            assert (mem.addr, mem.access_size, mem.read) == (addr, 4, 1)
            vcpu.write_io(VcpuIo(access_size=4, u32=value))
        assert vcpu.read_state().rcx == 0x01234567_CAFEBABE


# mov rbx, 200000h; mov [rbx], rax; mov [rbx + 8], rax; out 80h, al
RINGS = bytes.fromhex("48c7c300002000 488903 48894308 e680")


def test_a_store_of_8_bytes_to_a_bell_is_one_ring_counted_or_by_exit(guest: Guest) -> None:
    with kvmbind.Port.create() as port, vcpu_of(guest, RINGS) as vcpu:
        guest.set_trap_bell(HOLE, 4096, port, 7)
        assert vcpu.enter().guest_io.port == 0x80
        assert [port.wait(0).guest_bell.addr for _ in range(2)] == [HOLE, HOLE + 8]
        with pytest.raises(kvmbind.TimedOutError):
            port.wait(0)
        assert vcpu.returns == 2
