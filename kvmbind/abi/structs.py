"""The structures that Zircon calls read and write, byte for byte.

Field names, sizes and unions are C's. What holds for all of them:

* The constructor takes any fields by keyword, the others are zero: `VcpuState(rax=1)`. A name that is no
  field is an AttributeError, in the constructor and afterwards, and an error for mypy.
* An integer keeps the low bits that fit its field, as an assignment in C does.
* `bytes(x)` and `X.from_bytes(data)` are the raw bytes, `==` compares them; `repr` leaves reserved fields
  out.
* A member that is a structure is a view: `packet.guest_io.port = 0x80` changes the packet.

Synchronization: none; an object that several threads write needs a lock of its owner.
"""

from __future__ import annotations

from ctypes import c_uint8, c_uint32, c_uint64
from typing import TYPE_CHECKING

from kvmbind.abi.constants import ZX_MAX_NAME_LEN
from kvmbind.abi.layout import IoValue, Octets, Structure, accessed
from kvmbind.abi.packets import (
    PacketGuestBell,
    PacketGuestIo,
    PacketGuestMem,
    PacketGuestVcpu,
    PacketGuestVcpuExit,
    PacketGuestVcpuInterrupt,
    PacketGuestVcpuStartup,
    PacketInterrupt,
    PacketSignal,
    PacketUser,
    PortPacket,
)

__all__ = [
    "InfoHandleBasic",
    "InfoResource",
    "InfoVcpu",
    "InfoVmar",
    "InfoVmo",
    "PacketGuestBell",
    "PacketGuestIo",
    "PacketGuestMem",
    "PacketGuestVcpu",
    "PacketGuestVcpuExit",
    "PacketGuestVcpuInterrupt",
    "PacketGuestVcpuStartup",
    "PacketInterrupt",
    "PacketSignal",
    "PacketUser",
    "PortPacket",
    "VcpuIo",
    "VcpuState",
]

_REGISTERS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    "rflags",
)


class VcpuState(Structure):
    """`zx_vcpu_state_t` of x86-64, 136 bytes: the general registers and the user's flags.

    Read, `rflags` has only the user's flags. Written, it counts only when bit 1 (value 2) is set.
    """

    __slots__ = ()
    _fields_ = tuple((register, c_uint64) for register in _REGISTERS)
    if TYPE_CHECKING:
        rax: int = 0
        rcx: int = 0
        rdx: int = 0
        rbx: int = 0
        rsp: int = 0
        rbp: int = 0
        rsi: int = 0
        rdi: int = 0
        r8: int = 0
        r9: int = 0
        r10: int = 0
        r11: int = 0
        r12: int = 0
        r13: int = 0
        r14: int = 0
        r15: int = 0
        rflags: int = 0

    def _facts(self) -> str:
        return ", ".join(f"{register}={getattr(self, register):#x}" for register in _REGISTERS)


class VcpuIo(Structure):
    """`zx_vcpu_io_t`, 8 bytes: the answer to a trapped read.

    `access_size` is 1, 2 or 4. `data`, always 4 bytes, `u8`, `u16` and `u32` are one union.
    """

    __slots__ = ()
    _anonymous_ = ("_value",)
    _fields_ = (("access_size", c_uint8), ("_padding1", c_uint8 * 3), ("_value", IoValue))
    if TYPE_CHECKING:
        access_size: int = 0
        u8: int = 0
        u16: int = 0
        u32: int = 0
        data: bytes = b""
    else:
        data = Octets("_data")

    def _facts(self) -> str:
        return f"access_size={self.access_size}, data={accessed(self.data, self.access_size)}"


class InfoHandleBasic(Structure):
    """`zx_info_handle_basic_t`, 32 bytes, for `ZX_INFO_HANDLE_BASIC`.

    `type` is one of `ZX_OBJ_TYPE_*`, `props` is `ZX_OBJ_PROP_WAITABLE` or 0, `related_koid` is always 0 here.
    """

    __slots__ = ()
    _fields_ = (
        ("koid", c_uint64),
        ("rights", c_uint32),
        ("type", c_uint32),
        ("related_koid", c_uint64),
        ("props", c_uint32),
        ("_padding1", c_uint8 * 4),
    )
    if TYPE_CHECKING:
        koid: int = 0
        rights: int = 0
        type: int = 0
        related_koid: int = 0
        props: int = 0

    def _facts(self) -> str:
        return (
            f"koid={self.koid}, rights={self.rights:#x}, type={self.type}, related_koid={self.related_koid}, "
            f"props={self.props:#x}"
        )


class InfoResource(Structure):
    """`zx_info_resource_t`, 56 bytes, for `ZX_INFO_RESOURCE`: the kind, and what range it is the right to.

    `name` reads up to its NUL and takes at most 31 bytes.
    """

    __slots__ = ()
    _fields_ = (
        ("kind", c_uint32),
        ("flags", c_uint32),
        ("base", c_uint64),
        ("size", c_uint64),
        ("_name", c_uint8 * ZX_MAX_NAME_LEN),
    )
    if TYPE_CHECKING:
        kind: int = 0
        flags: int = 0
        base: int = 0
        size: int = 0
        name: bytes = b""
    else:
        name = Octets("_name", text=True)

    def _facts(self) -> str:
        return f"kind={self.kind}, flags={self.flags:#x}, base={self.base:#x}, size={self.size:#x}, name={self.name!r}"


class InfoVmar(Structure):
    """`zx_info_vmar_t`, 16 bytes, for `ZX_INFO_VMAR`: a range of addresses."""

    __slots__ = ()
    _fields_ = (("base", c_uint64), ("len", c_uint64))
    if TYPE_CHECKING:
        base: int = 0
        len: int = 0

    def _facts(self) -> str:
        return f"base={self.base:#x}, len={self.len:#x}"


class InfoVmo(Structure):
    """`zx_info_vmo_t`, 104 bytes, for `ZX_INFO_VMO` (topic 23, which later headers call the first version).

    `flags` has `ZX_INFO_VMO_*`; `num_mappings` counts mappings into guests, `share_count` the guests that
    they are in; `committed_bytes` is the memory that the VMO holds now; `handle_rights` are those of the
    handle asked with. A VMO here has no clones: `parent_koid`, `num_children` and `cache_policy` are 0.
    `name` reads up to its NUL and takes at most 31 bytes. As in C the number of handles is not in here:
    `ZX_INFO_HANDLE_COUNT` asks it.
    """

    __slots__ = ()
    _fields_ = (
        ("koid", c_uint64),
        ("_name", c_uint8 * ZX_MAX_NAME_LEN),
        ("size_bytes", c_uint64),
        ("parent_koid", c_uint64),
        ("num_children", c_uint64),
        ("num_mappings", c_uint64),
        ("share_count", c_uint64),
        ("flags", c_uint32),
        ("_padding1", c_uint8 * 4),
        ("committed_bytes", c_uint64),
        ("handle_rights", c_uint32),
        ("cache_policy", c_uint32),
    )
    if TYPE_CHECKING:
        koid: int = 0
        name: bytes = b""
        size_bytes: int = 0
        parent_koid: int = 0
        num_children: int = 0
        num_mappings: int = 0
        share_count: int = 0
        flags: int = 0
        committed_bytes: int = 0
        handle_rights: int = 0
        cache_policy: int = 0
    else:
        name = Octets("_name", text=True)

    def _facts(self) -> str:
        return (
            f"koid={self.koid}, name={self.name!r}, size_bytes={self.size_bytes:#x}, "
            f"parent_koid={self.parent_koid}, num_children={self.num_children}, "
            f"num_mappings={self.num_mappings}, share_count={self.share_count}, flags={self.flags:#x}, "
            f"committed_bytes={self.committed_bytes:#x}, handle_rights={self.handle_rights:#x}, "
            f"cache_policy={self.cache_policy}"
        )


class InfoVcpu(Structure):
    """`zx_info_vcpu_t`, 4 bytes, for `ZX_INFO_VCPU`: `ZX_INFO_VCPU_FLAG_KICKED` or 0."""

    __slots__ = ()
    _fields_ = (("flags", c_uint32),)
    if TYPE_CHECKING:
        flags: int = 0

    def _facts(self) -> str:
        return f"flags={self.flags:#x}"
