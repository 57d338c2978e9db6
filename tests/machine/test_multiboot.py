"""Multiboot images that run: how they start, and what reaches them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Machine
from kvmbind.machine.ending import Reason

if TYPE_CHECKING:
    from tests.machine.conftest import Assemble

    Make = Callable[..., Machine]

pytestmark = pytest.mark.kvm

DEADLINE_S = 60

#: Loaded at 7C00h, where the assembler links it. It begins with a header that says so.
HEADER = """
    .set FLAGS, 0x10000
header: .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS), header, header, 0, 0, start
    .code32
start:
"""
HALT = "\n cli\n hlt\n"


def test_it_starts_in_protected_mode_with_flat_segments_and_its_information(assemble: Assemble, machine: Make) -> None:
    made = machine(assemble(HEADER + HALT), args="/x")
    assert made.format == "multiboot"
    ending = made.run(DEADLINE_S)
    assert ending.reason is Reason.HALTED
    registers = ending.registers
    assert registers["rax"] == 0x2BADB002
    assert registers["cr0"] & 0x80000001 == 1
    assert not registers["rflags"] & 0x20200  # interrupts, virtual 8086
    assert [registers[name] for name in ("rcx", "rdx", "rbp", "rdi")] == [0] * 4
    assert [registers[f"{name}_base"] for name in ("cs", "ds", "es", "fs", "gs", "ss")] == [0] * 6
    flags, _, upper, _, command_line = struct.unpack("<5I", made.pc.memory.read(registers["rbx"], 20))
    assert flags & 0x45 == 0x45
    assert upper == 31 << 10
    assert made.pc.memory.string(command_line, b"\0") == b"image /x"


def test_its_segments_reach_all_memory_and_can_be_loaded_again(assemble: Assemble, machine: Make) -> None:
    source = """
        mov $0x1234, %ecx
        mov %ds, %eax
        mov %eax, %es
        mov %cs, %eax
        push %eax
        push $1f
        lretl
    1:  mov %ecx, %es:0x1fffffc
        mov 0x1fffffc, %edx
    """
    ending = machine(assemble(HEADER + source + HALT)).run(DEADLINE_S)
    assert (ending.reason, ending.registers["rdx"]) == (Reason.HALTED, 0x1234)


TICK = """
    lgdt gdtr
    ljmp $8, $1f
    .code16
1:  mov %cr0, %eax
    and $~1, %al
    mov %eax, %cr0
    ljmp $0, $2f
2:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7000, %sp
    mov 0x46c, %ebx
    sti
    hlt
    cli
    mov 0x46c, %ecx
    sub %ebx, %ecx
    hlt
gdtr: .word 15
    .long gdt
gdt: .quad 0
    .quad 0x00009b000000ffff
"""


def test_back_in_real_mode_it_finds_the_bios_and_its_timer(assemble: Assemble, machine: Make) -> None:
    ending = machine(assemble(HEADER + TICK)).run(DEADLINE_S)
    assert (ending.reason, ending.registers["rcx"]) == (Reason.HALTED, 1)


COUNT = """
    mov $0x7000, %esp
    mov $0xff, %al
    out %al, $0x21
    lidt idtr
    movl $1, 0x8004
    sti
1:  hlt
    jmp 1b
handler:
    incl 0x8000
    movl $0, 0xfee000b0
    iretl
idtr: .word 0x7ff
    .long idt - 0x40 * 8
idt: .word handler, 8, 0x8e00, 0
"""


def test_an_interrupt_is_bound_to_its_vector_itself(assemble: Assemble, machine: Make) -> None:
    """Its local APIC is in xAPIC mode: it ends the interrupt at FEE000B0h."""
    made = machine(assemble(HEADER + COUNT))
    irq = made.interrupt(0x40)
    assert made.interrupt(0x40, raw=True) is irq
    with pytest.raises(kvmbind.OutOfRangeError, match="vector 15 is not 16 to 255"):
        made.interrupt(15)
    made.start()
    guest = made.pc.guest
    guest.wait_u32(0x8004, 1, timeout_s=DEADLINE_S)
    for count in range(1, 101):
        irq.trigger()
        guest.wait_u32(0x8000, count, timeout_s=DEADLINE_S)
    made.stop()


def test_it_finds_the_devices_that_test_programs_look_for(assemble: Assemble, machine: Make) -> None:
    source = """
        mov $0x510, %edx
        mov $5, %eax
        out %ax, %dx
        inc %edx
        in %dx, %al
        movzbl %al, %ebx
        mov $0x12345678, %eax
        out %eax, $0xe0
        in $0xe1, %al
        movzbl %al, %ecx
        mov $5, %al
        out %al, $0xf4
    """
    ending = machine(assemble(HEADER + source), smp=2).run(DEADLINE_S)
    assert (ending.reason, ending.exit_status) == (Reason.DEBUG_EXIT, 11)
    assert (ending.registers["rbx"], ending.registers["rcx"]) == (2, 0x56)


def test_a_line_of_the_test_device_reaches_the_pic(assemble: Assemble, machine: Make) -> None:
    source = """
        mov $0x2005, %edx
        mov $1, %al
        out %al, %dx
        mov $0x0a, %al
        out %al, $0x20
        in $0x20, %al
        movzbl %al, %ebx
    """
    assert machine(assemble(HEADER + source + HALT)).run(DEADLINE_S).registers["rbx"] & 0x20


def test_the_memory_of_the_test_device_keeps_what_is_written(assemble: Assemble, machine: Make) -> None:
    source = "movl $0x1234, 0xff000ffe\n incl 0xff000ffe\n mov 0xff000ffe, %ebx\n mov 0xff010000, %ecx"
    registers = machine(assemble(HEADER + source + HALT)).run(DEADLINE_S).registers
    assert (registers["rbx"], registers["rcx"]) == (0x1235, 0xFFFFFFFF)


def test_other_images_do_not_find_those_devices(assemble: Assemble, machine: Make) -> None:
    source = "mov $0x511, %dx\n in %dx, %al\n movzbl %al, %ebx\n in $0xe0, %al\n movzbl %al, %ecx\n cli\n hlt"
    registers = machine(assemble.boot_sector(source)).run(DEADLINE_S).registers
    assert (registers["rbx"], registers["rcx"]) == (0xFF, 0xFF)
