"""Structures: their bytes are C's, and a wrong name is refused."""

from __future__ import annotations

import copy
import ctypes
import pickle
import struct
from typing import TYPE_CHECKING

import pytest

from kvmbind.abi import constants as zx
from kvmbind.abi import structs
from kvmbind.abi.status import Status
from kvmbind.abi.structs import PortPacket, VcpuIo, VcpuState

if TYPE_CHECKING:
    from kvmbind.abi.layout import Structure, Union

EVERY = [getattr(structs, name) for name in structs.__all__]

# The layout of each as a format of the struct module, and the fields that it has in that order.
LAYOUTS = [
    ("PacketSignal", "<IIQQQ", "trigger observed count timestamp reserved1"),
    ("PacketGuestBell", "<QQQQ", "addr reserved0 reserved1 reserved2"),
    ("PacketGuestMem", "<QBBBB4xQQ", "addr access_size sign_extend xt read data reserved"),
    ("PacketGuestIo", "<HBB4sQQQ", "port access_size input data reserved0 reserved1 reserved2"),
    ("PacketGuestVcpuInterrupt", "<QB7x", "mask vector"),
    ("PacketGuestVcpuStartup", "<QQ", "id entry"),
    ("PacketGuestVcpuExit", "<qQ", "retcode reserved"),
    ("PacketGuestVcpu", "<I4x16xQ", "type reserved"),
    ("PacketInterrupt", "<qQQQ", "timestamp reserved0 reserved1 reserved2"),
    ("PortPacket", "<QIi32x", "key type status"),
    ("VcpuState", "<17Q", "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rflags"),
    ("VcpuIo", "<B3x4s", "access_size data"),
    ("InfoHandleBasic", "<QIIQI4x", "koid rights type related_koid props"),
    ("InfoVmar", "<QQ", "base len"),
    ("InfoVcpu", "<I", "flags"),
]
SIZES = {
    "PortPacket": 48,
    "PacketUser": 32,
    "PacketSignal": 32,
    "PacketGuestBell": 32,
    "PacketGuestMem": 32,
    "PacketGuestIo": 32,
    "PacketGuestVcpu": 32,
    "PacketInterrupt": 32,
    "VcpuState": 136,
    "VcpuIo": 8,
    "InfoHandleBasic": 32,
    "InfoResource": 56,
    "InfoVmar": 16,
    "InfoVmo": 104,
    "InfoVcpu": 4,
}
PAYLOADS = ["user", "signal", "guest_bell", "guest_mem", "guest_io", "guest_vcpu", "interrupt"]


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_a_structure_has_the_size_of_c(name: str, size: int) -> None:
    assert ctypes.sizeof(getattr(structs, name)) == size


@pytest.mark.parametrize(("name", "layout", "fields"), LAYOUTS)
def test_each_field_lies_where_c_has_it(name: str, layout: str, fields: str) -> None:
    cls = getattr(structs, name)
    raw = bytes(range(1, struct.calcsize(layout) + 1))
    read = cls.from_bytes(raw)
    assert tuple(getattr(read, field) for field in fields.split()) == struct.unpack(layout, raw)


@pytest.mark.parametrize(("name", "layout", "fields"), LAYOUTS)
def test_the_constructor_fills_each_field_where_c_has_it(name: str, layout: str, fields: str) -> None:
    values = struct.unpack(layout, bytes(range(1, struct.calcsize(layout) + 1)))
    built = getattr(structs, name)(**dict(zip(fields.split(), values, strict=True)))
    assert bytes(built) == struct.pack(layout, *values)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_each_payload_of_a_packet_begins_at_byte_16(payload: str) -> None:
    raw = bytes(range(100, 132))
    packet = PortPacket.from_bytes(bytes(16) + raw)
    assert bytes(getattr(packet, payload)) == raw


@pytest.mark.parametrize("event", ["interrupt", "startup", "exit"])
def test_each_event_of_a_vcpu_packet_begins_at_byte_8(event: str) -> None:
    raw = bytes(range(32))
    assert bytes(getattr(structs.PacketGuestVcpu.from_bytes(raw), event)) == raw[8:24]


@pytest.mark.parametrize(("field", "layout"), [("u64", "<4Q"), ("u32", "<8I"), ("u16", "<16H"), ("c8", "<32B")])
def test_a_user_payload_reads_in_four_widths(field: str, layout: str) -> None:
    raw = bytes(range(32))
    assert tuple(getattr(structs.PacketUser.from_bytes(raw), field)) == struct.unpack(layout, raw)


def test_a_user_payload_is_assigned_by_word_by_slice_or_whole() -> None:
    packet = PortPacket()
    packet.user.u64 = (1, 2, 3, 4)
    packet.user.u64[3] = 5
    packet.user.c8[:4] = b"ping"
    assert bytes(packet.user) == struct.pack("<4s4xQQQ", b"ping", 2, 3, 5)


@pytest.mark.parametrize("cls", [structs.PacketGuestIo, VcpuIo])
def test_io_data_is_one_union_of_three_widths_and_four_bytes(
    cls: type[structs.PacketGuestIo | VcpuIo],
) -> None:
    io = cls(u32=0x44332211)
    assert (io.u8, io.u16, io.data) == (0x11, 0x2211, b"\x11\x22\x33\x44")


def test_io_data_takes_fewer_bytes_and_fills_up_with_zeros() -> None:
    io = VcpuIo(access_size=1, u32=0xFFFF_FFFF)
    io.data = b"\x05"
    assert bytes(io) == bytes([1, 0, 0, 0, 5, 0, 0, 0])


def test_io_data_refuses_more_than_four_bytes_and_changes_nothing() -> None:
    io = VcpuIo(data=b"abcd")
    with pytest.raises(ValueError, match="5 bytes do not fit into 4"):
        io.data = b"12345"
    assert io.data == b"abcd"


@pytest.mark.parametrize("value", [5, "ab", [1, 2]])
def test_io_data_refuses_what_is_not_bytes(value: object) -> None:
    with pytest.raises(TypeError):
        VcpuIo(data=value)  # type: ignore[arg-type]


def test_info_resource_has_the_layout_of_c() -> None:
    info = structs.InfoResource(kind=3, flags=0x10000, base=4, size=5, name=b"hypervisor")
    assert bytes(info) == struct.pack("<IIQQ32s", 3, 0x10000, 4, 5, b"hypervisor")


def test_info_vmo_has_the_layout_of_c() -> None:
    info = structs.InfoVmo(
        koid=1024,
        name=b"ram",
        size_bytes=2,
        parent_koid=3,
        num_children=4,
        num_mappings=5,
        share_count=6,
        flags=7,
        committed_bytes=8,
        handle_rights=9,
        cache_policy=10,
    )
    assert bytes(info) == struct.pack("<Q32s5QI4xQII", 1024, b"ram", 2, 3, 4, 5, 6, 7, 8, 9, 10)


def test_a_name_keeps_room_for_its_nul() -> None:
    info = structs.InfoVmo(name=b"n" * 31)
    assert info.name == b"n" * 31
    with pytest.raises(ValueError, match="32 bytes do not fit into 31"):
        info.name = b"n" * 32


def test_a_shorter_name_leaves_nothing_of_the_longer_one() -> None:
    info = structs.InfoResource(name=b"a long name")
    info.name = b"b"
    assert info == structs.InfoResource(name=b"b")


@pytest.mark.parametrize("cls", EVERY)
def test_raw_bytes_survive_a_round_trip(cls: type[Structure | Union]) -> None:
    raw = bytes(range(7, 7 + ctypes.sizeof(cls)))
    assert bytes(cls.from_bytes(raw)) == raw


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("excess", [-1, 1])
def test_a_wrong_number_of_raw_bytes_is_refused(cls: type[Structure | Union], excess: int) -> None:
    with pytest.raises(ValueError, match=str(ctypes.sizeof(cls) + excess)):
        cls.from_bytes(bytes(ctypes.sizeof(cls) + excess))


@pytest.mark.parametrize("cls", EVERY)
def test_without_arguments_all_bytes_are_zero(cls: type[Structure | Union]) -> None:
    assert not any(bytes(cls()))


@pytest.mark.parametrize("cls", EVERY)
def test_an_unknown_field_is_an_attribute_error(cls: type[Structure | Union]) -> None:
    # mypy refuses the three too, or it would call the comments unused.
    with pytest.raises(AttributeError, match="rip"):
        _ = cls().rip  # type: ignore[union-attr]
    with pytest.raises(AttributeError, match="rip"):
        cls().rip = 1  # type: ignore[union-attr]
    with pytest.raises(AttributeError, match="rip"):
        cls(rip=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_an_unknown_field_of_a_payload_is_an_attribute_error(payload: str) -> None:
    member = getattr(PortPacket(), payload)
    with pytest.raises(AttributeError, match="prot"):
        member.prot = 1


def test_mypy_knows_the_fields_of_a_payload_and_their_types() -> None:
    packet = PortPacket()
    with pytest.raises(AttributeError, match="prot"):
        packet.guest_io.prot = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        packet.guest_io.port = "0x80"  # type: ignore[assignment]


def test_a_payload_is_a_view_of_its_packet() -> None:
    packet = PortPacket()
    packet.guest_io.port = 0x3F8
    packet.guest_io.data = b"A"
    assert bytes(packet)[16:24] == b"\xf8\x03\x00\x00A\x00\x00\x00"


def test_a_payload_is_given_whole_to_the_constructor() -> None:
    bell = structs.PacketGuestBell(addr=0x1000)
    packet = PortPacket(key=1, type=zx.ZX_PKT_TYPE_GUEST_BELL, guest_bell=bell)
    assert packet.guest_bell == bell


def test_a_packet_status_compares_with_statuses() -> None:
    packet = PortPacket(status=Status.CANCELED)
    assert packet.status == Status.CANCELED


def test_equal_bytes_of_one_type_are_equal() -> None:
    assert VcpuState(rax=1) == VcpuState(rax=1)
    assert VcpuState(rax=1) != VcpuState(rax=2)
    assert structs.InfoVmar(base=1) != structs.PacketGuestVcpuStartup(id=1)
    assert structs.InfoVcpu() != bytes(4)


@pytest.mark.parametrize("cls", EVERY)
def test_structures_change_and_so_have_no_hash(cls: type[Structure | Union]) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(cls())


@pytest.mark.parametrize("cls", EVERY)
def test_structures_can_be_copied_and_pickled(cls: type[Structure | Union]) -> None:
    original = cls.from_bytes(bytes(range(ctypes.sizeof(cls))))
    for duplicate in copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original)):
        assert duplicate == original
        assert duplicate is not original


def test_a_copy_of_a_payload_leaves_its_packet_alone() -> None:
    packet = PortPacket()
    copy.copy(packet.guest_io).port = 1
    assert packet == PortPacket()


def packet_of(type: int, payload: bytes = b"") -> PortPacket:
    return PortPacket.from_bytes(struct.pack("<QIi32s", 7, type, 0, payload))


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (packet_of(0, b"\x10"), "type=USER, status=OK, user(u64=[0x10, 0x0, 0x0, 0x0])"),
        (
            packet_of(1, struct.pack("<IIQQ", 1 << 24, 3, 1, 99)),
            "type=SIGNAL_ONE, status=OK, signal(trigger=0x1000000, observed=0x3, count=1, timestamp=99)",
        ),
        (packet_of(3, struct.pack("<Q", 0xD000)), "type=GUEST_BELL, status=OK, guest_bell(addr=0xd000)"),
        (
            packet_of(4, struct.pack("<QBBBB4xQ", 0xD004, 4, 0, 0, 1, 0)),
            "type=GUEST_MEM, status=OK, guest_mem(addr=0xd004, access_size=4, read=1, data=0x0)",
        ),
        (
            packet_of(5, struct.pack("<HBB4s", 0x80, 1, 0, b"\x05\x66")),
            "type=GUEST_IO, status=OK, guest_io(port=0x80, access_size=1, input=0, data=05)",
        ),
        (
            packet_of(6, struct.pack("<I4xQB", 0, 2, 0x40)),
            "type=GUEST_VCPU, status=OK, guest_vcpu(type=INTERRUPT, interrupt(mask=0x2, vector=0x40))",
        ),
        (
            packet_of(6, struct.pack("<I4xQQ", 1, 2, 0x1000)),
            "type=GUEST_VCPU, status=OK, guest_vcpu(type=STARTUP, startup(id=2, entry=0x1000))",
        ),
        (
            packet_of(6, struct.pack("<I4xq", 2, -1)),
            "type=GUEST_VCPU, status=OK, guest_vcpu(type=EXIT, exit(retcode=-1))",
        ),
        (packet_of(6, b"\x09"), "type=GUEST_VCPU, status=OK, guest_vcpu(type=9)"),
        (packet_of(7, struct.pack("<q", 12)), "type=INTERRUPT, status=OK, interrupt(timestamp=12)"),
        (packet_of(42), "type=42, status=OK, user(u64=[0x0, 0x0, 0x0, 0x0])"),
    ],
)
def test_a_packet_shows_the_fields_of_its_type_only(packet: PortPacket, expected: str) -> None:
    assert repr(packet) == f"PortPacket(key=7, {expected})"


@pytest.mark.parametrize(("status", "shown"), [(-23, "CANCELED"), (-5, "-5")])
def test_a_packet_shows_its_status_by_name_where_it_has_one(status: int, shown: str) -> None:
    assert f"status={shown}," in repr(PortPacket(status=status))


def test_a_vcpu_state_shows_every_register_in_hex() -> None:
    shown = repr(VcpuState(rax=0x10, rflags=2))
    assert shown.startswith("VcpuState(rax=0x10, rcx=0x0, rdx=0x0, rbx=0x0, rsp=0x0,")
    assert shown.endswith("r15=0x0, rflags=0x2)")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (VcpuIo(access_size=2, u32=0x44332211), "VcpuIo(access_size=2, data=1122)"),
        (VcpuIo(u32=0x44332211), "VcpuIo(access_size=0, data=11223344)"),
        (
            structs.InfoHandleBasic(koid=1024, rights=0xD00F, type=9, props=1),
            "InfoHandleBasic(koid=1024, rights=0xd00f, type=9, related_koid=0, props=0x1)",
        ),
        (
            structs.InfoResource(kind=1, base=0x20, size=0x10, name=b"irq"),
            "InfoResource(kind=1, flags=0x0, base=0x20, size=0x10, name=b'irq')",
        ),
        (structs.InfoVmar(len=1 << 36), "InfoVmar(base=0x0, len=0x1000000000)"),
        (
            structs.InfoVmo(koid=1025, name=b"ram", size_bytes=0x1000, flags=1),
            "InfoVmo(koid=1025, name=b'ram', size_bytes=0x1000, parent_koid=0, num_children=0, "
            "num_mappings=0, share_count=0, flags=0x1, committed_bytes=0x0, handle_rights=0x0, "
            "cache_policy=0)",
        ),
        (structs.InfoVcpu(flags=1), "InfoVcpu(flags=0x1)"),
        (PortPacket().guest_bell, "PacketGuestBell(addr=0x0)"),
    ],
)
def test_other_structures_show_all_their_fields(value: object, expected: str) -> None:
    assert repr(value) == expected


def test_an_integer_keeps_the_bits_that_fit_its_field() -> None:
    assert VcpuState(rax=-1).rax == 0xFFFF_FFFF_FFFF_FFFF
    assert structs.PacketGuestIo(access_size=0x101).access_size == 1
