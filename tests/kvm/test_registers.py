"""Registers and what else KVM knows of a vCPU: the kernel's layouts."""

from __future__ import annotations

import struct

import pytest

from kvmbind.kvm import registers
from kvmbind.kvm.registers import (
    Breakpoint,
    DebugRegisters,
    DescriptorTable,
    Registers,
    Segment,
    SpecialRegisters,
    VcpuEvents,
    pack_guest_debug,
)

ENABLE, SINGLE_STEP, HARDWARE_BREAKPOINTS, BLOCK_INTERRUPTS = 1, 2, 0x20000, 0x100000
STRUCTURES = {
    Registers: registers.REGISTERS_SIZE,
    SpecialRegisters: registers.SPECIAL_SIZE,
    VcpuEvents: registers.EVENTS_SIZE,
    DebugRegisters: registers.DEBUG_REGISTERS_SIZE,
}


def special(**changes: object) -> SpecialRegisters:
    zeros = SpecialRegisters.unpack(bytes(registers.SPECIAL_SIZE))._asdict()
    return SpecialRegisters._make((zeros | changes).values())


def debug(breakpoints: list[Breakpoint], *, single_step: bool = False, block_interrupts: bool = False) -> list[int]:
    """struct kvm_guest_debug: control, pad, the debug registers 0 to 7."""
    data = pack_guest_debug(breakpoints, single_step=single_step, block_interrupts=block_interrupts)
    return list(struct.unpack("<II8Q", data))


def test_the_structures_have_the_kernels_sizes() -> None:
    assert list(STRUCTURES.values()) == [144, 312, 64, 128]


def test_general_registers_are_in_the_kernels_order() -> None:
    assert struct.unpack("<18Q", Registers(*range(18)).pack()) == tuple(range(18))
    assert Registers.unpack(struct.pack("<18Q", *range(18))) == Registers(*range(18))


@pytest.mark.parametrize(
    ("field", "value", "offset", "data"),
    [
        ("cs", Segment(0x1122, 0x3344, 0x55, 6, 7, 8, 9, 10, 11, 12, 13, 14), 0, "2211000000000000 44330000 5500 06"),
        ("ldt", Segment(base=0x1122), 168, "2211000000000000"),
        ("gdt", DescriptorTable(0x1122, 0x3344), 192, "2211000000000000 4433"),
        ("idt", DescriptorTable(0x1122, 0x3344), 208, "2211000000000000 4433"),
        ("cr0", 0x1122, 224, "2211000000000000"),
        ("apic_base", 0x1122, 272, "2211000000000000"),
        ("interrupt_bitmap", 1 << 255 | 1, 280, "01" + "00" * 30 + "80"),
    ],
)
def test_special_registers_are_where_the_kernel_has_them(field: str, value: object, offset: int, data: str) -> None:
    expected = bytes.fromhex(data)
    packed = special(**{field: value}).pack()
    assert packed[offset : offset + len(expected)] == expected
    assert SpecialRegisters.unpack(packed) == special(**{field: value})


@pytest.mark.parametrize(("field", "offset"), [("sipi_vector", 16), ("flags", 20), ("exception_payload", 56)])
def test_events_are_where_the_kernel_has_them(field: str, offset: int) -> None:
    events = VcpuEvents.unpack(bytes(registers.EVENTS_SIZE))._replace(**{field: 0x11223344})
    assert events.pack()[offset : offset + 4] == bytes.fromhex("44332211")


@pytest.mark.parametrize("kind", STRUCTURES)
def test_bytes_come_back_as_they_were(
    kind: type[Registers | SpecialRegisters | VcpuEvents | DebugRegisters],
) -> None:
    zeros = bytes(STRUCTURES[kind])
    assert kind.unpack(zeros).pack() == zeros


@pytest.mark.parametrize(
    "state",
    [
        Registers(rax=1 << 64),
        Registers(rip=-1),
        special(cr0=1 << 64),
        special(cs=Segment(limit=1 << 32)),
        special(idt=DescriptorTable(0, 1 << 16)),
        special(interrupt_bitmap=1 << 256),
    ],
)
def test_a_value_that_does_not_fit_is_refused(state: Registers | SpecialRegisters) -> None:
    with pytest.raises(struct.error):
        state.pack()


def test_a_segment_of_real_mode_starts_at_sixteen_times_its_selector() -> None:
    assert Segment.real(0xB800) == Segment(base=0xB8000, selector=0xB800, limit=0xFFFF, type=3)
    assert Segment.real(0x10, code=True).type == 11


def test_each_breakpoint_has_a_debug_register_with_its_condition_and_length() -> None:
    wanted = [Breakpoint(0x1001), Breakpoint(0x2000, "write", 8), Breakpoint(0x3000, "access", 4)]
    assert debug(wanted) == [
        ENABLE | HARDWARE_BREAKPOINTS, 0, 0x1001, 0x2000, 0x3000, 0, 0, 0, 0,
        1 << 10 | 0b101010 | 0b1001 << 20 | 0b1111 << 24,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("single_step", "block_interrupts", "control"),
    [
        (False, False, 0),
        (False, True, 0),
        (True, False, ENABLE | SINGLE_STEP),
        (True, True, ENABLE | SINGLE_STEP | BLOCK_INTERRUPTS),
    ],
)
def test_debugging_is_on_while_there_is_something_to_stop_for(
    single_step: bool, block_interrupts: bool, control: int
) -> None:
    assert debug([], single_step=single_step, block_interrupts=block_interrupts)[0] == control


@pytest.mark.parametrize(
    ("breakpoints", "match"),
    [
        ([Breakpoint(0)] * 5, "5 breakpoints: a processor has 4"),
        ([Breakpoint(0x1002, "write", 4)], "not aligned"),
        ([Breakpoint(0x1000, "execute", 2)], "is not data"),
        ([Breakpoint(0x1000, "read")], "'read'"),  # type: ignore[arg-type]
        ([Breakpoint(0x1000, "write", 3)], "of 3 bytes"),  # type: ignore[arg-type]
    ],
)
def test_what_no_debug_register_can_express_is_refused(breakpoints: list[Breakpoint], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        debug(breakpoints)
