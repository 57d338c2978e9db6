"""MSI messages: which local APICs an interrupt goes to, and as what."""

from __future__ import annotations

from typing import NamedTuple

CLUSTER_SIZE = 16
VECTOR_MIN = 16  # a local APIC refuses those below
VECTOR_MAX = 255

_BASE = 0xFEE00000
_LOGICAL = 1 << 2
_REDIRECTION_HINT = 1 << 3
_LOWEST_PRIORITY = 1 << 8
_NMI = 4 << 8


class Message(NamedTuple):
    """An MSI in the form that KVM_SIGNAL_MSI and a route take (KVM_X2APIC_API_USE_32BIT_IDS)."""

    address_lo: int
    address_hi: int
    data: int


def _to(destination: int, flags: int, data: int) -> Message:
    return Message(_BASE | (destination & 0xFF) << 12 | flags, destination & 0xFFFFFF00, data)


def physical(apic_id: int, vector: int) -> Message:
    """To the one local APIC with this id."""
    return _to(apic_id, 0, vector)


def nmi(apic_id: int) -> Message:
    """A non-maskable interrupt (vector 2) to one local APIC."""
    return _to(apic_id, 0, _NMI)


def logical(cluster: int, mask: int, vector: int, *, lowest_priority: bool = False) -> Message:
    """To each of the APICs `mask` (16 bits) of a cluster, or to one of them; all must be in x2APIC mode."""
    if lowest_priority:
        return _to(cluster << 16 | mask, _LOGICAL | _REDIRECTION_HINT, vector | _LOWEST_PRIORITY)
    return _to(cluster << 16 | mask, _LOGICAL, vector)
