"""Making an Image of a file's bytes: where they go, and how they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.images.detect import COM_MAX, FLOPPY_MAX, SECTOR, detect, is_bootable
from kvmbind.machine.images.image import (
    FIRST_DISK,
    FIRST_FLOPPY,
    FORMATS,
    Format,
    Image,
    ImageError,
    Placed,
    Start,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BOOT_ADDR = 0x7C00
_BOOT_STACK = 0x7BF0
_BOOT_AGAIN = b"\x5b\xe0\x00\xf0"  # F000:E05B, where an option ROM returns to
_LOW_MEMORY_END = 0xA0000
_OPTION_ROM_ADDR = 0xD0000
_MEGABYTE = 1 << 20
_COM_SEGMENT = 0x1000
_ENVIRONMENT_SEGMENT = 0x0FE0
_TOP_SEGMENT = 0x9FC0  # where the extended BIOS data area begins
_TAIL_MAX = 126
_INT_20, _INT_21_RETF = b"\xcd\x20", b"\xcd\x21\xcb"


class Options:
    """What a user may say about an image; None and "" leave it to the image."""

    __slots__ = ("args", "entry", "format", "load_at", "memory", "name", "smp")

    def __init__(
        self,
        *,
        format: Format | None = None,
        entry: int | tuple[int, int] | None = None,
        load_at: int | None = None,
        args: str = "",
        name: str = "",
        memory: int = 32 << 20,
        smp: int = 1,
    ) -> None:
        """Keeps the wishes.

        Args:
            format: What the image is, if detection is not to say.
            entry: (segment, offset) of the first instruction, or its linear address below 1 MiB.
            load_at: Linear address of the image's first byte, for flat images and boot sectors.
            args: Command line of a .COM program or a Multiboot image.
            name: The file's name, for detection and as the first word of a Multiboot image's command line.
            memory: Bytes that the machine has.
            smp: Processors that it has.

        Raises:
            ImageError: One is out of its range.
        """
        if format is not None and format not in FORMATS:
            raise ImageError(f"format {format!r} is none of {', '.join(FORMATS)}")
        self.format = format
        self.entry = None if entry is None else _as_far(entry)
        self.load_at = load_at
        self.args = args
        self.name = name
        self.memory = memory
        self.smp = smp


def _as_far(entry: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(entry, int):
        if not 0 <= entry < _MEGABYTE:
            raise ImageError(f"entry {entry:#x} is not below 1 MiB, where real mode ends")
        return (0, entry) if entry < 0x10000 else (entry >> 4 & 0xF000, entry & 0xFFFF)
    segment, offset = entry
    if not (0 <= segment <= 0xFFFF and 0 <= offset <= 0xFFFF):
        raise ImageError(f"entry {segment:#x}:{offset:#x} is no pair of 16-bit numbers")
    return segment, offset


def load(data: bytes | memoryview, options: Options) -> Image:
    """Returns what to run.

    Raises:
        ImageError: The image is malformed, or does not fit where it is to go.
    """
    if not len(data):
        raise ImageError("the image is empty: expected at least one byte of code at offset 0")
    format = options.format or detect(data, options.name)
    return _LOADERS[format](data, options)


def _start(options: Options, cs: int, ip: int) -> tuple[int, int]:
    return options.entry if options.entry is not None else (cs, ip)


def _flat(data: bytes | memoryview, options: Options) -> Image:
    addr = BOOT_ADDR if options.load_at is None else options.load_at
    _require_room("flat", data, addr, _LOW_MEMORY_END)
    cs, ip = _start(options, *_as_far(addr))
    # It may be a boot sector without its signature: as on a floppy, it finds itself there.
    return Image("flat", Start(cs, ip, sp=_BOOT_STACK), [Placed(addr, bytes(data))], data, FIRST_FLOPPY)


def _boot(data: bytes | memoryview, options: Options) -> Image:
    return _from_drive("boot", data, options, FIRST_FLOPPY)


def _floppy(data: bytes | memoryview, options: Options) -> Image:
    if len(data) > FLOPPY_MAX:
        raise ImageError(f"the floppy ends at offset {len(data):#x}; the largest has {FLOPPY_MAX:#x} bytes (2.88 MB)")
    return _from_drive("floppy", data, options, FIRST_FLOPPY)


def _disk(data: bytes | memoryview, options: Options) -> Image:
    return _from_drive("disk", data, options, FIRST_DISK)


def _from_drive(format: Format, data: bytes | memoryview, options: Options, drive: int) -> Image:
    if options.format is None and not is_bootable(data) and len(data) >= SECTOR and format != "floppy":
        raise ImageError(f"read {bytes(data[510:512]).hex(' ')} at offset 0x1fe; expected 55 aa, a boot signature")
    addr = BOOT_ADDR if options.load_at is None else options.load_at
    sector = bytes(data[:SECTOR])
    _require_room(format, sector, addr, _LOW_MEMORY_END)
    cs, ip = _start(options, *_as_far(addr))
    return Image(format, Start(cs, ip, sp=_BOOT_STACK, edx=drive), [Placed(addr, sector)], data, drive)


def _com(data: bytes | memoryview, options: Options) -> Image:
    if len(data) > COM_MAX:
        raise ImageError(f"the .COM program ends at offset {len(data):#x}; it must fit into {COM_MAX:#x} bytes")
    segment = _COM_SEGMENT
    base = segment << 4
    pieces = [
        Placed(_ENVIRONMENT_SEGMENT << 4, _environment()),
        Placed(base, _program_segment_prefix(options.args)),
        Placed(base + 0x100, bytes(data)),
        Placed(base + 0xFFFE, b"\0\0"),
    ]
    cs, ip = _start(options, segment, 0x100)
    start = Start(
        cs, ip, ss=segment, sp=0xFFFE, ds=segment, es=segment, ecx=0xFF, edx=segment, esi=0x100, edi=0xFFFE, ebp=0
    )
    return Image("com", start, pieces)


def _environment() -> bytes:
    return b"PATH=A:\\\0\0\1\0A:\\PROGRAM.COM\0"


def _program_segment_prefix(args: str) -> bytes:
    tail = (f" {args}" if args else "").encode("cp437", "replace")
    if len(tail) > _TAIL_MAX:
        raise ImageError(f"the arguments are {len(tail)} bytes long; a .COM program can be given {_TAIL_MAX}")
    prefix = bytearray(0x100)
    prefix[0:2] = _INT_20
    prefix[2:4] = _TOP_SEGMENT.to_bytes(2, "little")
    prefix[0x2C:0x2E] = _ENVIRONMENT_SEGMENT.to_bytes(2, "little")
    prefix[0x50:0x53] = _INT_21_RETF
    for block in (0x5C, 0x6C):
        prefix[block : block + 12] = b"\0" + b" " * 11
    prefix[0x80] = len(tail)
    prefix[0x81 : 0x81 + len(tail) + 1] = tail + b"\r"
    return bytes(prefix)


def _multiboot(data: bytes | memoryview, options: Options) -> Image:
    from kvmbind.machine.images import multiboot  # few images come here

    return multiboot.load(data, options)


def _rom(data: bytes | memoryview, options: Options) -> Image:
    if bytes(data[:2]) == b"\x55\xaa":
        addr = _OPTION_ROM_ADDR if options.load_at is None else options.load_at
        _require_room("option ROM", data, addr, 0xF0000)
        cs, ip = _start(options, addr >> 4, 3)
        pieces = [Placed(addr, bytes(data)), Placed(_BOOT_STACK, _BOOT_AGAIN)]
        return Image("rom", Start(cs, ip, sp=_BOOT_STACK), pieces)
    if len(data) % 0x10000 or len(data) > 0x40000:
        raise ImageError(
            f"the ROM ends at offset {len(data):#x}; expected 55 aa at offset 0 (an option ROM), or 64, 128 or 256 KiB"
        )
    cs, ip = _start(options, 0xF000, 0xFFF0)
    return Image("rom", Start(cs, ip), [Placed(_MEGABYTE - len(data), bytes(data))], reset_addr=(cs << 4) + ip)


def _require_room(what: str, data: bytes | memoryview, addr: int, end: int) -> None:
    if not 0 <= addr < end or addr + len(data) > end:
        raise ImageError(f"{what}: {len(data):#x} bytes loaded at {addr:#x} end above {end:#x}")


_LOADERS: dict[Format, Callable[[bytes | memoryview, Options], Image]] = {
    "flat": _flat,
    "boot": _boot,
    "com": _com,
    "floppy": _floppy,
    "disk": _disk,
    "multiboot": _multiboot,
    "rom": _rom,
}
