"""INT 20h, 21h and 29h: as much of DOS as a .COM program needs that has no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.bios.keyboard import poll, pop_key, wait_key
from kvmbind.machine.bios.services import service
from kvmbind.machine.bios.slices import in_slices
from kvmbind.machine.ending import Reason

if TYPE_CHECKING:
    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call

_INVALID_FUNCTION, _FILE_NOT_FOUND, _INVALID_HANDLE, _NO_MEMORY = 1, 2, 6, 8
_STDIN, _STDOUT, _STDERR = 0, 1, 2
_CHARACTER_DEVICE = 0x80D3
_CTRL_C, _CR, _LF, _BS, _TAB = 0x03, 0x0D, 0x0A, 0x08, 0x09
_TAB_STOPS = 8
_KEYS_AT_ONCE = 8  # a ring that a program has spoilt never runs empty
_VERSION = 0x0005  # 5.00: AL is the major number


def _print(bios: Bios, text: bytes) -> None:
    for character in text:
        _print_one(bios, character)


def _print_one(bios: Bios, character: int) -> None:
    page = bios.data.page
    if character == _TAB:
        _, column = bios.data.cursor(page)
        _print(bios, b" " * (_TAB_STOPS - column % _TAB_STOPS))
    else:
        bios.video.teletype(character, page, None if bios.video.mode.layout == "text" else 0x07)


def _print_long(bios: Bios, call: Call, text: bytes) -> None:
    for at in in_slices(bios, call, len(text)):
        _print_one(bios, text[at])


def _end(bios: Bios, status: int = 0) -> None:
    bios.host.end(Reason.TERMINATED, status)


@service(0x20)
def terminate(bios: Bios, call: Call) -> None:
    """The program is done."""
    _end(bios)


@service(0x29)
def fast_print(bios: Bios, call: Call) -> None:
    """AL: a character."""
    _print(bios, bytes((call.al,)))


@service(0x21)
def other_dos(bios: Bios, call: Call) -> None:
    """Functions that do not exist: AX = 1."""
    call.ax = _INVALID_FUNCTION
    call.carry = True


@service(0x21, 0x00)
def dos_terminate(bios: Bios, call: Call) -> None:
    """The program is done."""
    _end(bios)


@service(0x21, 0x4C, 0x31)
def exit_with_status(bios: Bios, call: Call) -> None:
    """AL: the exit status."""
    _end(bios, call.al)


# Keys: DOS gives an extended key as two characters, 0 and the scan code. The second one waits in the ring.


def _read_character(bios: Bios, call: Call) -> int | None:
    """Takes a character; None: there is none, and the guest sleeps."""
    kept, bios.dos_scancode = bios.dos_scancode, None
    if kept is not None:
        return kept
    key = wait_key(bios, call)
    return None if key is None else _character(bios, *key)


def _character(bios: Bios, scancode: int, ascii: int) -> int:
    if scancode and ascii in (0x00, 0xE0):
        bios.dos_scancode = scancode
        return 0
    return ascii


@service(0x21, 0x01)
def read_and_print(bios: Bios, call: Call) -> None:
    """Waits. Returns AL: the character, which is printed and may be ^C."""
    character = _read_character(bios, call)
    if character is not None:
        call.al = character
        _print(bios, bytes((character,)))
        if character == _CTRL_C:
            _end(bios)


@service(0x21, 0x07, 0x08)
def read_character(bios: Bios, call: Call) -> None:
    """Waits. Returns AL: the character."""
    character = _read_character(bios, call)
    if character is not None:
        is_break = character == _CTRL_C and call.ah == 0x08
        call.al = character
        if is_break:
            _end(bios)


@service(0x21, 0x0B)
def is_key_there(bios: Bios, call: Call) -> None:
    """Returns AL: FFh if a key waits."""
    call.al = 0xFF if bios.dos_scancode is not None or poll(bios, call) else 0


@service(0x21, 0x0C)
def flush_and_read(bios: Bios, call: Call) -> None:
    """Forgets the keys that wait; AL: the function that reads one then."""
    if not call.is_resumed:
        bios.data.key_head = bios.data.key_tail
        bios.dos_scancode = None
    match call.al:
        case 0x01:
            read_and_print(bios, call)
        case 0x07 | 0x08:
            read_character(bios, call)
        case 0x0A:
            read_line(bios, call)
        case _:
            call.al = 0


@service(0x21, 0x06)
def direct_io(bios: Bios, call: Call) -> None:
    """DL: a character to print; FFh reads one: ZF = 1 and AL = 0 if there is none."""
    if call.dl != 0xFF:
        _print(bios, bytes((call.dl,)))
        call.al = call.dl
        return
    character, bios.dos_scancode = bios.dos_scancode, None
    if character is None:
        key = poll(bios, call)
        if key is not None:
            pop_key(bios)
            character = _character(bios, *key)
    call.zero = character is None
    call.al = character or 0


@service(0x21, 0x0A)
def read_line(bios: Bios, call: Call) -> None:
    """DS:DX: a buffer: its size, then the length of what is typed, then that and CR. Waits for Enter."""
    buffer = (call.ds << 4) + call.dx
    size = bios.memory.u8(buffer)
    if not call.is_resumed:
        bios.memory.set_u8(buffer + 1, 0)
    for _ in range(_KEYS_AT_ONCE if size else 0):
        character = _read_character(bios, call)
        if character is None:
            return
        length = bios.memory.u8(buffer + 1)
        if character == _CR:
            bios.memory.set_u8(buffer + 2 + length, _CR)
            _print(bios, b"\r")
            return
        if character == _CTRL_C:
            _end(bios)
            return
        if character == _BS and length:
            bios.memory.set_u8(buffer + 1, length - 1)
            _print(bios, b"\b \b")
        elif character not in (0, _BS) and length + 1 < size:
            bios.memory.set_u8(buffer + 2 + length, character)
            bios.memory.set_u8(buffer + 1, length + 1)
            _print(bios, bytes((character,)))
    if size:
        call.ask_again()


# Characters out


@service(0x21, 0x02)
def print_character(bios: Bios, call: Call) -> None:
    """DL: a character."""
    _print(bios, bytes((call.dl,)))
    call.al = call.dl


@service(0x21, 0x09)
def print_string(bios: Bios, call: Call) -> None:
    """DS:DX: characters up to a $."""
    _print_long(bios, call, bios.memory.string((call.ds << 4) + call.dx, b"$"))
    if call.is_done:
        call.al = ord("$")


@service(0x21, 0x40)
def write_file(bios: Bios, call: Call) -> None:
    """BX: handle, of which there are the screen's; CX bytes at DS:DX."""
    if call.bx not in (_STDOUT, _STDERR):
        call.ax = _INVALID_HANDLE
        call.carry = True
        return
    _print_long(bios, call, bios.memory.read((call.ds << 4) + call.dx, call.cx))
    if call.is_done:
        call.ax = call.cx
        call.carry = False


@service(0x21, 0x3F)
def read_file(bios: Bios, call: Call) -> None:
    """BX: handle, of which there is the keyboard's: it gives no more than there is, at least one character."""
    if call.bx != _STDIN:
        call.ax = _INVALID_HANDLE
        call.carry = True
        return
    character = _read_character(bios, call) if call.cx else None
    if character is None and call.cx:
        return
    if character is not None:
        bios.memory.set_u8((call.ds << 4) + call.dx, character)
        _print(bios, bytes((character,)))
    call.ax = min(call.cx, 1)
    call.carry = False


@service(0x21, 0x3C, 0x3D, 0x4E, 0x4F, 0x41, 0x43)
def open_file(bios: Bios, call: Call) -> None:
    """There are no files."""
    call.ax = _FILE_NOT_FOUND
    call.carry = True


@service(0x21, 0x3E)
def close_file(bios: Bios, call: Call) -> None:
    """BX: a handle."""
    call.carry = call.bx > _STDERR
    if call.carry:
        call.ax = _INVALID_HANDLE


@service(0x21, 0x44)
def device_control(bios: Bios, call: Call) -> None:
    """AL 0, BX: handle. Returns DX: what it is, the screen or the keyboard."""
    if call.al == 0 and call.bx <= _STDERR:
        call.dx = _CHARACTER_DEVICE
        call.carry = False
    else:
        other_dos(bios, call)


# Memory, vectors, time


@service(0x21, 0x48)
def allocate(bios: Bios, call: Call) -> None:
    """A program has all memory already."""
    call.ax, call.bx = _NO_MEMORY, 0
    call.carry = True


@service(0x21, 0x49, 0x4A)
def resize(bios: Bios, call: Call) -> None:
    """What it gives back nobody else needs."""
    call.carry = False


@service(0x21, 0x25)
def set_vector(bios: Bios, call: Call) -> None:
    """AL: vector; DS:DX: handler."""
    bios.memory.set_u32(4 * call.al, call.ds << 16 | call.dx)


@service(0x21, 0x35)
def get_vector(bios: Bios, call: Call) -> None:
    """AL: vector. Returns ES:BX."""
    pointer = bios.memory.u32(4 * call.al)
    call.es, call.bx = pointer >> 16, pointer & 0xFFFF


@service(0x21, 0x30)
def get_version(bios: Bios, call: Call) -> None:
    """Returns AL, AH: the version."""
    call.ax = _VERSION
    call.bx = call.cx = 0


@service(0x21, 0x2A)
def dos_date(bios: Bios, call: Call) -> None:
    """Returns CX, DH, DL: year, month, day; AL: day of the week."""
    call.cx, call.dh, call.dl, _, _, _, call.al = bios.host.local_time()


@service(0x21, 0x2C)
def dos_time(bios: Bios, call: Call) -> None:
    """Returns CH, CL, DH, DL: hour, minute, second, hundredth."""
    _, _, _, call.ch, call.cl, call.dh, _ = bios.host.local_time()
    call.dl = bios.host.now_ns() // 10_000_000 % 100


@service(0x21, 0x0E, 0x19, 0x0D, 0x1A, 0x33, 0x2E, 0x54)
def no_drive(bios: Bios, call: Call) -> None:
    """Drive A: and its like: nothing to do."""
    if call.ah in (0x19, 0x33, 0x54):
        call.al = 0
        if call.ah == 0x33:
            call.dl = 0


@service(0x21, 0x51, 0x62)
def get_psp(bios: Bios, call: Call) -> None:
    """Returns BX: the program's segment."""
    call.bx = call.cs
