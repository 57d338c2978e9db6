"""INT 9, behind the keyboard's interrupt, and INT 16h: keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.bios.data_area import BASE, KEY_RING_END, KEY_RING_FIRST
from kvmbind.machine.bios.services import service
from kvmbind.machine.keys import EXTENDED, RELEASED, Key, standard

if TYPE_CHECKING:
    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call

_CTRL, _LEFT_SHIFT, _RIGHT_SHIFT, _ALT = 0x1D, 0x2A, 0x36, 0x38
_CAPS_LOCK, _NUM_LOCK, _SCROLL_LOCK, _INSERT = 0x3A, 0x45, 0x46, 0x52
#: Bits of 40:17 while these are held.
_HELD = {_RIGHT_SHIFT: 0x01, _LEFT_SHIFT: 0x02, _CTRL: 0x04, _ALT: 0x08}
#: Bits of 40:17 that these turn over, with the bit of 40:18 while they are held.
_TURNED = {_SCROLL_LOCK: 0x10, _NUM_LOCK: 0x20, _CAPS_LOCK: 0x40, _INSERT: 0x80}


@service(0x09)
def key_interrupt(bios: Bios, call: Call) -> None:
    """Takes the code that the keyboard controller has, and puts its key into the ring."""
    code = bios.keyboard.take()
    pressed = not code.scancode & RELEASED
    key = code.scancode & ~RELEASED
    data = bios.data
    if key in _HELD:
        bit = _HELD[key]
        data.shift_flags = data.shift_flags | bit if pressed else data.shift_flags & ~bit
    elif key in _TURNED and code.scancode != EXTENDED:
        bit = _TURNED[key]
        data.more_shift_flags = data.more_shift_flags | bit if pressed else data.more_shift_flags & ~bit
        if pressed:
            data.shift_flags ^= bit
    if code.key is not None:
        push_key(bios, *code.key)


def push_key(bios: Bios, scancode: int, ascii: int) -> bool:
    """Puts a key into the ring; returns whether there was room."""
    start, end = ring(bios)
    tail = bios.data.key_tail
    if not start <= tail < end:
        tail = start
    after = tail + 2 if tail + 2 < end else start
    if after == bios.data.key_head:
        return False
    bios.memory.write(bytes((ascii, scancode)), BASE + tail)
    bios.data.key_tail = after
    return True


def ring(bios: Bios) -> tuple[int, int]:
    """Returns the offsets between which the ring lies: programs may move it."""
    start, end = bios.data.key_ring_start, bios.data.key_ring_end
    return (start, end) if start < end else (KEY_RING_FIRST, KEY_RING_END)


def peek_key(bios: Bios) -> Key | None:
    """Returns the next key; None: there is none."""
    head = bios.data.key_head
    if head == bios.data.key_tail:
        return None
    ascii, scancode = bios.memory.read(BASE + head, 2)
    return Key(scancode, ascii)


def pop_key(bios: Bios) -> None:
    """Takes the next key out of the ring."""
    start, end = ring(bios)
    after = bios.data.key_head + 2
    bios.data.key_head = after if start <= after < end else start


def wait_key(bios: Bios, call: Call) -> Key | None:
    """Takes a key; with none there the guest sleeps, and the service is called again."""
    key = peek_key(bios)
    if key is None:
        bios.host.wants_key()
        call.sleep()
    else:
        pop_key(bios)
    return key


@service(0x16, 0x00)
def read_key(bios: Bios, call: Call) -> None:
    """Waits. Returns AH: scan code; AL: character."""
    if key := wait_key(bios, call):
        call.ah, call.al = standard(key)


@service(0x16, 0x10)
def read_enhanced_key(bios: Bios, call: Call) -> None:
    """Waits. Returns AH: scan code; AL: character."""
    if key := wait_key(bios, call):
        call.ah, call.al = key


def poll(bios: Bios, call: Call) -> Key | None:
    """Looks at the next key, which stays; ZF tells that there is none. Who asks too often sleeps a little."""
    key = peek_key(bios)
    call.zero = key is None
    if call.is_resumed:
        if bios.brake.goes_on() and key is None:
            call.sleep()
    elif key is None:
        bios.host.wants_key()
        if bios.brake.applies():
            call.sleep()
    return key


@service(0x16, 0x01)
def poll_key(bios: Bios, call: Call) -> None:
    """ZF = 1: no key; else AX has it, and it stays."""
    if key := poll(bios, call):
        call.ah, call.al = standard(key)


@service(0x16, 0x11)
def poll_enhanced_key(bios: Bios, call: Call) -> None:
    """ZF = 1: no key; else AX has it, and it stays."""
    if key := poll(bios, call):
        call.ah, call.al = key


@service(0x16, 0x02)
def get_shift(bios: Bios, call: Call) -> None:
    """Returns AL: the shift flags."""
    call.al = bios.data.shift_flags


@service(0x16, 0x12)
def get_enhanced_shift(bios: Bios, call: Call) -> None:
    """Returns AL: the shift flags; AH: those of the left and right keys."""
    call.al = bios.data.shift_flags
    call.ah = bios.data.more_shift_flags


@service(0x16, 0x03)
def set_repeat(bios: Bios, call: Call) -> None:
    """Keys do not repeat by themselves here."""


@service(0x16, 0x05)
def store_key(bios: Bios, call: Call) -> None:
    """CH: scan code; CL: character. Returns AL: 0, or 1 if the ring is full."""
    call.al = 0 if push_key(bios, call.ch, call.cl) else 1


@service(0x16, 0x09)
def get_functions(bios: Bios, call: Call) -> None:
    """Returns AL: 10h-12h are there."""
    call.al = 0x20
