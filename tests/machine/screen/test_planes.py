"""Planes: what the VGA's registers make of a byte that is written or read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine.screen.planes import PLANE_SIZE, Planes

SEQUENCER, GRAPHICS = 0x3C4, 0x3CE
MAP_MASK = 2
SET_RESET, ENABLE_SET_RESET, COLOUR_COMPARE, ROTATE, READ_MAP, MODE = range(6)
COLOUR_DONT_CARE, BIT_MASK = 7, 8
octets = st.integers(0, 255)


def out(planes: Planes, port: int, index: int, value: int) -> None:
    planes.write_port(port, 2, index | value << 8)


def at(planes: Planes, offset: int) -> list[int]:
    return list(planes.memory[4 * offset : 4 * offset + 4])


def test_after_a_mode_is_set_a_byte_goes_to_all_planes_and_is_read_from_the_first() -> None:
    planes = Planes()
    planes.write(100, 1, 0xA5)
    assert at(planes, 100) == [0xA5] * 4
    assert planes.read(100) == 0xA5


def test_the_map_mask_chooses_the_planes_that_are_written() -> None:
    planes = Planes()
    out(planes, SEQUENCER, MAP_MASK, 0b0101)
    planes.write(0, 1, 0xFF)
    assert at(planes, 0) == [0xFF, 0, 0xFF, 0]


def test_the_read_map_chooses_the_plane_that_is_read() -> None:
    planes = Planes()
    planes.memory[0:4] = b"\x01\x02\x03\x04"
    for plane in range(4):
        out(planes, GRAPHICS, READ_MAP, plane)
        assert planes.read(0) == plane + 1


def test_words_and_dwords_are_bytes_at_rising_addresses() -> None:
    planes = Planes()
    planes.write(10, 4, 0x44332211)
    assert [planes.read(10 + n) for n in range(4)] == [0x11, 0x22, 0x33, 0x44]
    assert planes.read(11, 2) == 0x3322
    assert planes.read(10, 4) == 0x44332211


def test_accesses_wrap_at_the_end_of_the_window() -> None:
    planes = Planes()
    planes.write(PLANE_SIZE - 1, 2, 0xBBAA)
    assert at(planes, PLANE_SIZE - 1) == [0xAA] * 4
    assert at(planes, 0) == [0xBB] * 4


def test_write_mode_1_copies_what_was_read_last_in_all_planes() -> None:
    planes = Planes()
    planes.memory[0:4] = b"\x11\x22\x33\x44"
    out(planes, GRAPHICS, MODE, 1)
    planes.read(0)
    planes.write(50, 1, 0)
    assert at(planes, 50) == [0x11, 0x22, 0x33, 0x44]


def test_write_mode_2_paints_the_masked_pixels_in_a_colour_and_keeps_the_others() -> None:
    planes = Planes()
    out(planes, GRAPHICS, MODE, 2)
    planes.write(0, 1, 0x0F)
    out(planes, GRAPHICS, BIT_MASK, 0x80)
    planes.read(0)
    planes.write(0, 1, 0b0110)
    assert at(planes, 0) == [0x7F, 0xFF, 0xFF, 0x7F]


def test_write_mode_3_paints_the_pixels_of_a_pattern_in_the_set_reset_colour() -> None:
    planes = Planes()
    out(planes, GRAPHICS, MODE, 3)
    out(planes, GRAPHICS, SET_RESET, 0b1001)
    planes.read(0)
    planes.write(0, 1, 0x3C)
    assert at(planes, 0) == [0x3C, 0, 0, 0x3C]


def test_read_mode_1_finds_the_pixels_of_a_colour_in_the_planes_that_count() -> None:
    planes = Planes()
    planes.memory[0:4] = b"\xf0\xcc\xaa\x00"
    out(planes, GRAPHICS, MODE, 0x08)
    out(planes, GRAPHICS, COLOUR_COMPARE, 0b0011)
    assert planes.read(0) == 0x40
    out(planes, GRAPHICS, COLOUR_DONT_CARE, 0b0011)
    assert planes.read(0) == 0xC0
    out(planes, GRAPHICS, COLOUR_DONT_CARE, 0)
    assert planes.read(0) == 0xFF


def test_registers_read_back_by_byte_and_by_word() -> None:
    planes = Planes()
    planes.write_port(GRAPHICS, 1, BIT_MASK)
    planes.write_port(GRAPHICS + 1, 1, 0x5A)
    assert planes.read_port(GRAPHICS) == BIT_MASK
    assert planes.read_port(GRAPHICS + 1) == 0x5A
    assert planes.read_port(GRAPHICS, 2) == 0x5A08


@pytest.mark.parametrize("port", [SEQUENCER, GRAPHICS])
def test_a_register_that_does_not_exist_swallows_and_reads_as_ones(port: int) -> None:
    planes = Planes()
    out(planes, port, 0x20, 0x12)
    assert planes.read_port(port, 2) == 0xFF20


def test_a_port_that_is_none_of_its_own_swallows_and_reads_as_ones() -> None:
    planes = Planes()
    planes.write_port(0x3C5, 2, 0xFFFF)  # the second byte falls on 3C6h
    assert planes.read_port(0x3C6) == 0xFF


def test_clearing_chain_4_is_seen_and_a_mode_set_undoes_it() -> None:
    planes = Planes()
    assert not planes.chained
    planes.reset(0x13)
    assert planes.chained
    out(planes, SEQUENCER, 4, 0x06)
    assert not planes.chained


def test_a_mode_set_resets_the_registers_and_clear_the_planes() -> None:
    planes = Planes()
    planes.write(0, 1, 0xFF)
    out(planes, GRAPHICS, BIT_MASK, 0)
    planes.reset(0x12)
    assert planes.read(0) == 0xFF
    planes.clear()
    planes.write(1, 1, 0x12)
    assert planes.read(0, 2) == 0x1200


def naive_write(old: list[int], latches: list[int], registers: dict[int, int], map_mask: int, value: int) -> list[int]:
    """What the manuals say, a bit at a time."""
    mode, count, function = registers[MODE] & 3, registers[ROTATE] & 7, registers[ROTATE] >> 3 & 3
    rotated = [value >> (bit + count) % 8 & 1 for bit in range(8)]
    new = list(old)
    for plane in range(4):
        if not map_mask >> plane & 1:
            continue
        result = 0
        for bit in range(8):
            latch = latches[plane] >> bit & 1
            chosen = registers[BIT_MASK] >> bit & 1
            reset = registers[SET_RESET] >> plane & 1
            match mode:
                case 0:
                    data = reset if registers[ENABLE_SET_RESET] >> plane & 1 else rotated[bit]
                case 2:
                    data = value >> plane & 1
                case _:
                    data, chosen = reset, chosen & rotated[bit]
            data = (data, data & latch, data | latch, data ^ latch)[function]
            result |= (latch if mode == 1 or not chosen else data) << bit
        new[plane] = result
    return new


@given(
    st.lists(octets, min_size=4, max_size=4),
    st.lists(octets, min_size=4, max_size=4),
    st.fixed_dictionaries(dict.fromkeys((SET_RESET, ENABLE_SET_RESET, ROTATE, BIT_MASK), octets)),
    st.integers(0, 3),
    octets,
    octets,
)
def test_every_write_is_what_the_manuals_say_bit_by_bit(
    old: list[int], latches: list[int], registers: dict[int, int], mode: int, map_mask: int, value: int
) -> None:
    planes = Planes()
    planes.memory[0:4] = bytes(old)
    planes.memory[4:8] = bytes(latches)
    registers = registers | {MODE: mode}
    for index, setting in registers.items():
        out(planes, GRAPHICS, index, setting)
    out(planes, SEQUENCER, MAP_MASK, map_mask)
    planes.read(1)
    planes.write(0, 1, value)
    assert at(planes, 0) == naive_write(old, latches, registers, map_mask, value)


accesses = st.tuples(st.booleans(), st.integers(0, 2**17), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))


@given(st.lists(accesses, max_size=20), st.lists(st.tuples(st.integers(0x3C0, 0x3D0), octets), max_size=20))
def test_nothing_that_a_guest_does_is_an_error(
    memory: list[tuple[bool, int, int, int]], ports: list[tuple[int, int]]
) -> None:
    planes = Planes()
    for port, value in ports:
        planes.write_port(port, 1, value)
        assert 0 <= planes.read_port(port) <= 0xFF
    for write, offset, size, value in memory:
        if write:
            planes.write(offset, size, value)
        assert 0 <= planes.read(offset, size) < 1 << 8 * size
