"""Where an image goes, and how it starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine.images.image import FORMATS, Image, ImageError, Placed, Start
from kvmbind.machine.images.load import Options, load

BOOT = b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa"


def real_start(image: Image) -> Start:
    assert isinstance(image.start, Start)
    return image.start


def at(pieces: object, addr: int) -> bytes:
    assert isinstance(pieces, list)
    (found,) = [piece.data for piece in pieces if piece.addr == addr]
    assert isinstance(found, bytes)
    return found


@pytest.mark.parametrize(("data", "format", "drive"), [(BOOT, "boot", 0), (BOOT + bytes(512), "floppy", 0)])
def test_a_floppy_starts_at_0000_7c00_with_its_first_sector_and_its_drive_in_dl(
    data: bytes, format: str, drive: int
) -> None:
    image = load(data, Options())
    start = real_start(image)
    assert (image.format, image.drive, image.disk) == (format, drive, data)
    assert (start.cs, start.ip, start.ss, start.ds, start.es) == (0, 0x7C00, 0, 0, 0)
    assert start.edx == drive
    assert 0x400 < start.sp < 0x7C00
    assert image.pieces == [Placed(0x7C00, data[:512])]


def test_a_disk_is_drive_80h() -> None:
    image = load(BOOT, Options(format="disk"))
    assert (real_start(image).edx, image.drive) == (0x80, 0x80)


def test_a_com_program_has_its_prefix_stack_and_registers() -> None:
    image = load(b"\xcd\x20", Options(args="/a b"))
    start = real_start(image)
    segment = start.cs
    assert start.ip == 0x100
    assert (start.ds, start.es, start.ss, start.sp) == (segment, segment, segment, 0xFFFE)
    assert (start.ecx, start.edx, start.esi, start.edi) == (0xFF, segment, 0x100, 0xFFFE)
    prefix = at(image.pieces, segment << 4)
    assert prefix[:2] == b"\xcd\x20"
    assert int.from_bytes(prefix[2:4], "little") == 0x9FC0
    assert prefix[0x80:0x87] == b"\x05 /a b\r"
    assert at(image.pieces, (segment << 4) + 0x100) == b"\xcd\x20"
    assert at(image.pieces, (segment << 4) + 0xFFFE) == b"\0\0"


def test_a_com_program_without_arguments_has_an_empty_tail() -> None:
    image = load(b"\xcd\x20", Options())
    assert at(image.pieces, real_start(image).cs << 4)[0x80:0x82] == b"\0\r"


@pytest.mark.parametrize(
    ("options", "cs", "ip", "addr"),
    [
        (Options(), 0, 0x7C00, 0x7C00),
        (Options(load_at=0x1000), 0, 0x1000, 0x1000),
        (Options(load_at=0x12345), 0x1000, 0x2345, 0x12345),
        (Options(entry=(0x7C0, 5)), 0x7C0, 5, 0x7C00),
        (Options(entry=0x7C05), 0, 0x7C05, 0x7C00),
        (Options(load_at=0x20000, entry=0x2FFFF), 0x2000, 0xFFFF, 0x20000),
    ],
)
def test_a_flat_image_goes_where_it_is_told_and_starts_there(options: Options, cs: int, ip: int, addr: int) -> None:
    image = load(b"\xf4", options)
    assert (image.format, real_start(image).cs, real_start(image).ip) == ("flat", cs, ip)
    assert image.pieces == [Placed(addr, b"\xf4")]


def test_an_option_rom_is_called_at_its_fourth_byte_and_returns_to_the_bios() -> None:
    image = load(b"\x55\xaa\x01\xcb" + bytes(508), Options())
    assert (real_start(image).cs, real_start(image).ip) == (0xD000, 3)
    assert at(image.pieces, real_start(image).sp) == b"\x5b\xe0\x00\xf0"


@pytest.mark.parametrize("kib", [64, 128, 256])
def test_a_system_rom_ends_at_1_mib_and_starts_at_the_reset_vector(kib: int) -> None:
    data = bytes(kib * 1024 - 16) + b"\xea" + bytes(15)
    image = load(data, Options())
    assert (real_start(image).cs, real_start(image).ip, image.reset_addr) == (0xF000, 0xFFF0, 0xFFFF0)
    assert image.pieces == [Placed((1 << 20) - len(data), data)]


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"", {}, "the image is empty"),
        (bytes(0xFF01), {"format": "com"}, r"ends at offset 0xff01; it must fit into 0xff00 bytes"),
        (bytes(0xA0000), {"format": "flat"}, r"0xa0000 bytes loaded at 0x7c00 end above 0xa0000"),
        (b"\xf4", {"load_at": 0xA0000}, r"loaded at 0xa0000 end above"),
        (b"\xf4", {"load_at": -1}, "loaded at -0x1"),
        (b"\xf4", {"entry": 1 << 20}, "entry 0x100000 is not below 1 MiB"),
        (b"\xf4", {"entry": (0x10000, 0)}, "entry 0x10000:0x0 is no pair of 16-bit numbers"),
        (b"\xf4", {"format": "exe"}, "format 'exe' is none of flat, boot, com"),
        (b"\xcd\x20", {"args": "x" * 126}, "the arguments are 127 bytes long"),
        (bytes(2880 * 1024 + 1), {"format": "floppy"}, "ends at offset 0x2d0001"),
        (bytes(1000), {"format": "rom"}, r"ends at offset 0x3e8; expected 55 aa at offset 0"),
    ],
)
def test_what_does_not_fit_is_one_line(data: bytes, options: dict[str, object], says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        load(data, Options(**options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@given(data=st.binary(max_size=2000), format=st.sampled_from([None, *FORMATS]), load_at=st.integers(-10, 1 << 21))
def test_any_bytes_are_an_image_or_an_image_error(data: bytes, format: str | None, load_at: int) -> None:
    try:
        image = load(data, Options(format=format, load_at=load_at))  # type: ignore[arg-type]
    except ImageError:
        return
    for piece in image.pieces:
        assert piece.addr >= 0
        assert piece.addr + len(piece.data) <= 1 << 20
