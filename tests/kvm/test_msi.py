"""MSI messages have the bits that local APICs in x2APIC mode look at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.kvm import msi
from kvmbind.kvm.msi import Message

LOGICAL, HINT, LOWEST, NMI = 1 << 2, 1 << 3, 1 << 8, 4 << 8


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (msi.physical(0, 0x40), Message(0xFEE00000, 0, 0x40)),
        (msi.physical(2, 0xFF), Message(0xFEE02000, 0, 0xFF)),
        (msi.physical(0xFF, 0x10), Message(0xFEEFF000, 0, 0x10)),
        (msi.physical(0x123, 0x40), Message(0xFEE23000, 0x100, 0x40)),
        (msi.nmi(3), Message(0xFEE03000, 0, NMI)),
        (msi.logical(0, 0b0101, 0x40), Message(0xFEE05000 | LOGICAL, 0, 0x40)),
        (msi.logical(0, 0xFFFF, 0x40), Message(0xFEEFF000 | LOGICAL, 0xFF00, 0x40)),
        (msi.logical(1, 3, 0x40), Message(0xFEE03000 | LOGICAL, 0x00010000, 0x40)),
        (
            msi.logical(1, 3, 0x40, lowest_priority=True),
            Message(0xFEE03000 | LOGICAL | HINT, 0x00010000, LOWEST | 0x40),
        ),
    ],
)
def test_a_message_has_exactly_these_bits(message: Message, expected: Message) -> None:
    assert message == expected


@given(st.integers(0, 0xFFFFFFFF), st.integers(16, 255))
def test_a_physical_destination_is_told_in_full_and_sets_no_other_bit(apic_id: int, vector: int) -> None:
    message = msi.physical(apic_id, vector)
    assert message.address_lo >> 12 & 0xFF | message.address_hi == apic_id
    assert message.address_lo & ~0xFF000 == 0xFEE00000
    assert message.address_hi & 0xFF == 0
    assert message.data == vector


@given(st.integers(0, 0xFFFF), st.integers(1, 0xFFFF), st.integers(16, 255), st.booleans())
def test_a_logical_destination_is_cluster_and_mask(cluster: int, mask: int, vector: int, lowest: bool) -> None:
    message = msi.logical(cluster, mask, vector, lowest_priority=lowest)
    assert message.address_lo >> 12 & 0xFF | message.address_hi == cluster << 16 | mask
    assert message.address_lo & 0xFFF == (LOGICAL | HINT if lowest else LOGICAL)
    assert message.data == vector | (LOWEST if lowest else 0)
