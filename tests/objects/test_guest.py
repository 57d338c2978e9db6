"""Guest: its memory as bytes, what it is made with, and its end."""

from __future__ import annotations

import gc
import math
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kvmbind
from kvmbind import Guest, Vmo
from kvmbind.guests import COUNTER, PORT_LOOP
from kvmbind.zx import ZX_RIGHT_INSPECT, ZX_RIGHT_MANAGE_PROCESS, ZX_RIGHT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Boot

pytestmark = pytest.mark.kvm

PAGE, MIB = 4096, 1 << 20


@pytest.fixture
def patched() -> Iterator[Guest]:
    """A guest with memory at 0..2 pages, of two VMOs, and at 3..4 pages, of the first again."""
    with Guest.create() as guest, Vmo.create(2 * PAGE) as first, Vmo.create(PAGE) as second:
        guest.vmar.map(first, 0, length=PAGE)
        guest.vmar.map(second, PAGE)
        guest.vmar.map(first, 3 * PAGE, vmo_offset=PAGE)
        yield guest


def test_memory_is_rounded_up_to_pages_and_mapped_at_0() -> None:
    with Guest.create(memory=5000) as guest:
        assert guest.memory.size == 2 * PAGE
        guest.write(b"last", 2 * PAGE - 4)
        assert guest.memory.read(2 * PAGE - 4, 4) == b"last"


def test_a_guest_without_memory_says_so() -> None:
    with Guest.create() as guest:
        with pytest.raises(kvmbind.BadStateError, match="made without memory"):
            guest.memory  # noqa: B018
        with pytest.raises(kvmbind.OutOfRangeError):
            guest.read(0, 1)


def test_a_guest_from_a_raw_handle_has_neither_vmar_nor_memory_but_its_bytes(kvm_guest: Guest) -> None:
    kvm_guest.write(b"abc", 16)
    with Guest.borrow(kvm_guest.handle) as other:
        assert other.read(16, 3) == b"abc"
        with pytest.raises(kvmbind.BadStateError, match="raw handle"):
            other.vmar  # noqa: B018
        with pytest.raises(kvmbind.BadStateError):
            other.memory  # noqa: B018


def test_a_replaced_guest_keeps_memory_vmar_and_vcpus_and_a_released_one_gives_them_up() -> None:
    guest = Guest.create(memory=MIB)
    guest.write(COUNTER, 0x1000)
    vcpu = guest.start_vcpu(0x1000)
    with guest.replace(guest.rights) as other:
        assert other.memory.size == MIB
        assert other.vmar.rights == 0x801F
        guest.close()
        assert not vcpu.closed
    assert vcpu.closed
    guest = Guest.create(memory=MIB)
    with Guest(guest.release()) as other:
        gc.collect()
        other.write(b"still mapped", 0)
        assert other.read(0, 12) == b"still mapped"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 2 * PAGE))
def test_bytes_are_read_and_written_across_mappings(patched: Guest, data: bytes, addr: int) -> None:
    data = data[: 2 * PAGE - addr]
    patched.write(data, addr)
    assert patched.read(addr, len(data)) == data


@pytest.mark.parametrize(
    ("addr", "length"),
    [(2 * PAGE, 1), (2 * PAGE - 1, 2), (0, 4 * PAGE), (4 * PAGE - 1, 2), (-1, 1), (0, -1), (1 << 64, 1), (MIB, 0x10)],
)
def test_what_is_not_all_memory_is_out_of_range_and_changes_nothing(patched: Guest, addr: int, length: int) -> None:
    with pytest.raises(kvmbind.OutOfRangeError, match=r"^Guest\.read: OUT_OF_RANGE"):
        patched.read(addr, length)
    if length > 0:
        with pytest.raises(kvmbind.OutOfRangeError, match=r"^Guest\.write: OUT_OF_RANGE"):
            patched.write(b"\xff" * length, addr)
    assert patched.read(0, 2 * PAGE) == bytes(2 * PAGE)
    assert patched.read(3 * PAGE, PAGE) == bytes(PAGE)


def test_no_bytes_can_be_read_and_written_anywhere(patched: Guest) -> None:
    patched.write(b"", 5 * PAGE)
    assert patched.read(5 * PAGE, 0) == b""


def test_memory_past_the_end_of_a_vmo_is_none(patched: Guest) -> None:
    with Vmo.create(PAGE) as short:
        patched.vmar.map(short, 8 * PAGE, length=2 * PAGE)
    patched.read(8 * PAGE, PAGE)
    with pytest.raises(kvmbind.OutOfRangeError):
        patched.read(8 * PAGE, PAGE + 1)
    with pytest.raises(kvmbind.OutOfRangeError):
        patched.read_u32(9 * PAGE)


def test_a_dword_is_little_endian_at_any_address_of_one_mapping(patched: Guest) -> None:
    patched.write(bytes.fromhex("0011223344"), PAGE - 5)
    assert patched.read_u32(PAGE - 5) == 0x33221100
    assert patched.read_u32(PAGE - 4) == 0x44332211
    for addr in (PAGE - 3, PAGE - 1, 2 * PAGE - 3, 2 * PAGE, -4, 1 << 64):
        for look in (patched.read_u32, lambda addr: patched.wait_u32(addr, 0)):
            with pytest.raises(kvmbind.OutOfRangeError):
                look(addr)


def test_a_wait_for_a_dword_ends_as_soon_as_it_is_large_enough_as_an_unsigned_number(patched: Guest) -> None:
    patched.write(b"\xff\xff\xff\xff", 0)
    patched.wait_u32(0, 0xFFFFFFFF)
    patched.wait_u32(0, 5, timeout_s=0)
    results = list[int]()

    def wait() -> None:
        patched.wait_u32(8, 3, timeout_s=60)
        results.append(patched.read_u32(8))

    thread = threading.Thread(target=wait)
    thread.start()
    for value in (1, 2, 3):
        patched.write(value.to_bytes(4, "little"), 8)
    thread.join(60)
    assert results == [3]


@pytest.mark.parametrize("timeout_s", [0, 0.003, -1])
def test_a_wait_for_a_dword_times_out_and_says_what_it_is(patched: Guest, timeout_s: float) -> None:
    patched.write(b"\x07", 4)
    start = time.monotonic()
    with pytest.raises(kvmbind.TimedOutError, match=r"the dword at 0x4 is 7 after .* s, not yet 8"):
        patched.wait_u32(4, 8, timeout_s)
    assert time.monotonic() >= start + timeout_s


@pytest.mark.parametrize("at_least", [-1, 1 << 32])
def test_a_wait_for_what_no_dword_can_be_is_out_of_range(patched: Guest, at_least: int) -> None:
    with pytest.raises(kvmbind.OutOfRangeError, match="does not fit into 32 bits"):
        patched.wait_u32(0, at_least)


def test_a_wait_for_ever_may_be_said_with_infinity(patched: Guest) -> None:
    patched.wait_u32(0, 0, timeout_s=math.inf)


#: Each use, the right that it needs, and the call that the error names.
USES: list[tuple[str, int, Callable[[Guest], object]]] = [
    ("Guest.read", ZX_RIGHT_INSPECT, lambda guest: guest.read(0, 1)),
    ("Guest.read_u32", ZX_RIGHT_INSPECT, lambda guest: guest.read_u32(0)),
    ("Guest.wait_u32", ZX_RIGHT_INSPECT, lambda guest: guest.wait_u32(0, 0)),
    ("Guest.write", ZX_RIGHT_WRITE, lambda guest: guest.write(b"1", 0)),
    ("zx_guest_set_trap", ZX_RIGHT_WRITE, lambda guest: guest.set_trap_io(0x60, 1, 0)),
    ("zx_vcpu_create", ZX_RIGHT_MANAGE_PROCESS, lambda guest: guest.start_vcpu()),
]


@pytest.mark.parametrize(("call", "right", "use"), USES, ids=[use[0] for use in USES])
def test_a_use_needs_its_right_and_an_open_guest(
    kvm_guest: Guest, call: str, right: int, use: Callable[[Guest], object]
) -> None:
    with kvm_guest.duplicate(kvm_guest.rights & ~right) as less:
        with pytest.raises(kvmbind.AccessDeniedError, match=rf"^{call}: ACCESS_DENIED"):
            use(less)
        less.close()
        with pytest.raises(kvmbind.BadHandleError, match=rf"^{call}: BAD_HANDLE .*the Guest is closed"):
            use(less)


@pytest.mark.parametrize(
    ("port", "size", "key", "error"),
    [
        (-1, 1, 0, kvmbind.InvalidArgsError),
        (0, -1, 0, kvmbind.InvalidArgsError),
        (0, 1, -1, kvmbind.InvalidArgsError),
        (0, 1, 1 << 64, kvmbind.InvalidArgsError),
        (0, 0, 0, kvmbind.InvalidArgsError),
        (0xFFFF, 1, 0, kvmbind.OutOfRangeError),
        (0, 1 << 80, 0, kvmbind.OutOfRangeError),
        (0x42, 1, 0, kvmbind.AlreadyExistsError),
    ],
)
def test_traps_refuse_what_the_call_refuses(
    kvm_guest: Guest, port: int, size: int, key: int, error: type[kvmbind.ZxError]
) -> None:
    kvm_guest.set_trap_io(0x40, 4, 1)
    with pytest.raises(error, match=r"^zx_guest_set_trap: "):
        kvm_guest.set_trap_io(port, size, key)


@pytest.mark.parametrize(("irqchip", "pit"), [("split", False), ("pc", False), ("pc", True)])
def test_a_guest_runs_with_each_set_of_interrupt_controllers(irqchip: str, pit: bool) -> None:
    assert irqchip in ("split", "pc")
    with Guest.create(memory=MIB, irqchip="pc" if irqchip == "pc" else "split", pit=pit) as guest:
        guest.write(PORT_LOOP, 0x1000)
        guest.set_trap_io(0x80, 1, 5)
        with kvmbind.Vcpu.create(guest, 0x1000) as vcpu:
            assert [vcpu.enter().guest_io.u8 for _ in range(3)] == [0, 1, 2]
    kvmbind.settle()


# mov al, 34h; out 43h, al; in al, 40h; out 80h, al: the timer 8254, where there is one
TIMER = bytes.fromhex("b034 e643 e440 e680")


@pytest.mark.parametrize("pit", [False, True])
def test_the_kernels_timer_is_there_only_when_asked_for(pit: bool) -> None:
    with Guest.create(memory=MIB, irqchip="pc", pit=pit) as guest:
        guest.write(TIMER, 0x1000)
        guest.set_trap_io(0x40, 4, 40)
        guest.set_trap_io(0x80, 1, 80)
        with kvmbind.Vcpu.create(guest, 0x1000) as vcpu:
            assert vcpu.enter().key == (80 if pit else 40)


# PIC at vector 8, only line 1 unmasked; 7000h is 1 once that is so; the handler counts at 8000h.
LINE_1 = bytes.fromhex(
    "c70624002a008c0e2600bc0070b011e620b008e621b004e621b001e621b0fde621fbc606007001f4ebf866ff060080b020e620cf"
)


def test_an_edge_of_an_interrupt_line_reaches_the_guest_by_its_pic() -> None:
    with Guest.create(memory=MIB, irqchip="pc") as guest:
        guest.write(LINE_1, 0x1000)
        with guest.start_vcpu(0x1000):
            guest.wait_u32(0x7000, 1, timeout_s=60)
            for count in range(1, 11):
                guest.set_irq_line(1, True)
                guest.set_irq_line(1, False)
                guest.wait_u32(0x8000, count, timeout_s=60)


def test_a_guest_without_a_pic_or_not_yet_with_one_has_no_interrupt_lines() -> None:
    with Guest.create(irqchip="pc") as pc, Guest.create() as split, kvmbind.Vcpu.create(split):
        for guest in (pc, split):
            with pytest.raises(kvmbind.BadStateError, match="no VCPU yet, or no PIC"):
                guest.set_irq_line(1, True)
        for line in (-1, 24):
            with pytest.raises(kvmbind.InvalidArgsError, match="is not 0 to 23"):
                pc.set_irq_line(line, True)


@pytest.mark.parametrize(("irqchip", "pit"), [("split", True), ("none", False), ("", True)])
def test_other_sets_are_refused(irqchip: str, pit: bool) -> None:
    with pytest.raises(kvmbind.InvalidArgsError, match='only a "pc" has a PIT'):
        Guest.create(irqchip=irqchip, pit=pit)  # type: ignore[arg-type]


def test_a_resource_of_ones_own_makes_guests_and_stays_open() -> None:
    with kvmbind.Resource.root() as root:
        Guest.create(resource=root).close()
        Guest.create(resource=root).close()
        assert not root.closed


def test_a_missing_device_is_an_os_error_with_the_remedy() -> None:
    with pytest.raises(FileNotFoundError, match="load kvm_intel or kvm_amd"):
        kvmbind.Resource.root("/dev/there is none")


def test_memory_that_cannot_be_had_leaves_nothing_behind() -> None:
    kvmbind.settle()
    before = {thread.name for thread in threading.enumerate()}
    with pytest.raises(kvmbind.OutOfRangeError):
        Guest.create(memory=1 << 63)
    with pytest.raises(kvmbind.InvalidArgsError):
        Guest.create(memory=1 << 60)
    assert {thread.name for thread in threading.enumerate()} == before


def test_a_view_without_a_copy_sees_what_the_guest_writes_and_outlives_vmo_and_guest(boot: Boot) -> None:
    running = boot(COUNTER)
    with running.guest.memory.duplicate() as memory:
        view = memory.view()
    running.answer(lambda: running.vcpu.interrupt(0x40))
    assert bytes(view[0x8000:0x8004]) == b"\1\0\0\0"
    view[0x2000] = 9
    assert running.guest.read(0x2000, 1) == b"\x09"
    running.guest.close()
    assert bytes(view[0x8000:0x8004]) == b"\1\0\0\0"


def test_closing_a_guest_closes_the_vcpus_that_it_started_and_no_other(boot: Boot) -> None:
    running = boot(COUNTER, 3)
    with kvmbind.Vcpu.create(running.guest) as own:
        threads = [vcpu._runner._thread for vcpu in running.vcpus if vcpu._runner is not None]
        running.guest.close()
        assert all(vcpu.closed for vcpu in running.vcpus)
        assert [thread.is_alive() for thread in threads] == [False] * 3
        assert not own.closed
