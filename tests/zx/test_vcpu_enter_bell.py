"""Bell traps: which stores ring, in which order their packets come, what is held back, and what a closed port does."""

from __future__ import annotations

import select
import struct
import threading
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import zx
from kvmbind.zx import (
    ZX_GUEST_TRAP_BELL,
    ZX_GUEST_TRAP_IO,
    ZX_GUEST_TRAP_MEM,
    ZX_PKT_TYPE_GUEST_BELL,
    ZX_PKT_TYPE_GUEST_IO,
    ZX_PKT_TYPE_GUEST_MEM,
    ZX_PKT_TYPE_USER,
    ZX_TIME_INFINITE_PAST,
    ZX_VCPU_IO,
    PortPacket,
    Status,
    VcpuIo,
)

if TYPE_CHECKING:
    from tests.zx.conftest import GuestHandles, Maker, Running

pytestmark = pytest.mark.kvm

OK = Status.OK
BELL = 0xD0000
PAGE = 4096
KEY = 0x1122_3344_5566_7788
EXITS_MAX = 256
NOTHING = (Status.TIMED_OUT, PortPacket())

#: mov ax, D000h; mov ds, ax; mov es, ax
START = bytes.fromhex("b800d0 8ed8 8ec0")
#: out 80h, al; then for ever: hlt
DONE = bytes.fromhex("e680 fa f4 ebfd")


def byte_to(offset: int) -> bytes:
    """Mov byte ptr [offset], 1."""
    return b"\xc6\x06" + offset.to_bytes(2, "little") + b"\x01"


def bytes_from(offset: int, count: int) -> bytes:
    """Mov di, offset; mov cx, count; rep stosb: a byte to each of so many addresses, one exit for each."""
    return b"\xbf" + offset.to_bytes(2, "little") + b"\xb9" + count.to_bytes(2, "little") + b"\xf3\xaa"


def many_to_the_first(count: int) -> bytes:
    """Mov cx, count; again: mov [0], al; loop again."""
    return b"\xb9" + count.to_bytes(2, "little") + bytes.fromhex("a20000 e2fb")


def guest_with_a_bell(make: Maker, code: bytes, *, size: int = PAGE) -> tuple[GuestHandles, int]:
    """A guest that runs `code` and then says so at port 80h, and the port of its bell."""
    made, port = make.guest(START + code + DONE), make.port()
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_BELL, BELL, size, port, KEY) is OK
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0) is OK
    return made, port


def at_the_end(vcpu: int) -> bool:
    status, packet = zx.zx_vcpu_enter(vcpu)
    return status is OK and (packet.type, packet.guest_io.port) == (ZX_PKT_TYPE_GUEST_IO, 0x80)


def next_addr(port: int) -> int:
    """The address of the packet that waits, from the bell's first on."""
    status, packet = zx.zx_port_wait(port, ZX_TIME_INFINITE_PAST)
    assert status is OK
    made = PortPacket(key=KEY, type=ZX_PKT_TYPE_GUEST_BELL)
    made.guest_bell.addr = packet.guest_bell.addr
    assert packet == made
    return packet.guest_bell.addr - BELL


def wait_addr(port: int) -> int:
    """The same, of the packet that comes."""
    status, packet = zx.zx_port_wait(port, zx.zx_deadline_after(60 * 10**9))
    assert status is OK
    return packet.guest_bell.addr - BELL


def is_readable(port: int) -> bool:
    return bool(select.select([kvmbind.Port.borrow(port)], [], [], 0)[0])


def test_each_store_is_a_packet_with_its_exact_address_and_the_vcpu_runs_on(make: Maker) -> None:
    offsets = [0, 8, 1, 0xFFF, 0, 0, 2]
    made, port = guest_with_a_bell(make, b"".join(map(byte_to, offsets)))
    assert at_the_end(make.vcpu(made.guest))
    assert [next_addr(port) for _ in offsets] == offsets
    assert zx.zx_port_wait(port, 0) == NOTHING


def test_stores_to_the_first_address_make_no_exit_and_have_no_limit(make: Maker) -> None:
    made, port = guest_with_a_bell(make, many_to_the_first(5000))
    vcpu = make.vcpu(made.guest)
    assert at_the_end(vcpu)
    assert kvmbind.Vcpu.borrow(vcpu).returns == 1  # the end
    assert [next_addr(port) for _ in range(5000)] == [0] * 5000
    assert zx.zx_port_wait(port, 0) == NOTHING


def test_stores_to_the_rest_are_exits_that_enter_does_not_return_from(make: Maker) -> None:
    made, port = guest_with_a_bell(make, bytes_from(1, 100))
    vcpu = make.vcpu(made.guest)
    assert at_the_end(vcpu)
    assert kvmbind.Vcpu.borrow(vcpu).returns == 101
    assert [next_addr(port) for _ in range(100)] == list(range(1, 101))


@pytest.mark.parametrize("offset", [0, 4])
@pytest.mark.parametrize(
    "store",
    [b"\xa2", b"\xa3", b"\x66\xa3"],  # mov [offset], al; ax; eax
    ids=["1 byte", "2 bytes", "4 bytes"],
)
def test_a_store_of_any_width_is_one_ring(make: Maker, store: bytes, offset: int) -> None:
    made, port = guest_with_a_bell(make, store + offset.to_bytes(2, "little"))
    assert at_the_end(make.vcpu(made.guest))
    assert next_addr(port) == offset
    assert zx.zx_port_wait(port, 0) == NOTHING


def test_the_order_of_one_vcpus_stores_is_kept_between_counted_ones_and_exits(make: Maker) -> None:
    code, expected = b"", []
    for round in range(1, 60):
        code += many_to_the_first(round) + byte_to(round)
        expected += [0] * round + [round]
    made, port = guest_with_a_bell(make, code)
    assert at_the_end(make.vcpu(made.guest))
    assert [next_addr(port) for _ in expected] == expected
    assert zx.zx_port_wait(port, 0) == NOTHING


def test_a_bell_of_several_pages_is_one_and_only_its_first_address_makes_no_exit(make: Maker) -> None:
    made, port = guest_with_a_bell(make, byte_to(0) + byte_to(PAGE) + byte_to(2 * PAGE - 1), size=2 * PAGE)
    vcpu = make.vcpu(made.guest)
    assert at_the_end(vcpu)
    assert [next_addr(port) for _ in range(3)] == [0, PAGE, 2 * PAGE - 1]
    assert kvmbind.Vcpu.borrow(vcpu).returns == 3


def test_a_store_over_the_edge_of_a_bell_rings_it_with_the_address_that_lies_in_it(make: Maker) -> None:
    before = b"\x66\xc7\x06" + (0xFFE).to_bytes(2, "little") + b"\x11\x22\x33\x44"  # mov dword ptr [FFEh]
    made = make.guest(START + before + DONE)
    port = make.port()
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_MEM, BELL, PAGE, 0, 5) is OK
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_BELL, BELL + PAGE, PAGE, port, KEY) is OK
    assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0) is OK
    vcpu = make.vcpu(made.guest)
    status, packet = zx.zx_vcpu_enter(vcpu)
    assert (status, packet.key, packet.type) == (OK, 5, ZX_PKT_TYPE_GUEST_MEM)
    assert (packet.guest_mem.addr, packet.guest_mem.access_size, packet.guest_mem.data) == (BELL + 0xFFE, 2, 0x2211)
    assert at_the_end(vcpu)
    assert next_addr(port) == PAGE
    assert zx.zx_port_wait(port, 0) == NOTHING


@pytest.mark.parametrize("offset", [0, 4])
def test_a_load_is_not_supported_and_gives_all_ones_unless_it_is_answered(make: Maker, offset: int) -> None:
    load = b"\xa0" + offset.to_bytes(2, "little") + b"\xe6\x80"  # mov al, [offset]; out 80h, al
    made, port = guest_with_a_bell(make, load + load)
    vcpu = make.vcpu(made.guest)
    assert zx.zx_vcpu_enter(vcpu) == (Status.NOT_SUPPORTED, PortPacket())
    assert zx.zx_vcpu_enter(vcpu)[1].guest_io.u8 == 0xFF
    assert zx.zx_vcpu_enter(vcpu) == (Status.NOT_SUPPORTED, PortPacket())
    assert zx.zx_vcpu_write_state(vcpu, ZX_VCPU_IO, VcpuIo(access_size=1, u32=0x42)) is OK
    assert zx.zx_vcpu_enter(vcpu)[1].guest_io.u8 == 0x42
    assert zx.zx_port_wait(port, 0) == NOTHING


@pytest.mark.parametrize("offset", [0, 4])
def test_the_load_of_a_read_modify_write_is_not_supported_and_its_store_rings(make: Maker, offset: int) -> None:
    made, port = guest_with_a_bell(make, b"\xfe\x06" + offset.to_bytes(2, "little"))  # inc byte ptr [offset]
    vcpu = make.vcpu(made.guest)
    assert zx.zx_vcpu_enter(vcpu) == (Status.NOT_SUPPORTED, PortPacket())
    assert zx.zx_port_wait(port, 0) == NOTHING
    assert at_the_end(vcpu)
    assert next_addr(port) == offset


def test_a_refused_load_says_what_it_was(make: Maker) -> None:
    made, _ = guest_with_a_bell(make, bytes.fromhex("a10400"))  # mov ax, [4]
    with pytest.raises(kvmbind.NotSupportedError, match="a bell can only be written") as caught:
        kvmbind.Vcpu.borrow(make.vcpu(made.guest)).enter()
    assert caught.value.access == kvmbind.Access("memory", BELL + 4, 2, is_write=False)


@pytest.mark.parametrize("offset", [0, 4])
def test_a_ring_of_a_closed_port_is_bad_state_once_and_the_vcpu_goes_on_behind_it(make: Maker, offset: int) -> None:
    made, port = guest_with_a_bell(make, byte_to(offset) + byte_to(offset))
    zx.zx_handle_close(port)
    vcpu = make.vcpu(made.guest)
    for _ in range(2):
        assert zx.zx_vcpu_enter(vcpu) == (Status.BAD_STATE, PortPacket())
    assert at_the_end(vcpu)


def test_a_bell_rings_as_long_as_any_handle_of_its_port_is_open(make: Maker) -> None:
    made, port = guest_with_a_bell(make, byte_to(0) + byte_to(4))
    other = make.keep(zx.zx_handle_duplicate(port, zx.ZX_RIGHT_SAME_RIGHTS))
    zx.zx_handle_close(port)
    assert at_the_end(make.vcpu(made.guest))
    assert [next_addr(other), next_addr(other)] == [0, 4]


def test_the_257th_ring_by_exit_is_held_until_one_is_taken(make: Maker) -> None:
    running, port = held(make, 3)
    assert [wait_addr(port) for _ in range(EXITS_MAX + 3)] == list(range(1, EXITS_MAX + 4))
    make.until(lambda: running.statuses == [OK])
    assert zx.zx_port_wait(port, 0) == NOTHING


def held(make: Maker, more: int = 1) -> tuple[Running, int]:
    """A VCPU on another thread that has rung as often as it may, and the port."""
    made, port = guest_with_a_bell(make, bytes_from(1, EXITS_MAX + more))
    running = make.running(made.guest)
    make.until(lambda: kvmbind.Vcpu.borrow(running.vcpu).returns == EXITS_MAX + 1)
    return running, port


def held_vcpu(make: Maker, behind: bytes = b"") -> tuple[int, int]:
    """A VCPU of this thread that has rung as often as it may and is to ring once more, and the port."""
    made, port = guest_with_a_bell(make, bytes_from(1, EXITS_MAX + 1) + behind)
    return make.vcpu(made.guest), port


def test_a_held_vcpu_is_kicked_out_and_keeps_its_ring(make: Maker) -> None:
    vcpu, port = held_vcpu(make)
    for _ in range(3):
        zx.zx_vcpu_kick(vcpu)
        assert zx.zx_vcpu_enter(vcpu) == (Status.CANCELED, PortPacket())
    kicker = threading.Timer(0.05, zx.zx_vcpu_kick, [vcpu])
    kicker.start()
    assert zx.zx_vcpu_enter(vcpu) == (Status.CANCELED, PortPacket())
    kicker.join()
    assert next_addr(port) == 1
    assert at_the_end(vcpu)
    assert [next_addr(port) for _ in range(EXITS_MAX)] == list(range(2, EXITS_MAX + 2))


def test_a_held_vcpu_stops_at_its_deadline_and_keeps_its_ring(make: Maker) -> None:
    vcpu, port = held_vcpu(make)
    held = kvmbind.Vcpu.borrow(vcpu)
    while held.returns < EXITS_MAX + 1:
        with pytest.raises(kvmbind.TimedOutError):
            held.enter(timeout_s=0.02)
    with pytest.raises(kvmbind.TimedOutError):
        held.enter(timeout_s=0.02)
    assert [next_addr(port) for _ in range(EXITS_MAX)] == list(range(1, EXITS_MAX + 1))
    assert at_the_end(vcpu)
    assert next_addr(port) == EXITS_MAX + 1


def test_the_limit_is_of_exits_only_counted_rings_come_between_them(make: Maker) -> None:
    code = b"".join(many_to_the_first(3) + byte_to(offset) for offset in range(1, EXITS_MAX + 1))
    made, port = guest_with_a_bell(make, code + many_to_the_first(9))
    assert at_the_end(make.vcpu(made.guest))
    expected = [addr for offset in range(1, EXITS_MAX + 1) for addr in (0, 0, 0, offset)] + [0] * 9
    assert [next_addr(port) for _ in expected] == expected
    assert zx.zx_port_wait(port, 0) == NOTHING


def test_closing_the_port_lets_a_held_vcpu_go_with_bad_state(make: Maker) -> None:
    running, port = held(make)
    assert running.statuses == []
    zx.zx_handle_close(port)
    running.join()
    assert running.statuses == [Status.BAD_STATE]


def test_memory_changes_beside_a_held_vcpu(make: Maker) -> None:
    made, port = guest_with_a_bell(make, bytes_from(1, EXITS_MAX + 1))
    running = make.running(made.guest)
    make.until(lambda: kvmbind.Vcpu.borrow(running.vcpu).returns == EXITS_MAX + 1)
    for page in range(8):
        assert zx.zx_vmar_unmap(made.vmar, 0xE0000 + page * PAGE, PAGE) is OK
        assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_MEM, 0xE0000 + page * PAGE, PAGE, 0, 0) is OK
    assert running.statuses == []
    assert [wait_addr(port) for _ in range(EXITS_MAX + 1)] == list(range(1, EXITS_MAX + 2))
    make.until(lambda: running.statuses == [OK])


def test_closing_a_held_vcpu_ends_it(make: Maker) -> None:
    running, _ = held(make)
    assert zx.zx_handle_close(running.vcpu) is OK
    running.join()


def test_the_ports_fd_is_readable_exactly_while_a_ring_waits(make: Maker) -> None:
    made, port = guest_with_a_bell(make, byte_to(0) + byte_to(0) + byte_to(9) + byte_to(0))
    assert not is_readable(port)
    assert at_the_end(make.vcpu(made.guest))
    for offset in (0, 0, 9, 0):
        assert is_readable(port)
        assert next_addr(port) == offset
    assert not is_readable(port)


def test_the_packets_of_a_trap_end_with_its_guest_and_those_of_others_stay(make: Maker) -> None:
    port = make.port()
    guests = []
    for key in (1, 2):
        status, guest, vmar = zx.zx_guest_create(make.resource(), 0)
        assert status is OK
        vmo = make.vmo(1 << 20)
        assert zx.zx_vmo_write(vmo, START + byte_to(0) + byte_to(4) + DONE, 0x1000) is OK
        make.map(vmar, vmo, 0, 1 << 20)
        assert zx.zx_guest_set_trap(guest, ZX_GUEST_TRAP_BELL, BELL, PAGE, port, key) is OK
        assert zx.zx_guest_set_trap(guest, ZX_GUEST_TRAP_IO, 0x80, 1, 0, 0) is OK
        status, vcpu = zx.zx_vcpu_create(guest, 0, 0x1000)
        assert at_the_end(vcpu)
        guests.append((guest, vmar, vcpu))
    assert zx.zx_port_queue(port, PortPacket(key=1)) is OK
    assert zx.zx_handle_close_many(guests[0]) is OK
    taken = [zx.zx_port_wait(port, 0)[1] for _ in range(3)]
    assert sorted((packet.type, packet.key) for packet in taken) == [
        (ZX_PKT_TYPE_USER, 1),
        (ZX_PKT_TYPE_GUEST_BELL, 2),
        (ZX_PKT_TYPE_GUEST_BELL, 2),
    ]
    assert zx.zx_port_wait(port, 0) == NOTHING
    assert zx.zx_handle_close_many(guests[1]) is OK


def test_a_guest_may_end_before_or_after_the_port_of_its_bell(make: Maker) -> None:
    for first_the_port in (True, False):
        status, guest, vmar = zx.zx_guest_create(make.resource(), 0)
        assert status is OK
        _, port = zx.zx_port_create(0)
        assert zx.zx_guest_set_trap(guest, ZX_GUEST_TRAP_BELL, BELL, PAGE, port, 0) is OK
        order = [port, guest, vmar] if first_the_port else [guest, vmar, port]
        assert zx.zx_handle_close_many(order) is OK


def test_several_bells_and_vcpus_lose_no_ring_and_deliver_none_twice_to_several_waiters(make: Maker) -> None:
    rings, bells = 3000, 3
    port, lock = make.port(), threading.Lock()
    counts: dict[tuple[int, int], int] = {}
    total = bells * (rings + rings // 10)

    def take() -> None:
        while True:
            status, packet = zx.zx_port_wait(port, zx.zx_deadline_after(60 * 10**9))
            if status is not OK or packet.type == ZX_PKT_TYPE_USER:
                return
            with lock:
                place = (packet.key, packet.guest_bell.addr)
                counts[place] = counts.get(place, 0) + 1

    takers = [threading.Thread(target=take) for _ in range(3)]
    for taker in takers:
        taker.start()
    for key in range(bells):
        # mov cx, rings / 10; again: ten times mov [0], al; mov [8], al; loop again
        body = bytes.fromhex("a20000") * 10 + bytes.fromhex("a20800")
        back = struct.pack("<Bb", 0xE2, -len(body) - 2)
        made = make.guest(START + b"\xb9" + struct.pack("<H", rings // 10) + body + back + DONE)
        assert zx.zx_guest_set_trap(made.guest, ZX_GUEST_TRAP_BELL, BELL, PAGE, port, key) is OK
        make.running(made.guest)
    make.until(lambda: sum(counts.values()) >= total)
    for _ in takers:
        assert zx.zx_port_queue(port, PortPacket()) is OK
    for taker in takers:
        taker.join(60)
    expected = {(key, BELL): rings for key in range(bells)} | {(key, BELL + 8): rings // 10 for key in range(bells)}
    assert counts == expected
