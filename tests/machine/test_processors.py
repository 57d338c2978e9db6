"""Machines with several processors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Machine
from kvmbind.machine.ending import Reason
from kvmbind.machine.images.image import ImageError

if TYPE_CHECKING:
    from tests.machine.conftest import Assemble

    Make = Callable[..., Machine]

pytestmark = pytest.mark.kvm

DEADLINE_S = 60

#: Starts the others at 8000h, in real mode with all segments but CS zero, and goes on at `boot`.
WAKE = """
    .set FLAGS, 0x10000
header: .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS), header, header, 0, 0, start
    .code32
start:
    mov $0x7000, %esp
    movl $0xc4500, 0xfee00300
    movl $0xc4608, 0xfee00300
boot:
{boot}
    .org 0x400
    .code16
other:
{other}
"""
HALT = "cli\n hlt"


def image(assemble: Assemble, boot: str, other: str) -> bytes:
    return assemble(WAKE.format(boot=boot, other=other))


@pytest.mark.parametrize("smp", [1, 2, 5])
def test_each_of_them_runs(assemble: Assemble, machine: Make, smp: int) -> None:
    made = machine(image(assemble, HALT, f"lock incw 0x6000\n {HALT}"), smp=smp)
    assert made.run(DEADLINE_S).reason is Reason.HALTED
    assert made.pc.memory.u16(0x6000) == smp - 1


def test_a_machine_ends_when_the_last_of_them_has_halted(assemble: Assemble, machine: Make) -> None:
    """The first one halts at once; the second waits for it by the clock, so that it is looked at meanwhile."""
    other = """
        mov $8, %cx
    1:  in $0x61, %al
        mov $0xffff, %dx
    2:  dec %dx
        jnz 2b
        loop 1b
        mov $'x', %al
        mov $0x3f8, %dx
        out %al, %dx
        cli
        hlt
    """
    ending = machine(image(assemble, HALT, other), smp=2).run(DEADLINE_S)
    assert (ending.reason, ending.serial) == (Reason.HALTED, b"x")


def test_one_that_waits_for_an_interrupt_keeps_the_machine_going(assemble: Assemble, machine: Make) -> None:
    made = machine(image(assemble, HALT, "sti\n 1: hlt\n jmp 1b"), smp=2)
    assert made.run(0.5).reason is Reason.TIMEOUT


def test_those_that_nobody_starts_do_not(assemble: Assemble, machine: Make) -> None:
    assert machine(assemble.boot_sector(HALT), smp=4).run(DEADLINE_S).reason is Reason.HALTED


def test_what_one_of_them_ends_has_its_registers(assemble: Assemble, machine: Make) -> None:
    other = "mov $0x4321, %bx\n mov $3, %al\n out %al, $0xf4\n 1: hlt\n jmp 1b"
    ending = machine(image(assemble, "1: hlt\n jmp 1b", other), smp=2).run(DEADLINE_S)
    assert (ending.reason, ending.exit_status) == (Reason.DEBUG_EXIT, 7)
    assert (ending.registers["rbx"], ending.registers["cs_base"]) == (0x4321, 0x8000)


def test_all_of_them_use_ports_and_the_bios(assemble: Assemble, machine: Make) -> None:
    other = """
        xor %ax, %ax
        mov %ax, %ss
        mov $0x6f00, %sp
        mov $100, %cx
    1:  mov $0x0e2e, %ax
        mov $7, %bx
        push %cx
        int $0x10
        pop %cx
        mov $0x3f8, %dx
        mov $'o', %al
        out %al, %dx
        loop 1b
        cli
        hlt
    """
    boot = """
        mov $100, %ecx
    1:  mov $0x3f8, %dx
        mov $'b', %al
        out %al, %dx
        loop 1b
        cli
        hlt
    """
    ending = machine(image(assemble, boot, other), smp=2).run(DEADLINE_S)
    assert ending.reason is Reason.HALTED
    assert (ending.serial.count(b"b"), ending.serial.count(b"o")) == (100, 100)
    assert ending.console == "." * 100


def test_a_boot_sector_with_several_of_them_still_takes_interrupts_from_outside(
    assemble: Assemble, machine: Make
) -> None:
    """Its local APIC is in xAPIC mode then, and the handler ends in IRET alone."""
    source = """
        xor %ax, %ax
        mov %ax, %ds
        mov %ax, %ss
        cli
        movw $handler, 0x100
        movw $0, 0x102
        mov $0x2000, %ax
        mov %ax, %ds
        sti
        movl $1, %cs:0x8004
    1:  hlt
        jmp 1b
    handler:
        push %ax
        mov %ds, %ax
        cmp $0x2000, %ax
        pop %ax
        jne 2f
        incl %cs:0x8000
    2:  iret
    """
    made = machine(assemble.boot_sector(source), smp=2)
    irq = made.interrupt(0x40)
    made.start()
    guest = made.pc.guest
    guest.wait_u32(0x8004, 1, timeout_s=DEADLINE_S)
    for count in range(1, 101):
        irq.trigger()
        guest.wait_u32(0x8000, count, timeout_s=DEADLINE_S)
    made.stop()


@pytest.mark.parametrize("smp", [0, -1, 256])
def test_a_number_that_no_machine_has_is_an_error(machine: Make, smp: int) -> None:
    with pytest.raises(ImageError, match=f"smp of {smp} is not 1 to 255"):
        machine(b"\xf4", smp=smp)


def test_they_leave_nothing_behind(assemble: Assemble, count_fds: Callable[[], int]) -> None:
    program = image(assemble, HALT, HALT)
    Machine(program, smp=3).run(DEADLINE_S)
    kvmbind.settle()
    before = count_fds()
    for _ in range(5):
        Machine(program, smp=3).run(DEADLINE_S)
    kvmbind.settle()
    assert count_fds() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kvmbind-processor")]


def test_a_machine_that_runs_can_be_stopped(assemble: Assemble, machine: Make) -> None:
    made = machine(image(assemble, "jmp .", "jmp ."), smp=3)
    made.start()
    assert made.stop().reason is Reason.STOPPED
