"""Level interrupts: an IOAPIC input and one VCPU each; the guest's end of interrupt is the device's cue."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kvmbind.abi.errors import BadStateError, NotSupportedError
from kvmbind.kvm import ioapic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvmbind.kvm.ioapic import Input
    from kvmbind.zircon.guest import GuestDispatcher
    from kvmbind.zircon.interrupt import InterruptDispatcher
    from kvmbind.zircon.vcpu import VcpuDispatcher


def require_bindable(call: str, guest: GuestDispatcher, bound: Sequence[VcpuDispatcher]) -> None:
    """Raises what forbids that a level interrupt of `guest` is bound to these VCPUs, new and old ones.

    Raises:
        NotSupportedError: The guest has no IOAPIC; or a second VCPU; or one whose APIC id no entry can name.
    """
    if guest.ioapic is None:
        raise NotSupportedError(call, 'a level interrupt needs an IOAPIC: make the guest with irqchip="pc"')
    if len(bound) > 1:
        raise NotSupportedError(call, "a level interrupt has one VCPU: the end of interrupt of each would be a cue")
    if bound[0].apic_id > ioapic.APIC_ID_MAX:
        raise NotSupportedError(call, f"APIC id {bound[0].apic_id} is above {ioapic.APIC_ID_MAX}: no IOAPIC reaches it")


def connect(call: str, guest: GuestDispatcher, interrupt: InterruptDispatcher, apic_id: int) -> Input:
    """Connects a level interrupt that may be bound to a VCPU of a guest.

    Raises:
        BadStateError: A VCPU of the guest has been entered.
        OSError: Anything else.
    """
    source = interrupt.source
    assert guest.ioapic is not None
    assert source.eoi is not None
    try:
        return guest.ioapic.connect(source.eventfd.fd, source.eoi.fd, interrupt.vector, apic_id)
    except OSError as error:
        if error.errno == errno.EALREADY:
            raise BadStateError(call, "a VCPU of the guest has been entered: bind level interrupts before") from error
        raise


def disconnect(guest: GuestDispatcher, connected: Input) -> None:
    """Ends what `connect` made."""
    assert guest.ioapic is not None
    guest.ioapic.disconnect(connected)
