"""Instructions that some KVMs cannot execute: on each KVM a program that uses them goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from kvmbind.machine.ending import Reason

if TYPE_CHECKING:
    from kvmbind import Machine
    from tests.machine.conftest import Assemble

    Make = Callable[..., Machine]

pytestmark = pytest.mark.kvm

DEADLINE_S = 60

# Enters protected mode with flat segments and an IDT whose vector 40h is `handler`, and goes on at `protected`.
ENTER = """
    cli
    mov ${cr0}, %ebx
    lgdt gdtr
    lidt idtr
    mov %cr0, %eax
    or %ebx, %eax
    mov %eax, %cr0
    ljmp $8, $protected
gdtr: .word 23
    .long gdt
idtr: .word 0x40 * 8 + 7
    .long idt
gdt: .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .set idt, gate - 0x40 * 8
gate: .word handler, 8, 0x8e00, 0
    .code32
protected:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7000, %esp
    {body}
    movb $'Y', 0xb8000
    cli
    hlt
handler:
    {handler}
"""


@pytest.mark.parametrize(
    ("body", "handler"),
    [
        ("int $0x40\n cmp $7, %ecx\n jne 1f", "mov $7, %ecx\n iretl"),
        ("stc\n int $0x40\n jnc 1f\n cmp $0x7000, %esp\n jne 1f", "clc\n iretl"),
        ("fwait", "iretl"),
    ],
    ids=["iret", "iret's flags and stack", "fwait"],
)
def test_a_program_in_protected_mode_goes_on_behind_it(
    assemble: Assemble, machine: Make, body: str, handler: str
) -> None:
    source = ENTER.format(cr0="1", body=body, handler=handler + "\n 1: cli\n hlt")
    ending = machine(assemble.boot_sector(source)).run(DEADLINE_S)
    assert (ending.reason, ending.screen) == (Reason.HALTED, "Y")


def test_an_iret_that_no_processor_would_do_is_an_end(assemble: Assemble, machine: Make) -> None:
    """Its frame names a segment that does not exist, and nobody handles the fault."""
    source = ENTER.format(cr0="1", body="pushl $2\n pushl $0x50\n pushl $0\n iretl", handler="hlt")
    ending = machine(assemble.boot_sector(source)).run(DEADLINE_S)
    assert ending.reason in (Reason.SHUTDOWN, Reason.CANNOT_RUN)
