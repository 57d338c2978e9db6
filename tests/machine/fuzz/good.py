"""Images that work, from which the fuzzer makes others: between them they use every kind of service and device."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from kvmbind.machine.images.detect import SECTOR
from tests.machine.conftest import Assemble
from tests.machine.images.multiboot_images import Load, elf, header

_EXAMPLES = Path(__file__).parents[3] / "examples" / "images"

_SHOW = """
    mov $0x{mode:04x}, %ax
    int $0x10
    push %cs
    pop %es
    mov $text, %bp
    mov $0x1301, %ax
    mov $0x0007, %bx
    mov $12, %cx
    mov $0x0203, %dx
    int $0x10
    mov $0x0941, %ax
    mov $0x008f, %bx
    mov $40, %cx
    int $0x10
    mov $0x0c0d, %ax
    mov $100, %cx
    mov $100, %dx
    int $0x10
    mov $0x0602, %ax
    mov $0x17, %bh
    xor %cx, %cx
    mov $0x1040, %dx
    int $0x10
    mov $0x3c4, %dx
    mov $0x0f02, %ax
    out %ax, %dx
    mov $0xa000, %ax
    mov %ax, %es
    movw $0xaa55, %es:0x100
    mov %es:0x100, %ax
    cli
    hlt
text: .ascii "Twelve bytes"
"""
_SECTORS = """
    mov $0x41, %ah
    mov $0x55aa, %bx
    int $0x13
    mov $0x08, %ah
    int $0x13
    mov $0x{drive:02x}, %dl
    mov $0x0000, %bx
    mov $0x1000, %ax
    mov %ax, %es
    mov $0x0204, %ax
    mov $0x0001, %cx
    mov $0x00, %dh
    int $0x13
    mov $0x0302, %ax
    mov $0x0002, %cx
    int $0x13
    mov $packet, %si
    mov $0x42, %ah
    int $0x13
    mov $packet, %si
    mov $0x43, %ah
    int $0x13
    mov $0x15, %ah
    int $0x13
    int $0x18
packet: .byte 16, 0
    .word 2, 0, 0x3000
    .quad 1
"""
_TIMER = """
    cli
    xor %ax, %ax
    mov %ax, %ds
    movw $tick, 4 * 0x1c
    movw %cs, 4 * 0x1c + 2
    mov $0x34, %al
    out %al, $0x43
    xor %al, %al
    out %al, $0x40
    mov $0x08, %al
    out %al, $0x40
    mov $0x01, %al
    mov $0x3f9, %dx
    out %al, %dx
    sti
1:  hlt
    in $0x60, %al
    in $0x64, %al
    in $0x71, %al
    mov $0x3fd, %dx
    in %dx, %al
    mov $0x3f8, %dx
    in %dx, %al
    mov $text, %si
    mov $5, %cx
    rep outsb
    mov $1, %ah
    int $0x16
    xor %ah, %ah
    int $0x1a
    cmpw $10, %cs:count
    jb 1b
    mov $0x11, %al
    out %al, $0xf4
tick: incw %cs:count
    iret
count: .word 0
text: .ascii "serial"
"""
_WAITS = """
    mov $0x8600, %ax
    xor %cx, %cx
    mov $0x1000, %dx
    int $0x15
    mov $table, %si
    mov $0x8700, %ax
    mov $0x800, %cx
    int $0x15
    mov $0xe820, %eax
    mov $0x534d4150, %edx
    xor %ebx, %ebx
    mov $20, %ecx
    mov $0x600, %di
    int $0x15
    xor %ah, %ah
    int $0x16
    int $0x19
table: .fill 16, 1, 0
    .word 0xffff, 0, 0x9300, 0
    .word 0xffff, 0, 0x9310, 0
    .fill 16, 1, 0
"""
_PROTECTED = """
    cli
    lgdt gdtr
    lidt idtr
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmp $8, $1f
1:  .code32
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov $0x7000, %esp
    mov 0xfee00020, %eax
    mov %eax, 0xd0000
    int $0x30
    mov $0x10, %al
    out %al, $0xf4
2:  iretl
    .code16
gdtr: .word 23
    .long gdt
idtr: .word 0x187
    .long idt - 0x180
    .balign 8
idt: .word 2b, 8, 0x8e00, 0
gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
"""
_DOS = """
    .set base, 0x7b00
    mov $text - base, %dx
    mov $9, %ah
    int $0x21
    mov $0x40, %ah
    mov $1, %bx
    mov $6, %cx
    int $0x21
    mov $0x2c, %ah
    int $0x21
    mov $0x3510, %ax
    int $0x21
    mov $0x0b, %ah
    int $0x21
    mov $6, %ah
    mov $0xff, %dl
    int $0x21
    mov $buffer - base, %dx
    mov $0x0a, %ah
    int $0x21
    mov $0x4c03, %ax
    int $0x21
text: .ascii "A\\tline\\r\\n$"
buffer: .byte 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
"""
_MULTIBOOT = """
    .set FLAGS, 0x10000
header: .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS), header, header, 0, 0, start
    .code32
start:
    mov $0x7000, %esp
    mov 4(%ebx), %eax
    mov $0x510, %dx
    mov $5, %ax
    out %ax, %dx
    inc %edx
    in %dx, %al
    mov $0x2004, %dx
    mov $1, %al
    out %al, %dx
    mov %eax, 0xff000010
    mov $0xfee00300, %eax
    movl $0x000c4500, (%eax)
    mov $0x3f8, %dx
    mov $0x41, %al
    out %al, %dx
    mov $0x10, %al
    out %al, $0xf4
"""
_ELF_CODE = bytes.fromhex("bc00700000 66baf803 b041ee b010e6f4 faf4")


class Good(NamedTuple):
    """An image that works."""

    name: str
    image: bytes
    format: str | None = None
    smp: int = 1
    keys: str = ""


def _boot(assemble: Assemble, source: str, sectors: int = 1) -> bytes:
    return assemble.boot_sector(source).ljust(sectors * SECTOR, b"\x5a")


def _partitioned(sector: bytes) -> bytes:
    entry = bytes((0x80, 1, 1, 0, 6, 3, 17, 9)) + (17).to_bytes(4, "little") + (100).to_bytes(4, "little")
    return sector[:446] + entry + bytes(48) + sector[510:]


@cache
def good_images() -> tuple[Good, ...]:
    """Returns them; assembling takes a moment."""
    assemble = Assemble()
    found = [Good(path.stem, path.read_bytes(), keys="ab{enter}{esc}") for path in sorted(_EXAMPLES.glob("*.bin"))]
    found = [good._replace(smp=3 if good.name == "smp" else 1) for good in found]
    found += [Good(f"show {mode:02x}h", _boot(assemble, _SHOW.format(mode=mode))) for mode in (3, 4, 0x12, 0x13)]
    hard = _partitioned(_boot(assemble, _SECTORS.format(drive=0x80)))
    system = bytearray(_boot(assemble, _TIMER).ljust(0x10000, b"\xf4"))
    system[-16:-11] = bytes.fromhex("ea 0000 00f0")
    return (
        *found,
        Good("floppy", _boot(assemble, _SECTORS.format(drive=0), 2880), "floppy"),
        Good("small floppy", _boot(assemble, _SECTORS.format(drive=0), 5), "floppy"),
        Good("disk", hard.ljust(200 * SECTOR, b"\xa5"), "disk"),
        Good("flat", assemble(_TIMER), "flat"),
        Good("boot", _boot(assemble, _TIMER), "boot", keys="x"),
        Good("waits", _boot(assemble, _WAITS), keys="y"),
        Good("protected", _boot(assemble, _PROTECTED)),
        Good("com", assemble(_DOS), "com", keys="line{enter}"),
        Good("multiboot", assemble(_MULTIBOOT), "multiboot", smp=2),
        Good("multiboot elf", elf(Load(header() + _ELF_CODE, 0x100000)), "multiboot"),
        Good("option rom", b"\x55\xaa\x01" + assemble(_DOS)[:500].ljust(509, b"\0"), "rom"),
        Good("system rom", bytes(system), "rom"),
    )
