"""INT 13h: floppies and disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.bios import rom
from kvmbind.machine.bios.services import service
from kvmbind.machine.disk import FIRST_DISK
from kvmbind.machine.images.detect import SECTOR

if TYPE_CHECKING:
    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call
    from kvmbind.machine.disk import Disk

INVALID, NOT_FOUND, TIMEOUT, CHANGED_LINE = 0x01, 0x04, 0x80, 0x01
_TRANSFER_MAX = 127  # sectors, of the extended functions
_PACKET_BYTES = 16
_PARAMETERS_BYTES = 0x1A
_VERSION, _SUBSETS = 0x21, 0x0005
_IS_FLOPPY, _IS_DISK, _IS_ABSENT = 0x01, 0x03, 0x00


def _drive(bios: Bios, call: Call) -> Disk | None:
    """The drive in DL; if there is none the call fails."""
    disk = bios.disks.get(call.dl)
    if disk is None:
        _finish(bios, call, TIMEOUT if call.dl < FIRST_DISK else INVALID)
    return disk


def _finish(bios: Bios, call: Call, status: int = 0) -> None:
    if call.dl < FIRST_DISK:
        bios.data.floppy_status = status
    else:
        bios.data.disk_status = status
    if status:
        call.fail(status)
    else:
        call.succeed()


@service(0x13)
def other_disk(bios: Bios, call: Call) -> None:
    """Functions that do not exist: invalid."""
    _finish(bios, call, INVALID)


@service(0x13, 0x00, 0x09, 0x0C, 0x0D, 0x10, 0x11, 0x14, 0x47)
def reset_or_seek(bios: Bios, call: Call) -> None:
    """Resets, seeks and tests of a drive that is there have nothing to do."""
    if call.ah == 0 or _drive(bios, call) is not None:
        _finish(bios, call)


@service(0x13, 0x01)
def get_status(bios: Bios, call: Call) -> None:
    """Returns AH: the status of the last operation."""
    status = bios.data.floppy_status if call.dl < FIRST_DISK else bios.data.disk_status
    call.ah = status
    call.carry = bool(status)


def _place(bios: Bios, call: Call) -> tuple[Disk, int] | None:
    """The drive in DL and the sector in CH, CL and DH, of which AL are there; else the call fails."""
    disk = _drive(bios, call)
    if disk is None:
        return None
    cylinder = call.ch | (call.cl & 0xC0) << 2
    first = disk.sector_of(cylinder, call.dh, call.cl & 0x3F)
    if first is None or not disk.holds(first, call.al):
        call.al = 0
        _finish(bios, call, NOT_FOUND)
        return None
    return disk, first


@service(0x13, 0x02)
def read_sectors(bios: Bios, call: Call) -> None:
    """AL sectors from CH, CL, DH of drive DL to ES:BX. Returns AL: how many."""
    if found := _place(bios, call):
        disk, first = found
        bios.memory.write(disk.read(first, call.al), (call.es << 4) + call.bx)
        _finish(bios, call)


@service(0x13, 0x03)
def write_sectors(bios: Bios, call: Call) -> None:
    """The other way."""
    if found := _place(bios, call):
        disk, first = found
        disk.write(first, bios.memory.read((call.es << 4) + call.bx, call.al * SECTOR))
        _finish(bios, call)


@service(0x13, 0x04)
def verify_sectors(bios: Bios, call: Call) -> None:
    """Looks only whether they are there."""
    if _place(bios, call):
        _finish(bios, call)


@service(0x13, 0x05)
def format_track(bios: Bios, call: Call) -> None:
    """A track that is there is as good as formatted."""
    if _drive(bios, call) is not None:
        _finish(bios, call)


@service(0x13, 0x08)
def get_parameters(bios: Bios, call: Call) -> None:
    """Returns CX, DH: last cylinder, sector and head; DL: drives; for floppies BL: type, ES:DI: table."""
    disk = bios.disks.get(call.dl)
    if disk is None:
        call.cx = call.dx = 0
        bios.data.disk_status = 0x07
        call.fail(0x07)
        return
    cylinders, heads, sectors = disk.geometry
    is_floppy = call.dl < FIRST_DISK
    _finish(bios, call)
    call.al = 0
    if is_floppy:
        call.bx = disk.floppy_type
        call.es, call.di = rom.SEGMENT, rom.FLOPPY_TABLE
    last = cylinders - 1
    call.ch = last & 0xFF
    call.cl = sectors | last >> 2 & 0xC0
    call.dh = heads - 1
    call.dl = sum((number < FIRST_DISK) == is_floppy for number in bios.disks)


@service(0x13, 0x15)
def get_type(bios: Bios, call: Call) -> None:
    """Returns AH: 0 absent, 1 floppy, 3 disk with its sectors in CX:DX."""
    disk = bios.disks.get(call.dl)
    call.carry = False
    if disk is None:
        call.ah = _IS_ABSENT
    elif call.dl < FIRST_DISK:
        call.ah = _IS_FLOPPY
    else:
        call.ah = _IS_DISK
        total = disk.geometry.total
        call.cx, call.dx = total >> 16, total


@service(0x13, 0x16)
def get_change(bios: Bios, call: Call) -> None:
    """Nobody changes a floppy."""
    if _drive(bios, call) is not None:
        _finish(bios, call)


@service(0x13, 0x17, 0x18)
def set_media(bios: Bios, call: Call) -> None:
    """18h returns ES:DI: the parameter table."""
    if _drive(bios, call) is None:
        return
    if call.ah == 0x18:
        call.es, call.di = rom.SEGMENT, rom.FLOPPY_TABLE
    _finish(bios, call)


# The extended functions are for disks alone.


def _disk(bios: Bios, call: Call) -> Disk | None:
    disk = bios.disks.get(call.dl) if call.dl >= FIRST_DISK else None
    if disk is None:
        _finish(bios, call, INVALID)
    return disk


@service(0x13, 0x41)
def check_extensions(bios: Bios, call: Call) -> None:
    """BX 55AAh. Returns BX AA55h, AH: version, CX: what there is."""
    if call.bx != 0x55AA:
        _finish(bios, call, INVALID)
    elif _disk(bios, call) is not None:
        _finish(bios, call)
        call.bx, call.ah, call.cx = 0xAA55, _VERSION, _SUBSETS


def _transfer(bios: Bios, call: Call) -> tuple[Disk, int, int, int] | None:
    """The drive, first sector, count and address that the packet at DS:SI names; None: the call has failed."""
    disk = _disk(bios, call)
    if disk is None:
        return None
    at = (call.ds << 4) + call.si
    packet = bios.memory.read(at, _PACKET_BYTES + 8)
    count = int.from_bytes(packet[2:4], "little")
    offset, segment = int.from_bytes(packet[4:6], "little"), int.from_bytes(packet[6:8], "little")
    first = int.from_bytes(packet[8:16], "little")
    addr = (segment << 4) + offset
    if offset == segment == 0xFFFF and packet[0] >= _PACKET_BYTES + 8:
        addr = int.from_bytes(packet[16:24], "little")
    if packet[0] < _PACKET_BYTES or count > _TRANSFER_MAX:
        _finish(bios, call, INVALID)
        return None
    if not disk.holds(first, count):
        bios.memory.set_u16(at + 2, 0)
        _finish(bios, call, NOT_FOUND)
        return None
    return disk, first, count, addr


@service(0x13, 0x42)
def extended_read(bios: Bios, call: Call) -> None:
    """DS:SI: a packet with count, address and first sector."""
    if found := _transfer(bios, call):
        disk, first, count, addr = found
        bios.memory.write(disk.read(first, count), addr)
        _finish(bios, call)


@service(0x13, 0x43)
def extended_write(bios: Bios, call: Call) -> None:
    """The other way."""
    if found := _transfer(bios, call):
        disk, first, count, addr = found
        disk.write(first, bios.memory.read(addr, count * SECTOR))
        _finish(bios, call)


@service(0x13, 0x44)
def extended_verify(bios: Bios, call: Call) -> None:
    """Looks only whether they are there."""
    if _transfer(bios, call):
        _finish(bios, call)


@service(0x13, 0x48)
def get_extended_parameters(bios: Bios, call: Call) -> None:
    """DS:SI gets the drive's size and geometry."""
    disk = _disk(bios, call)
    if disk is None:
        return
    at = (call.ds << 4) + call.si
    if bios.memory.u16(at) < _PARAMETERS_BYTES:
        _finish(bios, call, INVALID)
        return
    cylinders, heads, sectors = disk.geometry
    data = _PARAMETERS_BYTES.to_bytes(2, "little") + (0x0002).to_bytes(2, "little")
    data += b"".join(number.to_bytes(4, "little") for number in (cylinders, heads, sectors))
    data += disk.sectors.to_bytes(8, "little") + SECTOR.to_bytes(2, "little")
    bios.memory.write(data, at)
    _finish(bios, call)


@service(0x13, 0x4B)
def emulation_status(bios: Bios, call: Call) -> None:
    """No CD is emulated."""
    _finish(bios, call, INVALID)
