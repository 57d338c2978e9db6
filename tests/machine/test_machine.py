"""Machine: images that run, how they end, and what reaches them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Machine
from kvmbind.machine.diagnosis import describe
from kvmbind.machine.ending import STATUSES, Reason
from kvmbind.machine.screen.frames import Picture

if TYPE_CHECKING:
    from pathlib import Path

    from tests.machine.conftest import Assemble

    Make = Callable[..., Machine]

pytestmark = pytest.mark.kvm

DEADLINE_S = 60

PRINT = """
    mov $text, %si
    cld
1:  lodsb
    test %al, %al
    jz 2f
    mov $0x0e, %ah
    int $0x10
    jmp 1b
2:
"""
HELLO = PRINT + 'cli\n hlt\n text: .asciz "hello"'


def test_a_boot_sector_prints_and_stops(assemble: Assemble, machine: Make) -> None:
    ending = machine(assemble.boot_sector(HELLO)).run(DEADLINE_S)
    assert (ending.reason, ending.exit_status, ending.screen, ending.console) == (Reason.HALTED, 0, "hello", "hello")
    assert ending.registers["cs"] == 0
    assert 0x7C00 <= ending.registers["rip"] < 0x7E00


ENDS = {
    "cli\n hlt": (Reason.HALTED, 0),
    "int $0x20": (Reason.TERMINATED, 0),
    "mov $0x4c07, %ax\n int $0x21": (Reason.TERMINATED, 7),
    "int $0x19": (Reason.REBOOT, 0),
    "ljmp $0xffff, $0": (Reason.REBOOT, 0),
    "mov $0xfe, %al\n out %al, $0x64": (Reason.REBOOT, 0),
    "int $0x18": (Reason.NO_BOOT, STATUSES[Reason.NO_BOOT]),
    "mov $0x10, %al\n out %al, $0xf4": (Reason.DEBUG_EXIT, 0x21),
    "mov $0x501, %dx\n xor %ax, %ax\n out %ax, %dx": (Reason.DEBUG_EXIT, 1),
    "xor %cx, %cx\n div %cx": (Reason.FAULT, STATUSES[Reason.FAULT]),
    "ud2": (Reason.FAULT, STATUSES[Reason.FAULT]),
    "mov $0xffff, %si\n mov (%si), %ax": (Reason.FAULT, STATUSES[Reason.FAULT]),
    "jmp .": (Reason.TIMEOUT, STATUSES[Reason.TIMEOUT]),
    "1: hlt\n jmp 1b": (Reason.TIMEOUT, STATUSES[Reason.TIMEOUT]),
}


@pytest.mark.parametrize("source", ENDS, ids=lambda source: source.replace("\n", ";"))
def test_each_end_has_its_reason_and_its_status(assemble: Assemble, machine: Make, source: str) -> None:
    reason, status = ENDS[source]
    made = machine(assemble.boot_sector(source))
    ending = made.run(0.3 if reason is Reason.TIMEOUT else DEADLINE_S)
    assert (ending.reason, ending.exit_status) == (reason, status)
    assert ending.registers["cs"] in (0, 0xF000)


def test_a_program_starts_as_on_a_pc(assemble: Assemble, machine: Make) -> None:
    """Each register goes to the serial port: CS DS ES SS IP FLAGS AX BX CX DX SI DI."""
    source = """
        pushf
        push %di; push %si; push %dx; push %cx; push %bx; push %ax
        push %ss; push %es; push %ds; push %cs
        mov %sp, %si
        mov $22, %cx
        mov $0x3f8, %dx
        cld
        rep outsb
        cli
        hlt
    """
    serial = machine(assemble.boot_sector(source)).run(DEADLINE_S).serial
    words = [int.from_bytes(serial[at : at + 2], "little") for at in range(0, 22, 2)]
    assert words[:10] == [0] * 10
    assert words[10] & 0x0602 == 0x0202  # interrupts on, direction up


REACHED = """
    xor %ax, %ax
    mov %ax, %ds
    {call}
    mov $0x3f8, %dx
    out %al, %dx
    cli
    hlt
"""


@pytest.mark.parametrize(
    "call", ["mov $0x0f00, %ax\n int $0x10", "mov $0x0f00, %ax\n pushf\n lcall *4 * 0x10"], ids=["INT", "far call"]
)
def test_a_service_is_reached_by_int_and_by_far_call(assemble: Assemble, machine: Make, call: str) -> None:
    assert machine(assemble.boot_sector(REACHED.format(call=call))).run(DEADLINE_S).serial == b"\x03"


def test_a_program_may_replace_a_vector_and_go_on_to_the_old_one(assemble: Assemble, machine: Make) -> None:
    source = """
        xor %ax, %ax
        mov %ax, %ds
        mov 4 * 0x10, %eax
        mov %eax, old
        movw $mine, 4 * 0x10
        movw $0, 4 * 0x10 + 2
        mov $0x0e41, %ax
        int $0x10
        cli
        hlt
    mine:
        inc %al
        pushf
        lcall *old
        iret
    old: .long 0
    """
    assert machine(assemble.boot_sector(source)).run(DEADLINE_S).screen == "B"


def test_flags_come_back_on_the_stack_and_interrupts_stay_as_they_were(assemble: Assemble, machine: Make) -> None:
    source = """
        mov $1, %ah
        int $0x16
        jnz 1f
        mov $0x7700, %ax
        int $0x13
        jnc 1f
        pushf
        pop %ax
        test $0x200, %ax
        jz 1f
        mov $0x0e59, %ax
        int $0x10
    1:  cli
        hlt
    """
    assert machine(assemble.boot_sector(source)).run(DEADLINE_S).screen == "Y"


def test_ticks_advance_without_a_bios_call(assemble: Assemble, machine: Make) -> None:
    source = """
        mov $0x40, %ax
        mov %ax, %ds
        mov 0x6c, %eax
        add $3, %eax
    1:  hlt
        cmp %eax, 0x6c
        jb 1b
        cli
        hlt
    """
    made = machine(assemble.boot_sector(source))
    assert made.run(DEADLINE_S).reason is Reason.HALTED
    assert made.pc.bios.calls == {}


def test_the_timer_follows_channel_0(assemble: Assemble, machine: Make) -> None:
    """200 ticks of a timer 16 times as fast: a deadline of 60 s would be enough for the slow one too, ticks are not."""
    source = """
        cli
        mov $0x34, %al
        out %al, $0x43
        xor %al, %al
        out %al, $0x40
        mov $0x10, %al
        out %al, $0x40
        xor %ax, %ax
        mov %ax, %ds
        movw $tick, 4 * 0x1c
        movw $0, 4 * 0x1c + 2
        sti
    1:  hlt
        cmpw $50, count
        jb 1b
        in $0x40, %al
        cli
        hlt
    tick: incw %cs:count
        iret
    count: .word 0
    """
    assert machine(assemble.boot_sector(source)).run(DEADLINE_S).reason is Reason.HALTED


def test_a_key_wakes_a_program_that_sleeps_for_it(assemble: Assemble, machine: Make) -> None:
    source = """
    1:  xor %ah, %ah
        int $0x16
        mov $0x0e, %ah
        int $0x10
        cmp $'c', %al
        jne 1b
        cli
        hlt
    """
    ending = machine(assemble.boot_sector(source), keys="abc").run(DEADLINE_S)
    assert (ending.reason, ending.screen) == (Reason.HALTED, "abc")


def test_a_program_that_waits_for_a_key_uses_no_host_time(assemble: Assemble, machine: Make) -> None:
    """KVM_RUN comes back for the 18 ticks of a second, and the loop's own looks: nobody spins."""
    made = machine(assemble.boot_sector("xor %ah, %ah\n int $0x16"))
    made.run(1.0)
    assert sum(made.pc.history.counts.values()) < 10
    assert made.pc.steps < 200


def test_a_program_that_is_ended_while_it_waits_is_where_it_called(assemble: Assemble, machine: Make) -> None:
    made = machine(assemble.boot_sector("mov $0x1234, %bx\n xor %ah, %ah\n int $0x16\n nop"), keys="{shift}")
    registers = made.run(1.0).registers
    assert (registers["cs"], registers["rip"], registers["rbx"]) == (0, 0x7C07, 0x1234)


def test_a_wait_takes_at_least_its_time(assemble: Assemble, machine: Make) -> None:
    source = "mov $0x8600, %ax\n mov $3, %cx\n xor %dx, %dx\n int $0x15\n cli\n hlt"  # 196,608 us
    began = time.monotonic()
    assert machine(assemble.boot_sector(source)).run(DEADLINE_S).reason is Reason.HALTED
    assert time.monotonic() - began >= 0.19


def test_the_image_is_its_own_boot_drive(assemble: Assemble, machine: Make) -> None:
    source = """
        mov $0x0201, %ax
        mov $2, %cx
        mov $0x7e00, %bx
        int $0x13
        jc 3f
    """
    image = assemble.boot_sector(source + PRINT.replace("$text", "$0x7e00") + "3: cli\n hlt") + b"second sector\0"
    assert machine(image).run(DEADLINE_S).screen == "second sector"


WRITE = "mov $0x0301, %ax\n mov $2, %cx\n mov $0x7c00, %bx\n int $0x13\n cli\n hlt"


@pytest.mark.parametrize("write", [False, True])
def test_disk_writes_stay_in_a_copy_unless_asked(
    assemble: Assemble, machine: Make, tmp_path: Path, write: bool
) -> None:
    image = assemble.boot_sector(WRITE)
    path = tmp_path / "floppy.img"
    path.write_bytes(image + bytes(512))
    assert machine(path, write=write).run(DEADLINE_S).reason is Reason.HALTED
    assert path.read_bytes() == image + (image if write else bytes(512))


def test_a_com_program_returns_to_dos_and_sees_its_arguments(assemble: Assemble, machine: Make) -> None:
    program = bytes.fromhex("be8100 ac 3c0d 7408 88c2 b402 cd21 ebf3 c3")
    ending = machine(program, format="com", args="/x y").run(DEADLINE_S)
    assert (ending.reason, ending.screen) == (Reason.TERMINATED, " /x y")


def test_the_rom_cannot_be_overwritten(assemble: Assemble, machine: Make) -> None:
    source = "mov $0xf000, %ax\n mov %ax, %es\n xor %di, %di\n mov $0x2000, %cx\n rep stosw\n" + HELLO
    assert machine(assemble.boot_sector(source)).run(DEADLINE_S).screen == "hello"


def test_a_16_colour_picture_is_drawn_through_the_planes(assemble: Assemble, machine: Make) -> None:
    source = """
        mov $0x0012, %ax
        int $0x10
        mov $0x3c4, %dx
        mov $0x0502, %ax
        out %ax, %dx
        mov $0xa000, %ax
        mov %ax, %es
        movb $0x80, %es:0
        mov $0x0003, %ax
        out %ax, %dx
        cli
        hlt
    """
    made = machine(assemble.boot_sector(source))
    assert made.run(DEADLINE_S).reason is Reason.HALTED
    frame = made.frame()
    assert isinstance(frame, Picture)
    assert (frame.pixels[0], max(frame.pixels[1:])) == (5, 0)


def test_a_wild_jump_ends_by_its_deadline(machine: Make) -> None:
    assert machine(os.urandom(510) + b"\x55\xaa").run(1.0).reason in Reason


def test_a_started_machine_is_watched_fed_and_stopped(assemble: Assemble, machine: Make) -> None:
    source = """
        mov $0x3fd, %dx
    1:  in %dx, %al
        test $1, %al
        jz 1b
        mov $0x3f8, %dx
        in %dx, %al
        mov $0x0e, %ah
        int $0x10
        mov $0x3fd, %dx
        jmp 1b
    """
    made = machine(assemble.boot_sector(source))
    made.start()
    with pytest.raises(kvmbind.TimedOutError, match=r"'fed' did not come in 0\.05 s; the screen is"):
        made.expect("fed", timeout_s=0.05)
    made.send(b"fed")
    made.expect("fed", timeout_s=DEADLINE_S)
    with pytest.raises(kvmbind.TimedOutError, match="still runs"):
        made.wait(0.01)
    assert made.stop().reason is Reason.STOPPED
    assert made.wait().screen == made.screen == "fed"


def test_what_ends_without_the_expected_text_says_so(assemble: Assemble, machine: Make) -> None:
    made = machine(assemble.boot_sector(HELLO))
    made.start()
    made.expect("hell", timeout_s=DEADLINE_S)
    with pytest.raises(kvmbind.TimedOutError, match="'heaven' did not come before the machine ended"):
        made.expect("heaven")


def test_until_a_text_or_stillness_ends_it(assemble: Assemble, machine: Make) -> None:
    source = PRINT + 'jmp .\n text: .asciz "ready"'
    assert machine(assemble.boot_sector(source)).run(DEADLINE_S, until="ready").reason is Reason.FOUND
    assert machine(assemble.boot_sector(source)).run(DEADLINE_S, until_still_s=0.3).reason is Reason.STILL


def test_a_machine_runs_once(assemble: Assemble, machine: Make) -> None:
    made = machine(assemble.boot_sector("cli\n hlt"))
    made.run(DEADLINE_S)
    for again in (made.run, made.start):
        with pytest.raises(kvmbind.BadStateError, match="runs once"):
            again()
    unused = machine(assemble.boot_sector("cli\n hlt"))
    with pytest.raises(kvmbind.BadStateError, match="not started"):
        unused.wait()
    unused.close()
    with pytest.raises(kvmbind.BadStateError, match="runs once"):
        unused.run()


def test_64_machines_run_at_once_and_close(assemble: Assemble, machine: Make) -> None:
    image = assemble.boot_sector(PRINT + '1: hlt\n jmp 1b\n text: .asciz "up"')
    made = [machine(image) for _ in range(64)]
    for one in made:
        one.start()
    for one in made:
        one.expect("up", timeout_s=DEADLINE_S)
    for one in made:
        one.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "kvmbind-machine"]


def test_machines_leave_nothing_behind(assemble: Assemble, count_fds: Callable[[], int]) -> None:
    image = assemble.boot_sector(HELLO)
    for _ in range(2):
        Machine(image).run(DEADLINE_S)
    kvmbind.settle()
    before = count_fds()
    for _ in range(20):
        Machine(image).run(DEADLINE_S)
    kvmbind.settle()
    assert count_fds() == before


#: Goes to protected mode, where there is no interrupt table; then a fault is a triple fault.
TRIPLE_FAULT = """
    {before}
    cli
    lgdt gdtr
    lidt idtr
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmp $8, $1f
1:  .code32
    {after}
    ud2
    .code16
gdtr: .word 15
    .long gdt
idtr: .word 0
    .long 0
gdt: .quad 0
    .quad 0x00cf9b000000ffff
"""


def test_a_triple_fault_has_the_registers_of_the_last_exit(assemble: Assemble, machine: Make) -> None:
    source = TRIPLE_FAULT.format(before="", after="mov $0x1234, %ebx\n out %al, $0x80\n xor %ebx, %ebx")
    made = machine(assemble.boot_sector(source))
    ending = made.run(DEADLINE_S)
    assert (ending.reason, ending.exit_status) == (Reason.SHUTDOWN, STATUSES[Reason.SHUTDOWN])
    assert (ending.registers_are_of, ending.registers["rbx"], ending.registers["cs"]) == ("last exit", 0x1234, 8)
    assert "at its last exit" in describe(ending, made.pc)[1]


def test_a_triple_fault_after_a_bios_call_has_its_callers_registers(assemble: Assemble, machine: Make) -> None:
    source = TRIPLE_FAULT.format(before="mov $0x5678, %bx\n mov $0x0e41, %ax\n int $0x10", after="xor %ebx, %ebx")
    ending = machine(assemble.boot_sector(source)).run(DEADLINE_S)
    assert (ending.reason, ending.registers_are_of) == (Reason.SHUTDOWN, "last exit")
    assert (ending.registers["rbx"], ending.registers["cs"]) == (0x5678, 0)
    assert 0x7C00 < ending.registers["rip"] < 0x7E00


def test_a_triple_fault_before_any_exit_says_that_the_registers_may_be_none(assemble: Assemble, machine: Make) -> None:
    ending = machine(assemble.boot_sector(TRIPLE_FAULT.format(before="", after=""))).run(DEADLINE_S)
    assert (ending.reason, ending.registers_are_of) == (Reason.SHUTDOWN, "end")
    assert ending.detail == "a triple fault; the registers may be those of a reset processor"


@pytest.mark.parametrize("write", [False, True])
def test_a_machine_that_has_ended_lets_go_of_its_file(
    assemble: Assemble, machine: Make, tmp_path: Path, write: bool
) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(assemble.boot_sector(HELLO))
    ended = machine(path, write=write)
    ended.run(DEADLINE_S)
    links = [entry.name for entry in os.scandir("/proc/self/fd") if os.path.realpath(entry.path) == str(path)]
    assert links == []


def test_what_kvm_cannot_execute_is_told_with_its_bytes(assemble: Assemble, machine: Make) -> None:
    """In protected mode without paging, an INVLPGA-like instruction that no emulator has; else it is a fault's end."""
    source = """
        cli
        lgdt gdtr
        mov %cr0, %eax
        or $1, %al
        mov %eax, %cr0
        ljmp $8, $1f
    1:  int $0x40
        hlt
    gdtr: .word 15
        .long gdt
    gdt: .quad 0
        .quad 0x00009b000000ffff
    """
    ending = machine(assemble.boot_sector(source)).run(DEADLINE_S)
    assert ending.reason in (Reason.SHUTDOWN, Reason.CANNOT_RUN)
    assert ending.detail
