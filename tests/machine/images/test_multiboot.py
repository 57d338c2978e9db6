"""Multiboot images: where they go, what they are told, and what is wrong with those that cannot be started."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine.images.detect import detect
from kvmbind.machine.images.image import Image, ImageError, Placed, ProtectedStart
from kvmbind.machine.images.load import Options, load
from tests.machine.images.multiboot_images import HAS_ADDRESSES, Load, elf, flat, header, patched, u32

MIB = 1 << 20
MEMORY = 32 * MIB
LOW_END = 0x9FC00
BOOT_MAGIC = 0x2BADB002
FLAT_HEADER_BYTES = 32
ELF_HEADER = 52  # the first program header's offset
PROGRAM = {"type": 0, "offset": 4, "virtual": 8, "addr": 12, "file_bytes": 16, "memory_bytes": 20}


def start_of(image: Image) -> ProtectedStart:
    assert isinstance(image.start, ProtectedStart)
    return image.start


class Told:
    """What an image finds at EBX."""

    def __init__(self, image: Image) -> None:
        self.addr = start_of(image).ebx
        (self.data,) = [piece.data for piece in image.pieces if piece.addr == self.addr]

    def at(self, addr: int, length: int) -> bytes:
        return self.data[addr - self.addr : addr - self.addr + length]

    def u32(self, offset: int) -> int:
        return int.from_bytes(self.data[offset : offset + 4], "little")

    def string(self, addr: int) -> str:
        return self.data[addr - self.addr :].partition(b"\0")[0].decode()


# What it is


@pytest.mark.parametrize(
    "image", [elf(), elf(bits=64), flat(), bytes(4096) + flat()], ids=["elf32", "elf64", "flat", "later"]
)
def test_it_is_known_by_its_header(image: bytes) -> None:
    assert detect(image) == "multiboot"


def test_a_header_without_addresses_makes_no_flat_image_one() -> None:
    assert detect(header() + b"\xf4") == "flat"
    assert detect(flat()[:8]) == "flat"
    assert detect(b"\0" + flat()) == "flat"


def test_what_boots_as_a_disk_does_not_become_one_by_a_header_in_it() -> None:
    """GRUB's own image has such a header, in the sectors behind the one that boots it."""
    floppy = b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa" + flat()
    assert detect(floppy.ljust(4096, b"\0")) == "floppy"


def test_an_elf_file_without_a_header_is_told_so() -> None:
    with pytest.raises(ImageError, match="read 7f 45 4c 46 at offset 0: an ELF file without a Multiboot header"):
        detect(elf(Load(b"\xf4", MIB)))


# Where it goes


@pytest.mark.parametrize("bits", [32, 64])
def test_an_elf_file_goes_where_its_program_headers_say(bits: int) -> None:
    first, second = header() + b"\xf4", b"data"
    image = load(elf(Load(first, MIB), Load(second, 0x8000, memory_bytes=0x2000), bits=bits), Options())
    assert image.pieces[:2] == [Placed(MIB, first), Placed(0x8000, second)]
    assert start_of(image)[:2] == (MIB + len(header()), BOOT_MAGIC)
    assert (image.format, image.disk, image.reset_addr) == ("multiboot", None, None)


@pytest.mark.parametrize("entry", [0xC010000C, 0x10000C])
def test_an_entry_may_be_where_the_kernel_will_map_itself(entry: int) -> None:
    image = load(elf(Load(header() + b"\xf4", MIB, virtual=0xC0100000), entry=entry), Options())
    assert start_of(image).eip == 0x10000C


def test_addresses_in_the_header_count_for_an_elf_file_too() -> None:
    data = elf(Load(flat(load_addr=2 * MIB), MIB))
    at = data.index(b"\x02\xb0\xad\x1b")
    image = load(data, Options())
    assert image.pieces[0] == Placed(2 * MIB, data[at:])
    assert start_of(image).eip == 2 * MIB + FLAT_HEADER_BYTES


def test_what_is_in_front_of_the_header_and_behind_the_loaded_part() -> None:
    addresses = 0x100010, 0x100008, 0x100040, 0x200000, 0x100030
    image = load(bytes(range(16)) + header(HAS_ADDRESSES, *addresses) + bytes(100), Options())
    placed = image.pieces[0]
    assert (placed.addr, len(placed.data), placed.data[:8]) == (0x100008, 0x38, bytes(range(8, 16)))
    assert start_of(image).eip == 0x100030


def test_the_first_header_with_the_right_checksum_counts() -> None:
    image = load(header(0x7, checksum=1) + bytes(4) + flat(load_addr=MIB), Options(format="multiboot"))
    assert image.pieces[0].data == flat(load_addr=MIB)


# What it is told


def test_it_is_told_of_memory_its_arguments_and_the_machine() -> None:
    image = load(elf(), Options(name="/somewhere/kernel.elf", args="one two", memory=MEMORY, smp=3))
    told = Told(image)
    flags, lower, upper, _, command_line = struct.unpack_from("<5I", told.data)
    assert flags == 0x124D  # memory, command line, modules, memory map, loader's name, screen
    assert (lower, upper) == (639, MEMORY - MIB >> 10)
    assert told.string(command_line) == "kernel.elf one two"
    assert told.string(told.u32(64)) == "kvmbind"


def test_its_command_line_is_a_string_also_without_a_name_and_arguments() -> None:
    told = Told(load(elf(), Options()))
    assert told.string(told.u32(16)) == "image"


def test_its_one_module_says_what_the_machine_has() -> None:
    told = Told(load(elf(), Options(memory=64 * MIB, smp=2)))
    assert told.u32(0) & 0x8
    assert told.u32(20) == 1
    start, end, name = struct.unpack("<3I", told.at(told.u32(24), 12))
    assert start % 0x1000 == 0
    assert told.at(start, end - start) == b"NR_CPUS=2\nMEMSIZE=64\nTEST_DEVICE=1\n"
    assert told.string(name) == "environment"


def test_its_memory_map_has_what_int_15h_e820h_has() -> None:
    told = Told(load(elf(), Options(memory=MEMORY)))
    length, addr = told.u32(44), told.u32(48)
    entries = [struct.unpack("<I2QI", told.at(at, 24)) for at in range(addr, addr + length, 24)]
    assert entries == [
        (20, 0, LOW_END, 1),
        (20, LOW_END, 0xA0000 - LOW_END, 2),
        (20, 0xF0000, 0x10000, 2),
        (20, MIB, MEMORY - MIB, 1),
    ]


def test_its_screen_is_a_text_screen() -> None:
    told = Told(load(elf(), Options()))
    assert struct.unpack_from("<Q3I2B", told.data, 88) == (0xB8000, 160, 80, 25, 16, 2)


def test_what_it_is_told_lies_at_the_top_of_low_memory() -> None:
    told = Told(load(elf(), Options()))
    assert told.addr % 0x1000 == 0
    assert 0x90000 < told.addr < told.addr + len(told.data) <= LOW_END


def test_an_image_that_lies_there_finds_it_behind_itself() -> None:
    low = Load(header() + b"\xf4", 0x90000, memory_bytes=LOW_END - 0x90000)
    assert Told(load(elf(low), Options())).addr == MIB
    assert Told(load(elf(low, Load(b"x", 2 * MIB + 1)), Options())).addr == 2 * MIB + 0x1000


# What cannot be started

ELF = elf()
FLAT = flat()
TWO = elf(Load(header() + b"\xf4", MIB, memory_bytes=0x100), Load(b"data", MIB + 0xFF))

MALFORMED = {
    "no header": (
        b"\xf4" * 40,
        r"read f4 f4 f4 f4 at offset 0, and no Multiboot header from there on; expected 02 b0 ad 1b",
    ),
    "version 2": (
        bytes(8) + bytes.fromhex("d65052e8") + bytes(40),
        r"read d6 50 52 e8 at offset 0x8: a header of Multiboot 2; expected 02 b0 ad 1b",
    ),
    "not aligned": (b"\0" + FLAT, "no Multiboot header"),
    "too far": (bytes(8192) + FLAT, "no Multiboot header"),
    "cut off": (FLAT[:8], r"read 8 bytes of a Multiboot header at offset 0x0; expected 12"),
    "reaches too far": (bytes(8184) + FLAT, r"read 8 bytes of a Multiboot header at offset 0x1ff8; expected 12"),
    "checksum": (
        header(checksum=5) + b"\xf4",
        r"read the Multiboot checksum 0x5 at offset 0x8; expected 0xe4524ffe",
    ),
    "requirement": (flat(0x8010), r"read Multiboot flags 0x18010 at offset 0x4; expected none of .* 0x8010"),
    "no addresses": (
        FLAT[:20],
        r"read 8 bytes of a Multiboot header's addresses at offset 0xc; expected 20",
    ),
    "no ELF": (header() + b"\xf4" * 20, r"read 02 b0 ad 1b at offset 0; expected 7f 45 4c 46, an ELF file"),
    "header below load": (
        patched(FLAT, 16, u32(MIB + 4)),
        r"read header_addr 0x100000 and load_addr 0x100004 at offset 0xc; expected a load_addr from 0x100000 to",
    ),
    "load before file": (
        patched(FLAT, 16, u32(MIB - 4)),
        r"load_addr 0xffffc at offset 0xc; expected a load_addr from",
    ),
    "load end": (
        patched(FLAT, 20, u32(MIB + 0x1000)),
        r"read load_end_addr 0x101000 at offset 0x14; expected 0x100001 to 0x100021",
    ),
    "load end below": (patched(FLAT, 20, u32(MIB - 1)), r"read load_end_addr 0xfffff at offset 0x14"),
    "bss end": (
        patched(FLAT, 24, u32(MIB + 1)),
        r"read bss_end_addr 0x100001 at offset 0x18; expected 0x100021 or more",
    ),
    "entry": (
        patched(FLAT, 28, u32(2 * MIB)),
        r"read entry 0x200000 at offset 0x1c; expected an address that is loaded",
    ),
    "entry of ELF": (elf(entry=0x50), r"read entry 0x50 at offset 0x18; expected an address that is loaded"),
    "in the BIOS's data": (flat(load_addr=0x400), r"read 0x400 to 0x421 at offset 0xc as a place .* 0x500 to 0x9fc00"),
    "over the screen": (flat(load_addr=0xB8000), r"read 0xb8000 to 0xb8021 at offset 0xc as a place"),
    "into the ROM": (flat(load_addr=0xFFFF0), r"read 0xffff0 to 0x100011 at offset 0xc as a place"),
    "beyond memory": (
        flat(bss_end=MEMORY + 1),
        r"read 0x100000 to 0x2000001 at offset 0xc .* or 0x100000 to 0x2000000$",
    ),
    "beyond memory, ELF": (elf(Load(header(), 1 << 31)), r"read 0x80000000 to 0x8000000c at offset 0x34 as a place"),
    "overlap": (TWO, r"read 0x1000ff at offset 0x54 as a place .* apart from 0x100000 to 0x100100, .* at offset 0x34"),
    "class": (patched(ELF, 4, b"\x03"), r"read 03 01 at offset 0x4; expected 01 01 or 02 01"),
    "big endian": (patched(ELF, 5, b"\x02"), r"read 01 02 at offset 0x4; expected 01 01"),
    "a library": (elf(kind=3), r"read type 3 at offset 0x10; expected 2, an executable ELF file"),
    "machine": (elf(machine=40), r"read machine 40 at offset 0x12; expected 3, i386"),
    "machine of 64 bits": (elf(bits=64, machine=183), r"read machine 183 at offset 0x12; expected 62, x86-64"),
    "another kind of segment": (
        patched(ELF, ELF_HEADER, u32(4)),
        r"read 1 program headers at offset 0x34; expected at least one",
    ),
    "nothing to load": (
        elf(Load(b"", MIB)) + header(),
        r"read 1 program headers at offset 0x34; expected at least one that loads",
    ),
    "small program headers": (
        patched(ELF, 42, b"\x10\0"),
        r"read program headers of 16 bytes at offset 0x2a; expected 32",
    ),
    "program header outside": (
        patched(ELF, 28, u32(0x1000)),
        r"the file ends at offset 0x64; expected a program header at offset 0x1000",
    ),
    "segment outside": (
        patched(ELF, ELF_HEADER + PROGRAM["file_bytes"], u32(0x1000)),
        r"the file ends at offset 0x64; expected a segment up to 0x1054, as the program header at offset 0x34 says",
    ),
    "less memory than data": (
        patched(ELF, ELF_HEADER + PROGRAM["memory_bytes"], u32(4)),
        r"read a segment of 0xd bytes in the file and 0x4 in memory at offset 0x34; expected at least as many",
    ),
    "cut-off ELF header": (
        b"\x7fELF\1\1" + bytes(2) + header() + bytes(4),
        r"read 24 bytes at offset 0x0; expected an ELF header of 52",
    ),
    "no room to tell": (
        elf(Load(header() + b"\xf4", 0x90000, memory_bytes=0xFC00), Load(b"x", MIB, memory_bytes=31 * MIB)),
        r"there is no room for the boot information behind the image, which ends at 0x2000000",
    ),
}


@pytest.mark.parametrize(("data", "says"), MALFORMED.values(), ids=MALFORMED)
def test_what_cannot_be_started_is_one_line_with_what_was_read_and_expected_and_where(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        load(data, Options(format="multiboot", memory=MEMORY))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [{"load_at": 0x100000}, {"entry": 0x100000 - 1}])
def test_it_cannot_be_told_where_to_go(option: dict[str, int]) -> None:
    with pytest.raises(ImageError, match="says itself where it goes and starts: leave load_at and entry out"):
        load(elf(), Options(**option))  # type: ignore[arg-type]  # a dictionary of one option


WELL_FORMED = [ELF, FLAT, TWO, elf(bits=64), elf(Load(flat(), MIB))]
PATCHES = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.one_of(
            st.binary(min_size=1, max_size=4),
            st.sampled_from([u32(n) for n in (0, 1, MIB, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)]),
        ),
    ),
    max_size=4,
)


@given(image=st.sampled_from(WELL_FORMED), patches=PATCHES, cut=st.integers(0, 250), mends=st.booleans())
def test_a_mutated_header_is_an_image_in_memory_or_an_image_error(
    image: bytes, patches: list[tuple[int, bytes]], cut: int, mends: bool
) -> None:
    for at, data in patches:
        image = patched(image, min(at, len(image)), data)
    image = image[: len(image) - cut] if cut < len(image) else image
    at = image.find(b"\x02\xb0\xad\x1b")
    if mends and 0 <= at <= len(image) - 12:
        image = patched(image, at, header(int.from_bytes(image[at + 4 : at + 8], "little")))
    try:
        found = load(image, Options(format="multiboot", memory=MEMORY))
    except ImageError:
        return
    taken = sorted((piece.addr, piece.addr + len(piece.data)) for piece in found.pieces if piece.data)
    assert all(0x500 <= start < end <= LOW_END or MIB <= start < end <= MEMORY for start, end in taken)
    assert all(first[1] <= second[0] for first, second in pairwise(taken))
    assert 0x500 <= start_of(found).eip < MEMORY
