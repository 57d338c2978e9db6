"""INT 11h, 12h, 14h, 15h, 18h to 1Ah: the system, the clock, the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.machine.ending import Reason

if TYPE_CHECKING:
    from tests.machine.conftest import Bench

MIB = 1 << 20
SMAP = 0x534D4150


def test_ticks_are_read_and_set_and_midnight_is_told_once(bench: Bench) -> None:
    assert bench.call(0x1A, ah=0x00).dx == 1000
    bench.call(0x1A, ah=0x01, cx=1, dx=2)
    bench.data.midnight = 1
    first, second = bench.call(0x1A), bench.call(0x1A)
    assert (first.cx, first.dx, first.al, second.al) == (1, 2, 1, 0)


def test_time_and_date_are_bcd(bench: Bench) -> None:
    time = bench.call(0x1A, ah=0x02)
    assert (time.ch, time.cl, time.dh, time.carry) == (0x13, 0x14, 0x15, False)
    date = bench.call(0x1A, ah=0x04)
    assert (date.ch, date.cl, date.dh, date.dl) == (0x20, 0x26, 0x11, 0x28)


def test_a_wait_takes_its_time_and_no_longer(bench: Bench) -> None:
    assert bench.call(0x15, ah=0x86, cx=0x0001, dx=0x86A0).is_resumed  # 100,000 us
    bench.host.pass_time(99_000_000)
    assert bench.again().is_resumed
    assert bench.host.lines == []
    bench.host.pass_time(2_000_000)
    assert bench.host.lines == [8]
    done = bench.again()
    assert (done.is_resumed, done.carry) == (False, False)


def test_a_wait_of_nothing_returns_at_once(bench: Bench) -> None:
    assert not bench.call(0x15, ah=0x86).is_resumed


def test_memory_sizes(bench: Bench) -> None:
    assert bench.call(0x12).ax == 639
    assert bench.call(0x15, ah=0x88).ax == 1024
    sizes = bench.call(0x15, ax=0xE801)
    assert (sizes.ax, sizes.bx, sizes.cx, sizes.dx, sizes.carry) == (1024, 0, 1024, 0, False)


def test_the_memory_map_is_walked_to_its_end(bench: Bench) -> None:
    ranges, following = [], 0
    while True:
        step = bench.call(0x15, eax=0xE820, ebx=following, ecx=20, edx=SMAP, es=0x500)
        assert (step.eax, step.ecx, step.carry) == (SMAP, 20, False)
        ranges.append((bench.memory.u32(0x5000), bench.memory.u32(0x5008), bench.memory.u32(0x5010)))
        following = step.ebx
        if not following:
            break
    assert ranges == [(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0xF0000, 0x10000, 2), (MIB, MIB, 1)]


@pytest.mark.parametrize("wrong", [{"edx": 0}, {"ecx": 19}, {"ebx": 4}])
def test_the_memory_map_refuses_what_is_no_question(bench: Bench, wrong: dict[str, int]) -> None:
    right = {"eax": 0xE820, "ebx": 0, "ecx": 20, "edx": SMAP, "es": 0x500}
    assert bench.call(0x15, **(right | wrong)).carry


def test_a_block_is_moved_from_and_to_anywhere(bench: Bench) -> None:
    table = bytearray(0x30)
    table[0x12:0x15], table[0x1A:0x1D] = (0x6000).to_bytes(3, "little"), (MIB + 0x100).to_bytes(3, "little")
    bench.memory.write(bytes(table), 0x5000)
    bench.memory.write(b"moved!", 0x6000)
    done = bench.call(0x15, ah=0x87, cx=3, es=0x500)
    assert (done.carry, done.ah) == (False, 0)
    assert bench.memory.read(MIB + 0x100, 8) == b"moved!\0\0"


def test_a20_is_on(bench: Bench) -> None:
    assert bench.call(0x15, ax=0x2402).al == 1
    assert not bench.call(0x15, ax=0x2401).carry


@pytest.mark.parametrize(
    ("vector", "ah", "carry", "status"),
    [(0x15, 0x53, True, 0x86), (0x15, 0x00, True, 0x86), (0x1A, 0xB1, True, 0xB1), (0x16, 0x77, True, 0x77)],
)
def test_an_unknown_function_says_so(bench: Bench, vector: int, ah: int, carry: bool, status: int) -> None:
    unknown = bench.call(vector, ah=ah)
    assert (unknown.carry, unknown.ah) == (carry, status)


@pytest.mark.parametrize(
    ("vector", "reason"), [(0x18, Reason.NO_BOOT), (0x19, Reason.REBOOT), (0x20, Reason.TERMINATED), (0, Reason.FAULT)]
)
def test_some_calls_are_the_end(bench: Bench, vector: int, reason: Reason) -> None:
    bench.call(vector)
    assert [end[0] for end in bench.host.ends] == [reason]


def test_the_serial_service_sends(bench: Bench) -> None:
    assert bench.call(0x14, ax=0x0141).ah == 0x60
    assert bench.serial.sent == b"A"
    assert bench.call(0x14, ax=0x0141, dx=1).ah == 0x80


def test_equipment_has_the_floppy_and_the_disk(bench: Bench) -> None:
    assert bench.call(0x11).ax & 1
    assert bench.data.disks == 1


# DOS


def test_dos_prints(bench: Bench) -> None:
    bench.memory.write(b"text\r\nmore$never", 0x5000)
    bench.call(0x21, ah=0x09, ds=0x500)
    bench.call(0x21, ah=0x02, dl=ord("!"))
    bench.call(0x29, al=ord("?"))
    written = bench.call(0x21, ah=0x40, bx=1, cx=4, ds=0x500)
    assert bench.screen == "text\nmore!?text"
    assert (written.ax, written.carry) == (4, False)


def test_dos_ends_with_a_status(bench: Bench) -> None:
    bench.call(0x21, ax=0x4C07)
    assert bench.host.ends == [(Reason.TERMINATED, 7, "")]


def test_dos_reads_keys_an_extended_one_in_two_parts(bench: Bench) -> None:
    bench.call(0x16, ah=0x05, cx=0x4800)
    bench.call(0x16, ah=0x05, cx=0x1E61)
    assert [bench.call(0x21, ah=0x08).al for _ in range(3)] == [0, 0x48, ord("a")]
    assert bench.call(0x21, ah=0x07).is_resumed


def test_dos_polls_keys(bench: Bench) -> None:
    assert bench.call(0x21, ah=0x0B).al == 0
    assert bench.call(0x21, ah=0x06, dl=0xFF).zero
    bench.call(0x16, ah=0x05, cx=0x1E61)
    assert bench.call(0x21, ah=0x0B).al == 0xFF
    key = bench.call(0x21, ah=0x06, dl=0xFF)
    assert (key.zero, key.al) == (False, ord("a"))


def test_dos_reads_a_line_with_corrections(bench: Bench) -> None:
    bench.memory.write(b"\x05\0", 0x5000)
    assert bench.call(0x21, ah=0x0A, ds=0x500).is_resumed
    for character in b"axx\b\bbcdefg\r":
        bench.data.key_head = bench.data.key_tail = 0x1E
        bench.memory.write(bytes((character, 0x1E)), 0x41E)
        bench.data.key_tail = 0x20
        last = bench.again()
    assert not last.is_resumed
    assert bench.memory.read(0x5001, 6) == b"\x04abcd\r"
    assert bench.screen == "abcd"


def test_dos_has_no_files_and_says_so(bench: Bench) -> None:
    opened = bench.call(0x21, ax=0x3D00)
    assert (opened.carry, opened.ax) == (True, 2)
    unknown = bench.call(0x21, ah=0xEE)
    assert (unknown.carry, unknown.ax) == (True, 1)


def test_dos_sets_and_gets_vectors(bench: Bench) -> None:
    bench.call(0x21, ax=0x2560, ds=0x1234, dx=0x5678)
    found = bench.call(0x21, ax=0x3560)
    assert (found.es, found.bx) == (0x1234, 0x5678)
