"""What a Multiboot image finds at EBX: the boot information of version 1."""

from __future__ import annotations

import struct
from typing import NamedTuple

from kvmbind.machine.memory import EXTENDED_AREA, ROM_END, ranges

MAGIC = 0x2BADB002  # in EAX

_HAS_MEMORY, _HAS_COMMAND_LINE, _HAS_MODULES, _HAS_MAP, _HAS_LOADER_NAME = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9
_HAS_SCREEN = 1 << 12
_FLAGS = _HAS_MEMORY | _HAS_COMMAND_LINE | _HAS_MODULES | _HAS_MAP | _HAS_LOADER_NAME | _HAS_SCREEN

# flags, mem_lower, mem_upper, (boot_device), cmdline, mods_count, mods_addr, (syms), mmap_length, mmap_addr, (drives,
# config_table), boot_loader_name, (apm_table, vbe), framebuffer: addr, pitch, width, height, bpp, type
_INFORMATION = struct.Struct("<3I4x3I16x2I12xI20xQ3I2B6x")
_MODULE = struct.Struct("<3I4x")  # mod_start, mod_end, string
_MAP_ENTRY = struct.Struct("<I2QI")  # size of the rest, base_addr, length, type
_TEXT_SCREEN = (0xB8000, 160, 80, 25, 16, 2)
_PAGE = 0x1000  # modules are aligned so, asked or not


class Told(NamedTuple):
    """What an image is told.

    Attributes:
        command_line: Its name and arguments.
        memory: Bytes.
        processors: How many.
    """

    command_line: str
    memory: int
    processors: int


def information(told: Told, addr: int) -> bytes:
    """Returns the boot information, and behind it all that it points to, for a page at `addr`.

    Its one module has lines NAME=value about the machine, as kvm-unit-tests want them.
    """
    entries = [
        _MAP_ENTRY.pack(_MAP_ENTRY.size - 4, start, end - start, kind) for start, end, kind in ranges(told.memory)
    ]
    parts = [bytes(_INFORMATION.size)]

    def put(data: bytes) -> int:
        at = addr + sum(map(len, parts))
        parts.append(data)
        return at

    map_length = sum(map(len, entries))
    map_addr = put(b"".join(entries))
    command_line = put(_string(told.command_line))
    loader_name = put(_string("kvmbind"))
    module_name = put(_string("environment"))
    modules_addr = put(bytes(_MODULE.size))
    put(bytes(-sum(map(len, parts)) % _PAGE))
    environment = _environment(told)
    module_addr = put(environment)
    found = bytearray(b"".join(parts))
    _INFORMATION.pack_into(
        found,
        0,
        *(_FLAGS, EXTENDED_AREA >> 10, told.memory - ROM_END >> 10, command_line, 1, modules_addr),
        *(map_length, map_addr, loader_name, *_TEXT_SCREEN),
    )
    _MODULE.pack_into(found, modules_addr - addr, module_addr, module_addr + len(environment), module_name)
    return bytes(found)


def _string(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape").replace(b"\0", b"") + b"\0"


def _environment(told: Told) -> bytes:
    values = {"NR_CPUS": told.processors, "MEMSIZE": told.memory >> 20, "TEST_DEVICE": 1}
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode()
