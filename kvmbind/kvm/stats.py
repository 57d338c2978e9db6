"""The binary statistics of a vCPU (KVM_GET_STATS_FD)."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

_HEADER = struct.Struct("<6I")  # flags, name_size, num_desc, id_offset, desc_offset, data_offset
_DESCRIPTION = struct.Struct("<IhHII")  # flags, exponent, size, offset, bucket_size; the name follows


class VcpuStats(NamedTuple):
    """What KVM has counted for one vCPU since it was made.

    exits: VM exits, most of them handled in the kernel. irq_injections: interrupts put in by software; 0 where the
    hardware posts them (APICv, AVIC), and more than were raised where an injection had to be repeated.
    blocking: 1 while the vCPU sleeps in HLT. Names and meanings are the kernel's; one that it does not have is 0.
    """

    exits: int
    io_exits: int
    mmio_exits: int
    signal_exits: int
    irq_injections: int
    nmi_injections: int
    irq_exits: int
    irq_window_exits: int
    request_irq_exits: int
    halt_exits: int
    halt_wakeup: int
    halt_successful_poll: int
    halt_attempted_poll: int
    blocking: int


def _layout(fd: int) -> dict[str, int]:
    _, name_size, count, _, descriptions, data = _HEADER.unpack(os.pread(fd, _HEADER.size, 0))
    stride = _DESCRIPTION.size + name_size
    table = os.pread(fd, count * stride, descriptions)
    layout = {}
    for start in range(0, len(table), stride):
        offset = _DESCRIPTION.unpack_from(table, start)[3]
        name = table[start + _DESCRIPTION.size : start + stride].split(b"\0", 1)[0].decode("ascii")
        layout[name] = data + offset
    return layout


def offset_of(fd: int, name: str) -> int | None:
    """Returns where in the stats fd a statistic's u64 is; None if this kernel does not have it."""
    return _layout(fd).get(name)


def read(fd: int) -> VcpuStats:
    """Reads the statistics; it makes no ioctl and so never waits for KVM_RUN."""
    layout = _layout(fd)
    end = max(layout.values()) + 8
    block = os.pread(fd, end, 0)
    values = (struct.unpack_from("<Q", block, layout[name])[0] if name in layout else 0 for name in VcpuStats._fields)
    return VcpuStats(*values)
