"""A VM fd: interrupt controllers, memory slots, MSIs, irqfds, ioeventfds, trapped ranges."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal, TypeVar

from kvmbind._shim import ffi, lib
from kvmbind.kvm import descriptors
from kvmbind.kvm.calls import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind._shim import Bell, CData
    from kvmbind.kvm.msi import Message
    from kvmbind.kvm.system import System

T = TypeVar("T")

IRQFD_DEASSIGN = 1
IRQFD_RESAMPLE = 2
#: What the shim calls the kinds of interrupt controllers.
IRQCHIPS = {"pc": lib.KB_IRQCHIP_PC, "split": lib.KB_IRQCHIP_SPLIT, "none": lib.KB_IRQCHIP_NONE}
IOEVENTFD_DEASSIGN = 4
#: Bytes that one store has. One ioeventfd could stand for all of them, but then KVM on Intel decodes nothing and takes
#: a load for a store.
STORE_WIDTHS = (1, 2, 4, 8)
SPACE_IO = 0
SPACE_MEMORY = 1

#: Where KVM itself puts pages into the guest's physical address space, and the local APIC's page.
RESERVED = ((0xFFFBC000, 0xFFFC0000), (0xFEE00000, 0xFEE01000))


class Vm:
    """A VM with local APICs, with PIC, IOAPIC and PIT if asked, or with no interrupt controller at all.

    Threads: any thread may call any method. The owner closes it when nobody is inside a call on it and its vCPUs,
    irqfds and ioeventfds are gone.
    """

    __slots__ = ("_irqchip_due", "_pit", "irqchip", "struct")

    def __init__(self, system: System, *, irqchip: Literal["split", "pc", "none"], pit: bool = False) -> None:
        """Makes the VM.

        Args:
            system: The device.
            irqchip: "split" has local APICs only; "pc" has PIC and IOAPIC too, and takes 15 ms and more to close;
                "none" leaves interrupts to KVM_INTERRUPT.
            pit: Whether a "pc" has the timer 8254.

        Raises:
            OSError: KVM_CREATE_VM or the set-up failed.
        """
        self.irqchip = irqchip
        self._pit = pit
        self._irqchip_due = irqchip == "pc"
        struct = ffi.new("struct kb_vm *")
        self.struct = ffi.gc(struct, lib.kb_vm_close)
        with descriptors.lock:
            check(lib.kb_vm_open(struct, system.fd, IRQCHIPS[irqchip]), "KVM_CREATE_VM")
            descriptors.adopt(ffi.addressof(struct, "fd"), struct)

    def create_irqchip(self) -> None:
        """Makes PIC, IOAPIC and PIT of a "pc", once: before the first vCPU, and for speed after the memory slots."""
        if self._irqchip_due:
            check(lib.kb_vm_create_irqchip(self.struct, self._pit), "KVM_CREATE_IRQCHIP")
            self._irqchip_due = False

    def set_memory(self, slot: int, guest_addr: int, size: int, host: CData, *, flags: int = 0) -> None:
        """KVM_SET_USER_MEMORY_REGION; a size of 0 deletes the slot. `slots.exchange` is for VMs that run."""
        check(
            lib.kb_vm_set_memory(self.struct, slot, flags, guest_addr, size, host),
            "KVM_SET_USER_MEMORY_REGION",
        )

    def set_gsi_routing(self, table: CData) -> None:
        """KVM_SET_GSI_ROUTING: replaces the whole table."""
        check(lib.kb_vm_set_gsi_routing(self.struct, table), "KVM_SET_GSI_ROUTING")

    def assign_irqfd(self, eventfd: int, gsi: int, *, resample_fd: int = -1) -> None:
        """KVM_IRQFD: from now on a write to `eventfd` raises `gsi`. EBUSY: it has an irqfd already, in any VM.

        With a `resample_fd` the GSI stays up until the guest ends the interrupt, which writes that eventfd.
        """
        flags = IRQFD_RESAMPLE if resample_fd >= 0 else 0
        check(lib.kb_vm_irqfd(self.struct, eventfd, gsi, flags, resample_fd), "KVM_IRQFD")

    def deassign_irqfd(self, eventfd: int, gsi: int) -> None:
        """KVM_IRQFD with KVM_IRQFD_FLAG_DEASSIGN: when it returns no write to `eventfd` raises `gsi` any more."""
        check(lib.kb_vm_irqfd(self.struct, eventfd, gsi, IRQFD_DEASSIGN, -1), "KVM_IRQFD (de-assign)")

    @property
    def has_irq_lines(self) -> bool:
        """Whether there are a PIC and an IOAPIC by now."""
        return self.irqchip == "pc" and not self._irqchip_due

    def set_irq_line(self, gsi: int, level: int) -> None:
        """KVM_IRQ_LINE: an input of PIC and IOAPIC, if there are `has_irq_lines`; otherwise it does nothing."""
        check(lib.kb_vm_set_irq_line(self.struct, gsi, level), "KVM_IRQ_LINE")

    def signal_msi(self, message: Message) -> int:
        """KVM_SIGNAL_MSI: sends a message now. Returns how many vCPUs it reached."""
        return check(lib.kb_vm_signal_msi(self.struct, *message), "KVM_SIGNAL_MSI")

    def assign_ioeventfd(self, eventfd: int, addr: int) -> None:
        """KVM_IOEVENTFD: from now on a store to `addr`, of any width, adds one to `eventfd` and makes no exit.

        EEXIST: an ioeventfd is there.
        """
        try:
            for width in STORE_WIDTHS:
                check(lib.kb_vm_ioeventfd(self.struct, eventfd, addr, width, 0), "KVM_IOEVENTFD")
        except BaseException:
            self.deassign_ioeventfd(eventfd, addr)
            raise

    def deassign_ioeventfd(self, eventfd: int, addr: int) -> None:
        """KVM_IOEVENTFD with KVM_IOEVENTFD_FLAG_DEASSIGN: when it returns no store adds to `eventfd` any more.

        It does nothing where none is assigned.
        """
        for width in STORE_WIDTHS:
            result = lib.kb_vm_ioeventfd(self.struct, eventfd, addr, width, IOEVENTFD_DEASSIGN)
            if result != -errno.ENOENT:
                check(result, "KVM_IOEVENTFD (de-assign)")

    def add_range(self, space: int, start: int, size: int, key: int) -> None:
        """Makes accesses to a range carry `key`. EEXIST: it overlaps another of this space."""
        check(lib.kb_ranges_add(self.struct, space, start, size, key), "adding a range")

    def add_bell_range(self, start: int, size: int, bell: Bell) -> None:
        """Makes writes to a range of memory ring `bell`, which must live until the VM is closed."""
        check(lib.kb_ranges_add_bell(self.struct, start, size, bell), "adding a range")

    def reserve(self, addr: int) -> None:
        """Keeps ranges away from one address of memory, where an ioeventfd is."""
        check(lib.kb_ranges_reserve(self.struct, addr), "adding a range")

    def remove_range(self, space: int, start: int) -> None:
        """Takes the range that begins at `start` away, if there is one; it must be no bell's."""
        lib.kb_ranges_remove(self.struct, space, start)

    def has_range(self, space: int, start: int, size: int) -> bool:
        """Whether a range overlaps [start, start + size)."""
        return bool(lib.kb_ranges_overlap(self.struct, space, start, size))

    def while_paused(self, action: Callable[[], T]) -> T:
        """Calls `action` with all vCPUs kept out of KVM_RUN; they stay inside enter and go on by themselves afterwards.

        No `with` block: a Ctrl-C may come between its entry and its first step, and would leave the VM paused.
        """
        try:  # begins before the call: a Ctrl-C that comes during it is raised right behind it
            lib.kb_vm_pause(self.struct)
            return action()
        finally:
            lib.kb_vm_resume(self.struct)

    @property
    def entered(self) -> bool:
        """Whether a vCPU has been in KVM_RUN, or may be now; while it is paused the answer stays."""
        return bool(lib.kb_vm_entered(self.struct))

    def close(self) -> None:
        """Closes the VM fd."""
        lib.kb_vm_close(self.struct)  # it may sleep: a fork does not wait for it
        descriptors.disown(ffi.addressof(self.struct, "fd"))
