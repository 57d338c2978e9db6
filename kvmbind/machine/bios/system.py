"""INT 0, 6, 0Ch, 0Dh, 11h, 12h, 14h, 15h, 17h, 18h and 19h: what a PC is, and how a program ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.bios import rom
from kvmbind.machine.bios.services import service
from kvmbind.machine.ending import Reason
from kvmbind.machine.memory import ranges

if TYPE_CHECKING:
    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call

_UNSUPPORTED = 0x86
_MEGABYTE, _SIXTEEN_MEGABYTES = 1 << 20, 16 << 20
_SMAP = 0x534D4150
_ENTRY_BYTES = 20
_FAULTS = {
    0x00: "divide error",
    0x06: "invalid instruction",
    0x0C: "stack fault",
    0x0D: "general protection fault: an access across the end of its segment, or an instruction longer than 15 bytes",
}


@service(0x00)
@service(0x06)
@service(0x0C)
@service(0x0D)
def fault(bios: Bios, call: Call) -> None:
    """Nobody handles it: returning would only run into it again."""
    bios.host.end(Reason.FAULT, detail=f"{_FAULTS[call.vector]} at {call.cs:04x}:{call.ip:04x}")


@service(0x11)
def get_equipment(bios: Bios, call: Call) -> None:
    """Returns AX: what there is."""
    call.ax = bios.data.equipment


@service(0x12)
def get_memory(bios: Bios, call: Call) -> None:
    """Returns AX: KiB of memory from 0 on."""
    call.ax = bios.data.memory_kib


@service(0x14)
def serial(bios: Bios, call: Call) -> None:
    """DX: port. AH 0 and 3 return the status, 1 sends AL; a second port does not exist, nor does anything come in."""
    if call.dx:
        call.ah = 0x80
    elif call.ah == 0x01:
        bios.serial.send(call.al)
        call.ah = 0x60
    elif call.ah == 0x02:
        call.ah = 0x80
    else:
        call.ax = 0x60B0


@service(0x17)
def printer(bios: Bios, call: Call) -> None:
    """There is none: it times out."""
    call.ah = 0x01


@service(0x18)
def no_boot(bios: Bios, call: Call) -> None:
    """The program has found nothing to boot."""
    bios.host.end(Reason.NO_BOOT)


@service(0x19)
def reboot(bios: Bios, call: Call) -> None:
    """The program wants the machine to start again."""
    bios.host.end(Reason.REBOOT)


@service(0x15)
def other_system(bios: Bios, call: Call) -> None:
    """Functions that do not exist: AH = 86h."""
    call.fail(_UNSUPPORTED)


@service(0x15, 0x24)
def a20(bios: Bios, call: Call) -> None:
    """Line A20 is on for good; AL 2 returns that, 3 that port 92h switches it too."""
    match call.al:
        case 0x01:
            call.succeed()
        case 0x02:
            call.succeed()
            call.al = 1
        case 0x03:
            call.succeed()
            call.bx = 3
        case _:
            call.fail(_UNSUPPORTED)


@service(0x15, 0x4F)
def intercept_key(bios: Bios, call: Call) -> None:
    """The key stays what it is."""
    call.carry = True


@service(0x15, 0x87)
def move_block(bios: Bios, call: Call) -> None:
    """ES:SI: descriptors of a source and a target anywhere; CX: words."""
    table = bios.memory.read((call.es << 4) + call.si, 0x20)
    source, target = (int.from_bytes(table[at + 2 : at + 5] + table[at + 7 : at + 8], "little") for at in (0x10, 0x18))
    bios.memory.write(bios.memory.read(source, 2 * call.cx), target)
    call.succeed()


@service(0x15, 0x88)
def get_extended_memory(bios: Bios, call: Call) -> None:
    """Returns AX: KiB above 1 MiB, at most 63 MiB."""
    call.ax = min(max(bios.memory.size - _MEGABYTE, 0) >> 10, 0xFC00)
    call.carry = False


@service(0x15, 0xC0)
def get_configuration(bios: Bios, call: Call) -> None:
    """Returns ES:BX: a table."""
    call.es, call.bx = rom.SEGMENT, rom.CONFIGURATION
    call.succeed()


@service(0x15, 0xC1)
def get_extended_area(bios: Bios, call: Call) -> None:
    """Returns ES: the extended BIOS data area."""
    call.es = bios.data.extended_area
    call.carry = False


@service(0x15, 0xE8)
def get_memory_map(bios: Bios, call: Call) -> None:
    """AL 01h and 20h; see _get_sizes and _get_range."""
    if call.al == 0x01:
        _get_sizes(bios, call)
    elif call.al == 0x20:
        _get_range(bios, call)
    else:
        call.fail(_UNSUPPORTED)


def _get_sizes(bios: Bios, call: Call) -> None:
    """Returns AX, CX: KiB from 1 to 16 MiB; BX, DX: 64-KiB blocks above."""
    size = bios.memory.size
    call.ax = call.cx = max(min(size, _SIXTEEN_MEGABYTES) - _MEGABYTE, 0) >> 10
    call.bx = call.dx = max(size - _SIXTEEN_MEGABYTES, 0) >> 16
    call.carry = False


def _get_range(bios: Bios, call: Call) -> None:
    """EBX: which, from 0; ES:DI gets it. Returns EBX: the next, 0 behind the last; EAX: "SMAP"; ECX: bytes."""
    found = ranges(bios.memory.size, bios.data.memory_kib << 10)
    number = call.ebx
    if call.edx != _SMAP or call.ecx < _ENTRY_BYTES or number >= len(found):
        call.fail(_UNSUPPORTED)
        return
    start, end, kind = found[number]
    entry = start.to_bytes(8, "little") + (end - start).to_bytes(8, "little") + kind.to_bytes(4, "little")
    bios.memory.write(entry, (call.es << 4) + call.di)
    call.eax, call.ecx = _SMAP, _ENTRY_BYTES
    call.ebx = number + 1 if number + 1 < len(found) else 0
    call.carry = False
