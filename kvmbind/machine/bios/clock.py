"""INT 1Ah: time of day, and INT 15h/83h, 86h: waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.bios.data_area import TICKS_A_DAY
from kvmbind.machine.bios.services import service
from kvmbind.machine.devices.cmos import bcd

if TYPE_CHECKING:
    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call

_NS_PER_US = 1000
_NS_PER_MS = 1_000_000


@service(0x1A, 0x00)
def get_ticks(bios: Bios, call: Call) -> None:
    """Returns CX:DX: ticks since midnight; AL: whether midnight has passed since the last call."""
    ticks = bios.data.ticks
    call.cx, call.dx = ticks >> 16, ticks
    call.al = bios.data.midnight
    bios.data.midnight = 0


@service(0x1A, 0x01)
def set_ticks(bios: Bios, call: Call) -> None:
    """CX:DX: ticks since midnight."""
    bios.data.ticks = (call.cx << 16 | call.dx) % TICKS_A_DAY
    bios.data.midnight = 0


@service(0x1A, 0x02)
def get_time(bios: Bios, call: Call) -> None:
    """Returns CH, CL, DH: hour, minute, second in BCD."""
    _, _, _, hour, minute, second, _ = bios.host.local_time()
    call.ch, call.cl, call.dh, call.dl = bcd(hour), bcd(minute), bcd(second), 0
    call.carry = False


@service(0x1A, 0x04)
def get_date(bios: Bios, call: Call) -> None:
    """Returns CH, CL, DH, DL: century, year, month, day in BCD."""
    year, month, day, *_ = bios.host.local_time()
    call.ch, call.cl, call.dh, call.dl = bcd(year // 100), bcd(year % 100), bcd(month), bcd(day)
    call.carry = False


@service(0x1A, 0x03, 0x05)
def set_clock(bios: Bios, call: Call) -> None:
    """The clock is the host's, and stays as it is."""
    call.carry = False


@service(0x15, 0x86)
def wait(bios: Bios, call: Call) -> None:
    """CX:DX: microseconds. Interrupts go on meanwhile."""
    now_ms = bios.host.now_ns() // _NS_PER_MS & 0xFFFFFFFF
    if not call.is_resumed:
        until_ns = bios.host.now_ns() + (call.cx << 16 | call.dx) * _NS_PER_US
        bios.host.wake_at(until_ns)
        call.scratch = -(-until_ns // _NS_PER_MS) & 0xFFFFFFFF
    remaining_ms = call.scratch - now_ms & 0xFFFFFFFF
    if 0 < remaining_ms < 1 << 31:
        call.sleep()
    else:
        call.succeed()
