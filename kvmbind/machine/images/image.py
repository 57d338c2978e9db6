"""What an image asks of the machine: bytes in memory, a disk, and the registers that it starts with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Format = Literal["flat", "boot", "com", "floppy", "disk", "multiboot", "rom"]
FORMATS: tuple[Format, ...] = ("flat", "boot", "com", "floppy", "disk", "multiboot", "rom")

FIRST_FLOPPY, FIRST_DISK = 0x00, 0x80


class ImageError(ValueError):
    """An image that cannot be run, in one sentence: what was read, what was expected, at which offset."""


class Start(NamedTuple):
    """The registers that an image starts with; the others are zero. Segments are selectors of real mode."""

    cs: int
    ip: int
    ss: int = 0
    sp: int = 0
    ds: int = 0
    es: int = 0
    eax: int = 0
    ecx: int = 0
    edx: int = 0
    esi: int = 0
    edi: int = 0
    ebp: int = 0


class ProtectedStart(NamedTuple):
    """The registers of an image that starts in 32-bit protected mode, without paging and interrupts.

    Segments are flat, with descriptors 08h and 10h in a GDT that is there; ESP is a small stack below 7C00h, ESI has
    the entry, the others are zero.
    """

    eip: int
    eax: int
    ebx: int


class Placed(NamedTuple):
    """Bytes of guest memory before the start."""

    addr: int
    data: bytes


class Image(NamedTuple):
    """An image that is ready to be started.

    Attributes:
        format: What it is.
        start: The registers.
        pieces: What is in memory.
        disk: What the boot drive has, whole sectors; None: no drive.
        drive: The number of that drive: 0 for a floppy, 80h for a disk.
        reset_addr: Where a ROM that brings its own BIOS starts; None: the machine's own BIOS serves the image.
    """

    format: Format
    start: Start | ProtectedStart
    pieces: Sequence[Placed]
    disk: bytes | memoryview | None = None
    drive: int = FIRST_FLOPPY
    reset_addr: int | None = None

    @property
    def is_multiboot(self) -> bool:
        """Whether it is started in protected mode, on a machine with what test programs look for."""
        return self.format == "multiboot"
