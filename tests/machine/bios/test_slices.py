"""Services that take long work in slices: they lose nothing, and between two the machine may end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import Machine
from kvmbind.machine.ending import Reason
from tests.machine.conftest import Bench

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.machine.conftest import Assemble

    Make = Callable[..., Machine]

MS = 1_000_000
TEXT = (b"The quick brown fox\r\n\tjumps over \a\b the lazy dog. " * 4)[:180]
ATTRIBUTED = b"".join(bytes((character, 1 + at % 15)) for at, character in enumerate(TEXT))

#: Services, by what they are called with.
CALLS = {
    "21/09 print string": {"vector": 0x21, "ax": 0x0900, "ds": 0x2000},
    "21/40 write file": {"vector": 0x21, "ax": 0x4000, "bx": 1, "cx": len(TEXT), "ds": 0x2000},
    "10/13 write string": {"vector": 0x10, "ax": 0x1301, "bx": 7, "cx": len(TEXT), "dx": 0x0102, "es": 0x2000},
    "10/13 cursor stays": {"vector": 0x10, "ax": 0x1300, "bx": 7, "cx": len(TEXT), "dx": 0x0102, "es": 0x2000},
    "10/13 attributes": {"vector": 0x10, "ax": 0x1303, "cx": len(TEXT), "dx": 0x0102, "es": 0x3000},
    "10/09 write cell": {"vector": 0x10, "ax": 0x0941, "bx": 0x87, "cx": 2000},
    "10/0A write character": {"vector": 0x10, "ax": 0x0A41, "bx": 7, "cx": 100},
}


def run(bench: Bench, mode: int, call: dict[str, int]) -> tuple[object, int]:
    """Returns all that a call has done, and how often it asked again."""
    bench.video.set_mode(mode)
    bench.memory.write(TEXT + b"$", 0x20000)
    bench.memory.write(ATTRIBUTED, 0x30000)
    bench.data.set_cursor(0, 20, 3)
    found = bench.call(**call)
    asked = 0
    while bench.wants_more:
        found = bench.again()
        asked += 1
    registers = found.eax, found.ebx, found.ecx, found.edx, found.carry
    return (registers, bench.video.frame(), bench.data.cursor(0), bytes(bench.host.printed), bench.bios.calls), asked


@pytest.mark.parametrize("mode", [0x03, 0x12, 0x13], ids="mode {:02x}h".format)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_service_does_in_slices_what_it_does_at_once(bench: Bench, mode: int, call: dict[str, int]) -> None:
    at_once, asked = run(bench, mode, call)
    assert asked == 0
    slow = Bench()
    slow.host.look_ns = MS // 3
    in_slices, asked = run(slow, mode, call)
    assert in_slices == at_once
    assert asked > 10 or (mode == 0x03 and call["vector"] == 0x10 and call["ax"] < 0x1000)


def test_a_line_that_comes_from_a_spoilt_ring_of_keys_is_asked_for_again(bench: Bench) -> None:
    bench.memory.write(b"\xff\x00", 0x5000)
    bench.data.key_head, bench.data.key_tail = 0x1E, 0x7FFF
    bench.memory.write(b"a\x1e" * 16, 0x41E)
    bench.call(0x21, ah=0x0A, ds=0x500)
    assert bench.wants_more
    before = bench.memory.u8(0x5001)
    bench.again()
    assert bench.memory.u8(0x5001) > before > 0


#: Prints 64 KiB, among which there is no dollar, in a mode where that takes long.
ENDLESS = """
    mov $0x0012, %ax
    int $0x10
    mov $0x2000, %ax
    mov %ax, %ds
    mov %ax, %es
    xor %di, %di
    mov $0x8000, %cx
    mov $0x4141, %ax
    cld
    rep stosw
    {call}
    int $0x20
"""
LONG_CALLS = {
    "21/09": "xor %dx, %dx; mov $9, %ah; int $0x21",
    "21/40": "xor %dx, %dx; mov $0xffff, %cx; mov $1, %bx; mov $0x40, %ah; int $0x21",
    "10/13": "xor %dx, %dx; mov $0xffff, %cx; mov $7, %bx; xor %bp, %bp; mov $0x1301, %ax; int $0x10",
}


@pytest.mark.kvm
@pytest.mark.parametrize("call", LONG_CALLS.values(), ids=LONG_CALLS)
def test_a_run_ends_in_the_middle_of_a_service_that_takes_long(assemble: Assemble, machine: Make, call: str) -> None:
    made = machine(assemble.boot_sector(ENDLESS.format(call=call)))
    ending = made.run(0.5)
    assert ending.reason is Reason.TIMEOUT
    assert 0 < len(ending.console) < 0xFFFF
    assert (ending.registers["cs"], ending.registers["ds"]) == (0, 0x2000)
    assert sum(made.pc.bios.calls.values()) == 2


@pytest.mark.kvm
def test_ticks_go_on_while_a_service_takes_long(assemble: Assemble, machine: Make) -> None:
    """The timer is set to 16 times its rate; what came between two looks would be one tick."""
    source = """
        mov $0x34, %al
        out %al, $0x43
        xor %al, %al
        out %al, $0x40
        mov $0x10, %al
        out %al, $0x40
        mov $0x40, %ax
        mov %ax, %fs
        mov %fs:0x6c, %ebp
        mov $0x8000, %cx
        mov $1, %bx
        mov $0x40, %ah
        int $0x21
        mov %fs:0x6c, %eax
        sub %ebp, %eax
        mov $0x3f8, %dx
        cmp $3, %eax
        setae %al
        out %al, %dx
        int $0x20
    """
    ending = machine(assemble.boot_sector(source)).run(60)
    assert (ending.reason, ending.serial) == (Reason.TERMINATED, b"\x01")
