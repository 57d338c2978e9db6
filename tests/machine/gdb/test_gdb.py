"""gdb and machines: what it reads, where it stops, and who goes on when it leaves."""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Machine
from kvmbind.machine.ending import Reason
from kvmbind.machine.gdb.packets import frame

if TYPE_CHECKING:
    from tests.machine.conftest import Assemble
    from tests.machine.gdb.conftest import Client

    Make = Callable[..., Machine]
    Debug = Callable[..., str]
    Connect = Callable[[tuple[str, int]], Client]

pytestmark = pytest.mark.kvm

DEADLINE_S = 60

REAL_MODE = """
    ljmp $0x7c0, $start - 0x7c00    # the same bytes behind another CS
start:
    mov $0x1234, %ax
    mov $0x6000, %bx
    inc %ax
    mov %ax, (%bx)
    cli
    hlt
"""

# INT 60h has a handler of its own, at 7D00h
LOOP = """
    movl $0x7d00, 4 * 0x60
1:  inc %ax
    inc %bx
    inc %cx
    inc %dx
    inc %si
    incw 0x6000
    int $0x60
    jmp 1b
    .org 0x100
    inc %di
    iret
"""
LOOP_START = 0x7C09

PROTECTED_MODE = """
    cli
    lgdtl table
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmp $8, $flat
    .org 0x100
    .code32
flat:
    mov $16, %ax
    mov %ax, %ds
    mov $0x12345678, %ebx
1:  inc %ebx
    mov %ebx, 0x100000
    jmp 1b
    .code16
table: .word 23
    .long descriptors
descriptors:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
"""
FLAT, PROTECTED_LOOP = 0x7D00, 0x7D0B

# One page of 2 MiB at 0
LONG_MODE = """
    cli
    movl $0x2003, 0x1000
    movl $0x3003, 0x2000
    movl $0x83, 0x3000
    mov $0x1000, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %al
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $1, %ah
    wrmsr
    lgdtl table
    mov %cr0, %eax
    or $0x80000001, %eax
    mov %eax, %cr0
    ljmp $8, $long
    .org 0x100
    .code64
long:
    mov $0x1122334455667788, %rax
1:  inc %rax
    jmp 1b
    .code16
table: .word 15
    .long descriptors
descriptors:
    .quad 0, 0x00af9a000000ffff
"""
LONG_LOOP = 0x7D0A

SLEEP = """
    mov $0xff, %al      # nothing wakes it
    out %al, $0x21
    sti
    nop                 # QEMU's emulated processors do not trap behind STI
    hlt
    jmp .
"""


class Started:
    """A machine that waits for gdb, on a thread of its own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.address = machine.listen_for_gdb()
        machine.start(DEADLINE_S)

    def memory(self, addr: int, length: int) -> bytes:
        return self.machine.pc.memory.read(addr, length)


Start = Callable[[str], Started]


@pytest.fixture
def start(assemble: Assemble, machine: Make) -> Start:
    """Starts a boot sector."""
    return lambda source: Started(machine(assemble.boot_sector(source)))


def printed(output: str, name: str) -> list[int]:
    """Each value of a register that `info registers` has printed."""
    return [int(value, 16) for value in re.findall(rf"^{name} +0x([0-9a-f]+)", output, re.MULTILINE)]


# Registers, memory and steps, by gdb


@pytest.mark.gdb
def test_gdb_reads_writes_and_steps_in_real_mode(start: Start, debug: Debug) -> None:
    output = debug(
        start(REAL_MODE).address,
        *("break *0x7c00", "continue", "info registers eip cs"),
        *("stepi 2", "info registers eip cs eax", "set $eax = 0x4321"),
        *("set {short}0x6000 = 0x7788", "x/1xh 0x6000"),
        *("stepi 2", "info registers eax ebx", "stepi", "x/1xh 0x6000", "x/1i $pc"),
    )
    assert printed(output, "eip") == [0x7C00, 0x7C08], output
    assert printed(output, "cs") == [0, 0x7C0]
    assert printed(output, "eax") == [0x1234, 0x4322]
    assert printed(output, "ebx") == [0x6000]
    assert re.findall(r"^0x6000:\t(\w+)$", output, re.MULTILINE) == ["0x7788", "0x4322"]
    assert re.search(r"=> 0x7c0e:\s+cli", output)


@pytest.mark.gdb
def test_gdb_reads_writes_and_steps_in_protected_mode(start: Start, debug: Debug) -> None:
    started = start(PROTECTED_MODE)
    assert "Breakpoint 1, 0x00007d00" in debug(started.address, f"break *{FLAT}", "continue", "detach")
    output = debug(
        started.address,  # which it is in protected mode by now
        *("show architecture", f"break *{PROTECTED_LOOP}", "continue", "set $ebx = 0x11110000"),
        *("stepi 2", "x/1xw 0x100000", "info registers eip ebx cr0", "continue", "info registers ebx eip"),
    )
    assert '"i386"' in output, output
    assert "0x100000:\t0x11110001" in output
    assert printed(output, "ebx") == [0x11110001, 0x11110001]
    assert printed(output, "eip") == [0x7D12, PROTECTED_LOOP]
    assert printed(output, "cr0")[0] & 1


@pytest.mark.gdb
def test_gdb_reads_writes_and_steps_in_long_mode(start: Start, debug: Debug) -> None:
    started = start(LONG_MODE)
    assert "Breakpoint 1, " in debug(started.address, f"break *{FLAT}", "continue")
    output = debug(
        started.address,
        *("show architecture", f"break *{LONG_LOOP}", "continue", "set $r9 = 0x123456789a", "stepi"),
        *(
            "set $rax = 0xffffffffff",
            "continue",
            "stepi",
            "info registers rip rax r9",
            "x/1xg 0x7d02",
            "x/1xb 0x300000",
        ),
    )
    assert '"i386:x86-64"' in output, output
    assert (printed(output, "rip"), printed(output, "rax")) == ([0x7D0D], [0x10000000000])
    assert printed(output, "r9") == [0x123456789A]
    assert "0x7d02:\t0x1122334455667788" in output
    assert "Cannot access memory at address 0x300000" in output  # there is memory, and no page


def test_more_breakpoints_than_debug_registers_all_stop_it_and_nothing_is_written_into_the_guest(
    start: Start, client: Connect
) -> None:
    started = start(LOOP)
    gdb = client(started.address)
    before = started.memory(0x7C00, 512)
    places = [LOOP_START + offset for offset in range(6)] + [0x7D00]
    for place in places:
        assert gdb.ask(b"Z0,%x,1" % place) == b"OK"
    for place in places * 2:
        assert gdb.ask(b"c") == b"T05thread:1;swbreak:;"
        assert gdb.ask(b"p8") == place.to_bytes(4, "little").hex().encode()
        assert started.memory(0x7C00, 512) == before


@pytest.mark.gdb
def test_gdb_stops_at_each_of_six_breakpoints(start: Start, debug: Debug) -> None:
    places = [LOOP_START + offset for offset in range(6)]
    output = debug(start(LOOP).address, *(f"break *{place}" for place in places), *["continue"] * 12)
    assert re.findall(r"^Breakpoint (\d)", output, re.MULTILINE)[6:] == ["1", "2", "3", "4", "5", "6"] * 2, output


def test_a_step_into_int_stops_at_its_handler(start: Start, client: Connect) -> None:
    gdb = client(start(LOOP).address)
    assert gdb.ask(b"Z1,7d01,1") == b"OK"
    assert gdb.ask(b"c") == b"T05thread:1;hwbreak:;"
    gdb.ask(b"s")
    gdb.ask(b"s")  # jmp, behind IRET
    assert gdb.ask(b"p8") == b"097c0000"
    for _ in range(7):
        assert gdb.ask(b"s") == b"T05thread:1;"
    assert gdb.ask(b"p8") == b"007d0000"


def test_a_step_into_hlt_that_nothing_wakes_comes_back(start: Start, client: Connect) -> None:
    gdb = client(start(SLEEP).address)
    gdb.ask(b"Z0,7c06,1")
    assert gdb.ask(b"c") == b"T05thread:1;swbreak:;"
    for _ in range(2):
        assert gdb.ask(b"s") == b"T05thread:1;"
        assert gdb.ask(b"p8") == b"077c0000"


def test_a_step_takes_no_interrupt_and_going_on_does(start: Start, client: Connect) -> None:
    started = start("movl $0x7d00, 4 * 0x40\n sti\n 1: inc %ax\n jmp 1b\n .org 0x100\n inc %bx\n iret")
    gdb = client(started.address)
    gdb.ask(b"Z0,7c0a,1")
    gdb.ask(b"c")
    started.machine.interrupt(0x40).trigger()
    for place in (0x7C0B, 0x7C0A) * 3:
        assert gdb.ask(b"s")[:4] == b"T05t"
        assert gdb.ask(b"p8") == place.to_bytes(4, "little").hex().encode()
    assert gdb.ask(b"p3") == b"00000000"
    assert gdb.ask(b"c") == b"T05thread:1;swbreak:;"
    assert gdb.ask(b"p3") == b"01000000"


@pytest.mark.debug_registers  # a processor takes an interrupt without its trap flag: no step ends in a handler
def test_a_breakpoint_at_the_handler_of_an_interrupt_stops_there(start: Start, client: Connect) -> None:
    started = start("movl $0x7d00, 4 * 0x40\n sti\n 1: inc %ax\n jmp 1b\n .org 0x100\n iret")
    gdb = client(started.address)
    gdb.ask(b"Z0,7d00,1")
    started.machine.interrupt(0x40).trigger()
    assert gdb.ask(b"c") == b"T05thread:1;swbreak:;"
    assert gdb.ask(b"p8") == b"007d0000"


def test_a_step_does_an_access_to_a_port_once(start: Start, client: Connect) -> None:
    started = start("mov $0x3f8, %dx\n 1: inc %al\n out %al, %dx\n jmp 1b")
    gdb = client(started.address)
    gdb.ask(b"Z0,7c03,1")
    for count in range(1, 4):
        assert gdb.ask(b"c") == b"T05thread:1;swbreak:;"
        for place in (0x7C05, 0x7C06, 0x7C03):
            assert gdb.ask(b"s")[:4] == b"T05t"
            assert gdb.ask(b"p8") == place.to_bytes(4, "little").hex().encode()
        assert started.machine.serial == bytes(range(1, count + 1))
        gdb.ask(b"P8=037c0000")
        gdb.ask(b"z0,7c03,1")
        gdb.ask(b"s")
        gdb.ask(b"P0=%02x000000" % count)
        gdb.ask(b"P8=007c0000")
        gdb.ask(b"Z0,7c03,1")


@pytest.mark.parametrize("length", [2, 3])
def test_a_watched_range_stops_it_behind_the_write(start: Start, client: Connect, length: int) -> None:
    gdb = client(start(LOOP).address)
    assert gdb.ask(b"Z0,%x,1" % LOOP_START) == b"OK"
    gdb.ask(b"c")
    assert gdb.ask(b"z0,%x,1" % LOOP_START) == b"OK"
    assert gdb.ask(b"Z2,6000,%x" % length) == b"OK"
    for count in (1, 2):
        assert gdb.ask(b"c") == b"T05thread:1;watch:6000;"
        assert gdb.ask(b"m6000,2") == b"%02x00" % count


@pytest.mark.gdb
def test_gdb_watches_a_variable(start: Start, debug: Debug) -> None:
    output = debug(
        start(LOOP).address, f"break *{LOOP_START}", "continue", "watch *(short *)0x6000", "delete 1", "continue"
    )
    assert "Old value = 0\nNew value = 1\n" in output, output


# Stopping it, and leaving it


def test_ctrl_c_in_gdb_stops_a_guest_that_spins_or_sleeps(start: Start, client: Connect) -> None:
    for source in ("jmp .", SLEEP):
        gdb = client(start(source).address)
        gdb.ask(b"Z0,7c00,1")
        gdb.ask(b"c")
        gdb.ask(b"z0,7c00,1")
        for _ in range(3):
            gdb.send(b"c")
            gdb.socket.sendall(b"\x03")
            assert gdb.receive() == b"T02thread:1;"
            assert gdb.ask(b"?") == b"T02thread:1;"


@pytest.mark.gdb
def test_ctrl_c_at_gdbs_prompt_reaches_the_guest(start: Start, gdb: list[str]) -> None:
    host, port = start("jmp .").address
    commands = (f"target remote {host}:{port}", "break *0x7c00", "continue", "delete", "continue", "info registers eip")
    process = subprocess.Popen(
        [*gdb, *(part for command in commands for part in ("-ex", command))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        while "Breakpoint 1," not in (line := process.stdout.readline()):
            assert line
        interrupter = threading.Timer(1, process.send_signal, [signal.SIGINT])
        interrupter.start()
        lines = process.stdout.read()
        interrupter.join()
    assert "received signal SIGINT" in lines
    assert printed(lines, "eip") == [0x7C00]


@pytest.mark.parametrize("leave", ["detach", "disconnect", "kill gdb"])
def test_when_gdb_is_gone_the_guest_goes_on_without_its_breakpoints(start: Start, client: Connect, leave: str) -> None:
    started = start("mov $0x3f8, %dx\n 1: mov $65, %al\n out %al, %dx\n hlt\n jmp 1b")
    gdb = client(started.address)
    for place in range(0x7C03, 0x7C0A):
        gdb.ask(b"Z0,%x,1" % place)
    assert gdb.ask(b"c") == b"T05thread:1;swbreak:;"
    assert started.machine.serial == b""
    if leave == "detach":
        assert gdb.ask(b"D") == b"OK"
    if leave == "disconnect":
        gdb.socket.shutdown(socket.SHUT_RDWR)
    else:
        gdb.socket.close()
    started.machine.expect("AAA", DEADLINE_S)


def test_the_next_client_waits_until_the_first_is_gone_and_stops_the_guest_anew(start: Start, client: Connect) -> None:
    started = start("jmp .")
    first = client(started.address)
    with socket.create_connection(started.address, DEADLINE_S) as second:
        second.sendall(frame(b"?"))
        assert first.ask(b"?") == b"T05thread:1;"
        assert select.select([second], [], [], 0)[0] == []
        assert first.ask(b"D") == b"OK"
        first.socket.shutdown(socket.SHUT_RDWR)
        assert second.recv(1) == b"+"
        second.sendall(b"+" + frame(b"c") + b"\x03")
        received = bytearray()
        while frame(b"T02thread:1;") not in received:
            received += second.recv(4096)


def test_nothing_runs_before_gdb_says_so_and_a_machine_can_be_stopped_meanwhile(machine: Make) -> None:
    waiting = machine(b"\xe9\xfd\xff")
    waiting.listen_for_gdb()
    waiting.start(DEADLINE_S)
    assert waiting.stop().reason is Reason.STOPPED
    assert waiting.pc.bios.calls == {}
    timed = machine(b"\xe9\xfd\xff")
    timed.listen_for_gdb()
    assert timed.run(0.05).reason is Reason.TIMEOUT


@pytest.mark.gdb
def test_gdb_is_told_how_the_program_ended(start: Start, client: Connect, debug: Debug) -> None:
    started = start("mov $0x10, %al\n out %al, $0xf4")
    assert "exited with code 041" in debug(started.address, "continue")
    assert started.machine.wait(DEADLINE_S).exit_status == 0x21


@pytest.mark.gdb
def test_kill_ends_the_machine(start: Start, debug: Debug) -> None:
    started = start("jmp .")
    debug(started.address, "kill")
    ending = started.machine.wait(DEADLINE_S)
    assert (ending.reason, ending.detail) == (Reason.STOPPED, "by gdb")


def test_a_client_that_talks_nonsense_does_no_harm(start: Start, client: Connect) -> None:
    started = start("jmp .")
    with socket.create_connection(started.address, DEADLINE_S) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n$m#00" + bytes(range(256)) * 300)
    gdb = client(started.address)
    assert gdb.ask(b"mffffffffffffffff,10") == b"E0e"
    assert gdb.ask(b"Pa=01000000") == b"OK"
    assert gdb.ask(b"?") == b"T05thread:1;"


def test_a_machine_listens_once_and_before_it_runs(machine: Make) -> None:
    one = machine(b"\xf4")
    one.listen_for_gdb()
    with pytest.raises(kvmbind.BadStateError, match="once, before the machine is started"):
        one.listen_for_gdb()
    one.close()
    with pytest.raises(kvmbind.BadStateError):
        one.listen_for_gdb()
