"""Interrupts that reach a program from outside the machine, a thousand times each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Machine

if TYPE_CHECKING:
    from tests.machine.conftest import Assemble

    Make = Callable[..., Machine]

pytestmark = pytest.mark.kvm

DEADLINE_S = 60
FIRES = 1000
COUNT, READY = 0x8000, 0x8004

#: What a handler does after it has counted, for programs that know nothing of a local APIC.
ENDS = {
    "iret": "iret",
    "the PIC's end of interrupt": "push %ax\n mov $0x20, %al\n out %al, $0x20\n pop %ax\n iret",
    "both PICs'": "push %ax\n mov $0x20, %al\n out %al, $0xa0\n out %al, $0x20\n pop %ax\n iret",
    "the handler that was there before": "ljmp *%cs:before",
    "retf 2": "sti\n lret $2",
}

REAL_MODE = """
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    cli
    mov 4 * {vector}, %eax
    mov %eax, before
    movw $handler, 4 * {vector}
    movw $0, 4 * {vector} + 2
    in $0x21, %al
    or $1, %al
    out %al, $0x21
    sti
    movl $1, 0x8004
1:  hlt
    jmp 1b
handler:
    incl %cs:0x8000
    {end}
before: .long 0
"""

PROTECTED_MODE = """
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov $0xff, %al
    out %al, $0x21
    out %al, $0xa1
    lgdt gdtr
    lidt idtr
    movw $handler, idt + 8 * 0x80
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmp $8, $1f
    .code32
1:  mov $16, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7000, %esp
    sti
    movl $1, 0x8004
2:  hlt
    jmp 2b
handler:
    incl 0x8000
    mov $0x80b, %ecx
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
    iretl
    .balign 8
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word . - gdt - 1
    .long gdt
idtr:   .word 8 * 0x81 - 1
    .long idt
    .set idt, 0x9000
    .code16
"""


def fire(machine: Machine, irq: kvmbind.Interrupt, count: int) -> None:
    """Each waits for the answer, since edges merge."""
    guest = machine.pc.guest
    machine.start()
    guest.wait_u32(READY, 1, timeout_s=DEADLINE_S)
    for n in range(1, count + 1):
        irq.trigger()
        guest.wait_u32(COUNT, n, timeout_s=DEADLINE_S)
    machine.stop()
    assert guest_count(machine) == count


def guest_count(machine: Machine) -> int:
    return machine.pc.memory.u32(COUNT)


@pytest.mark.parametrize("vector", [0x00, 0x08, 0x40, 0x80, 0xFF])
def test_any_vector_reaches_the_programs_handler_in_real_mode(assemble: Assemble, machine: Make, vector: int) -> None:
    made = machine(assemble.boot_sector(REAL_MODE.format(vector=vector, end="iret")))
    irq = made.interrupt(vector)
    assert made.interrupt(vector) is irq
    fire(made, irq, FIRES)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_handler_that_knows_only_the_pic_may_end_in_any_way(assemble: Assemble, machine: Make, end: str) -> None:
    made = machine(assemble.boot_sector(REAL_MODE.format(vector=0x60, end=end)))
    fire(made, made.interrupt(0x60), FIRES)


def test_a_raw_vector_reaches_a_program_that_ends_it_itself_in_real_mode(assemble: Assemble, machine: Make) -> None:
    end = "push %eax\n push %ecx\n push %edx\n mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n"
    end += "pop %edx\n pop %ecx\n pop %eax\n iret"
    made = machine(assemble.boot_sector(REAL_MODE.format(vector=0x60, end=end)))
    fire(made, made.interrupt(0x60, raw=True), FIRES)


def test_a_raw_vector_reaches_a_program_in_protected_mode(assemble: Assemble, machine: Make) -> None:
    made = machine(assemble.boot_sector(PROTECTED_MODE))
    # The gate's selector and type; the program fills the offset in.
    made.pc.memory.write(bytes.fromhex("0000 0800 008e 0000"), 0x9000 + 8 * 0x80)
    fire(made, made.interrupt(0x80, raw=True), FIRES)


@pytest.mark.faithful_apic
def test_a_raw_vector_that_its_handler_does_not_end_comes_once(assemble: Assemble, machine: Make) -> None:
    made = machine(assemble.boot_sector(REAL_MODE.format(vector=0x60, end="iret")))
    irq = made.interrupt(0x60, raw=True)
    guest = made.pc.guest
    made.start()
    guest.wait_u32(READY, 1, timeout_s=DEADLINE_S)
    irq.trigger()
    guest.wait_u32(COUNT, 1, timeout_s=DEADLINE_S)
    irq.trigger()
    with pytest.raises(kvmbind.TimedOutError):
        guest.wait_u32(COUNT, 2, timeout_s=1)


def test_an_interrupt_may_be_asked_for_while_it_runs_and_only_sixteen_may(assemble: Assemble, machine: Make) -> None:
    source = """
        cli
        xor %ax, %ax
        mov %ax, %ds
        movw $h, 0x100
        movw $0, 0x102
        sti
    1:  hlt
        jmp 1b
    h:  incl 0x8000
        iret
    """
    made = machine(assemble.boot_sector(source))
    made.start()
    irq = made.interrupt(0x40)
    for _ in range(15):
        made.interrupt(0x41 + _)
    with pytest.raises(kvmbind.NoResourcesError, match="16 vectors"):
        made.interrupt(0x60)
    for vector in (-1, 256):
        with pytest.raises(kvmbind.OutOfRangeError):
            made.interrupt(vector)
    while not made.pc.memory.u32(0x8000):
        irq.trigger()
        time.sleep(0.001)
    made.stop()
