"""What kvmbind asks of KVM (KVM_CHECK_EXTENSION), and what for. Only facts: it needs neither a device nor the shim."""

from __future__ import annotations

from typing import NamedTuple


class Capability(NamedTuple):
    """A KVM_CAP_* number, its name, and what kvmbind does with it: "to run real mode"."""

    number: int
    name: str
    purpose: str


#: Without these there is no guest.
REQUIRED = (
    Capability(3, "KVM_CAP_USER_MEMORY", "to give guests memory"),
    Capability(4, "KVM_CAP_SET_TSS_ADDR", "to run real mode"),
    Capability(14, "KVM_CAP_MP_STATE", "to start VCPUs"),
    Capability(25, "KVM_CAP_IRQ_ROUTING", "to route interrupts"),
    Capability(32, "KVM_CAP_IRQFD", "to bind interrupts to VCPUs"),
    Capability(36, "KVM_CAP_IOEVENTFD", "to ring bells"),
    Capability(37, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "to run real mode"),
    Capability(77, "KVM_CAP_SIGNAL_MSI", "to interrupt VCPUs"),
    Capability(121, "KVM_CAP_SPLIT_IRQCHIP", "to have local APICs"),
    Capability(129, "KVM_CAP_X2APIC_API", "to address many VCPUs"),
    Capability(136, "KVM_CAP_IMMEDIATE_EXIT", "to kick VCPUs"),
)

#: Without one of these, kvmbind lacks what it is for.
OPTIONAL = (
    Capability(0, "KVM_CAP_IRQCHIP", 'to make guests with PIC and IOAPIC (irqchip="pc")'),
    Capability(23, "KVM_CAP_SET_GUEST_DEBUG", "to single-step guests"),
    Capability(33, "KVM_CAP_PIT2", "to give guests a PIT"),
    Capability(74, "KVM_CAP_SYNC_REGS", "to read registers at an exit without a system call"),
    Capability(81, "KVM_CAP_READONLY_MEM", "to keep guests from writing to memory"),
    Capability(82, "KVM_CAP_IRQFD_RESAMPLE", "to bind level interrupts"),
    Capability(122, "KVM_CAP_IOEVENTFD_ANY_LENGTH", "to ring bells by stores of any width"),
    Capability(127, "KVM_CAP_VCPU_ATTRIBUTES", "to compare a guest's time stamps with the host's (kvmbind bench)"),
    Capability(203, "KVM_CAP_BINARY_STATS_FD", "to count what KVM does with a VCPU (Vcpu.stats)"),
)
