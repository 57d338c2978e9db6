"""The packets of ports and of `zx_vcpu_enter`, laid out as `structs` says."""

from __future__ import annotations

from ctypes import c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64
from typing import TYPE_CHECKING

from kvmbind.abi import constants as zx
from kvmbind.abi.layout import IoValue, Octets, Structure, Union, accessed
from kvmbind.abi.status import Status

if TYPE_CHECKING:
    from kvmbind.abi.layout import Words


class PacketUser(Union):
    """`zx_packet_user_t`, 32 bytes: what the sender put there, in one of four widths.

    The members are arrays that can be indexed, sliced and assigned: `user.c8[:4] = b"ping"`.
    """

    __slots__ = ()
    _fields_ = (("u64", c_uint64 * 4), ("u32", c_uint32 * 8), ("u16", c_uint16 * 16), ("c8", c_uint8 * 32))
    if TYPE_CHECKING:
        u64: Words = Words()
        u32: Words = Words()
        u16: Words = Words()
        c8: Words = Words()

    def _facts(self) -> str:
        return f"u64=[{', '.join(map(hex, self.u64))}]"


class PacketSignal(Structure):
    """`zx_packet_signal_t`, 32 bytes: the signals waited for, and those that were there."""

    __slots__ = ()
    _fields_ = (
        ("trigger", c_uint32),
        ("observed", c_uint32),
        ("count", c_uint64),
        ("timestamp", c_uint64),
        ("reserved1", c_uint64),
    )
    if TYPE_CHECKING:
        trigger: int = 0
        observed: int = 0
        count: int = 0
        timestamp: int = 0
        reserved1: int = 0

    def _facts(self) -> str:
        return f"trigger={self.trigger:#x}, observed={self.observed:#x}, count={self.count}, timestamp={self.timestamp}"


class PacketGuestBell(Structure):
    """`zx_packet_guest_bell_t`, 32 bytes: the guest-physical address that was written."""

    __slots__ = ()
    _fields_ = (
        ("addr", c_uint64),
        ("reserved0", c_uint64),
        ("reserved1", c_uint64),
        ("reserved2", c_uint64),
    )
    if TYPE_CHECKING:
        addr: int = 0
        reserved0: int = 0
        reserved1: int = 0
        reserved2: int = 0

    def _facts(self) -> str:
        return f"addr={self.addr:#x}"


class PacketGuestMem(Structure):
    """`zx_packet_guest_mem_t`, 32 bytes, as arm64 has it: an access to trapped memory, decoded.

    On x86 Zircon returned the undecoded instruction; KVM has decoded it already. `read` is 1 for a load;
    `data` is what a store writes. `sign_extend` and `xt` (the arm64 register) are 0.
    """

    __slots__ = ()
    _fields_ = (
        ("addr", c_uint64),
        ("access_size", c_uint8),
        ("sign_extend", c_uint8),
        ("xt", c_uint8),
        ("read", c_uint8),
        ("_padding1", c_uint8 * 4),
        ("data", c_uint64),
        ("reserved", c_uint64),
    )
    if TYPE_CHECKING:
        addr: int = 0
        access_size: int = 0
        sign_extend: int = 0
        xt: int = 0
        read: int = 0
        data: int = 0
        reserved: int = 0

    def _facts(self) -> str:
        return f"addr={self.addr:#x}, access_size={self.access_size}, read={self.read}, data={self.data:#x}"


class PacketGuestIo(Structure):
    """`zx_packet_guest_io_t`, 32 bytes: an access to a trapped I/O port.

    `input` is 1 for IN. `data`, always 4 bytes, `u8`, `u16` and `u32` are one union: the value of an OUT, of
    which the first `access_size` bytes count.
    """

    __slots__ = ()
    _anonymous_ = ("_value",)
    _fields_ = (
        ("port", c_uint16),
        ("access_size", c_uint8),
        ("input", c_uint8),
        ("_value", IoValue),
        ("reserved0", c_uint64),
        ("reserved1", c_uint64),
        ("reserved2", c_uint64),
    )
    if TYPE_CHECKING:
        port: int = 0
        access_size: int = 0
        input: int = 0
        u8: int = 0
        u16: int = 0
        u32: int = 0
        data: bytes = b""
        reserved0: int = 0
        reserved1: int = 0
        reserved2: int = 0
    else:
        data = Octets("_data")

    def _facts(self) -> str:
        data = accessed(self.data, self.access_size)
        return f"port={self.port:#x}, access_size={self.access_size}, input={self.input}, data={data}"


class PacketGuestVcpuInterrupt(Structure):
    """The `interrupt` of `zx_packet_guest_vcpu_t`: a vector sent to a mask of VCPUs."""

    __slots__ = ()
    _fields_ = (("mask", c_uint64), ("vector", c_uint8), ("_padding1", c_uint8 * 7))
    if TYPE_CHECKING:
        mask: int = 0
        vector: int = 0

    def _facts(self) -> str:
        return f"mask={self.mask:#x}, vector={self.vector:#x}"


class PacketGuestVcpuStartup(Structure):
    """The `startup` of `zx_packet_guest_vcpu_t`: a VCPU is to start at `entry`."""

    __slots__ = ()
    _fields_ = (("id", c_uint64), ("entry", c_uint64))
    if TYPE_CHECKING:
        id: int = 0
        entry: int = 0

    def _facts(self) -> str:
        return f"id={self.id}, entry={self.entry:#x}"


class PacketGuestVcpuExit(Structure):
    """The `exit` of `zx_packet_guest_vcpu_t`."""

    __slots__ = ()
    _fields_ = (("retcode", c_int64), ("reserved", c_uint64))
    if TYPE_CHECKING:
        retcode: int = 0
        reserved: int = 0

    def _facts(self) -> str:
        return f"retcode={self.retcode}"


class _VcpuEvent(Union):
    __slots__ = ()
    _fields_ = (
        ("interrupt", PacketGuestVcpuInterrupt),
        ("startup", PacketGuestVcpuStartup),
        ("exit", PacketGuestVcpuExit),
    )


class PacketGuestVcpu(Structure):
    """`zx_packet_guest_vcpu_t`, 32 bytes, as of 2022; kvmbind never sends one, for KVM handles these events.

    `type` (`ZX_PKT_GUEST_VCPU_*`) says which of `interrupt`, `startup` and `exit` is meant.
    """

    __slots__ = ()
    _anonymous_ = ("_event",)
    _fields_ = (
        ("type", c_uint32),
        ("_padding1", c_uint8 * 4),
        ("_event", _VcpuEvent),
        ("reserved", c_uint64),
    )
    if TYPE_CHECKING:
        type: int = 0
        interrupt: PacketGuestVcpuInterrupt = PacketGuestVcpuInterrupt()
        startup: PacketGuestVcpuStartup = PacketGuestVcpuStartup()
        exit: PacketGuestVcpuExit = PacketGuestVcpuExit()
        reserved: int = 0

    def _facts(self) -> str:
        match self.type:
            case zx.ZX_PKT_GUEST_VCPU_INTERRUPT:
                return f"type=INTERRUPT, interrupt({self.interrupt._facts()})"
            case zx.ZX_PKT_GUEST_VCPU_STARTUP:
                return f"type=STARTUP, startup({self.startup._facts()})"
            case zx.ZX_PKT_GUEST_VCPU_EXIT:
                return f"type=EXIT, exit({self.exit._facts()})"
        return f"type={self.type}"


class PacketInterrupt(Structure):
    """`zx_packet_interrupt_t`, 32 bytes: when the interrupt fired, in ns of the monotonic clock."""

    __slots__ = ()
    _fields_ = (
        ("timestamp", c_int64),
        ("reserved0", c_uint64),
        ("reserved1", c_uint64),
        ("reserved2", c_uint64),
    )
    if TYPE_CHECKING:
        timestamp: int = 0
        reserved0: int = 0
        reserved1: int = 0
        reserved2: int = 0

    def _facts(self) -> str:
        return f"timestamp={self.timestamp}"


class _Payload(Union):
    __slots__ = ()
    _fields_ = (
        ("user", PacketUser),
        ("signal", PacketSignal),
        ("guest_bell", PacketGuestBell),
        ("guest_mem", PacketGuestMem),
        ("guest_io", PacketGuestIo),
        ("guest_vcpu", PacketGuestVcpu),
        ("interrupt", PacketInterrupt),
    )


class PortPacket(Structure):
    """`zx_port_packet_t`, 48 bytes: what a port or `zx_vcpu_enter` hands out.

    `type` (`ZX_PKT_TYPE_*`) says which member of the union is meant: `user`, `signal`, `guest_bell`,
    `guest_mem`, `guest_io`, `guest_vcpu` or `interrupt`. `key` is the one given with the trap, the bind or
    the packet.
    """

    __slots__ = ()
    _anonymous_ = ("_payload",)
    _fields_ = (("key", c_uint64), ("type", c_uint32), ("status", c_int32), ("_payload", _Payload))
    if TYPE_CHECKING:
        key: int = 0
        type: int = 0
        status: int = 0
        user: PacketUser = PacketUser()
        signal: PacketSignal = PacketSignal()
        guest_bell: PacketGuestBell = PacketGuestBell()
        guest_mem: PacketGuestMem = PacketGuestMem()
        guest_io: PacketGuestIo = PacketGuestIo()
        guest_vcpu: PacketGuestVcpu = PacketGuestVcpu()
        interrupt: PacketInterrupt = PacketInterrupt()

    def _facts(self) -> str:
        name, member, payload = str(self.type), "user", self.user._facts()
        match self.type:
            case zx.ZX_PKT_TYPE_USER:
                name = "USER"
            case zx.ZX_PKT_TYPE_SIGNAL_ONE:
                name, member, payload = "SIGNAL_ONE", "signal", self.signal._facts()
            case zx.ZX_PKT_TYPE_GUEST_BELL:
                name, member, payload = "GUEST_BELL", "guest_bell", self.guest_bell._facts()
            case zx.ZX_PKT_TYPE_GUEST_MEM:
                name, member, payload = "GUEST_MEM", "guest_mem", self.guest_mem._facts()
            case zx.ZX_PKT_TYPE_GUEST_IO:
                name, member, payload = "GUEST_IO", "guest_io", self.guest_io._facts()
            case zx.ZX_PKT_TYPE_GUEST_VCPU:
                name, member, payload = "GUEST_VCPU", "guest_vcpu", self.guest_vcpu._facts()
            case zx.ZX_PKT_TYPE_INTERRUPT:
                name, member, payload = "INTERRUPT", "interrupt", self.interrupt._facts()
        return f"key={self.key}, type={name}, status={_status_name(self.status)}, {member}({payload})"


def _status_name(status: int) -> str:
    try:
        return Status(status).name
    except ValueError:
        return str(status)
