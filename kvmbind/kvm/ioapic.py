"""The IOAPIC's inputs 16 to 23, which no line of a PC uses, as level-triggered interrupts."""

from __future__ import annotations

import errno
import fcntl
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmbind.kvm.vm import Vm

FIRST, LAST = 16, 23
#: The largest APIC id that a redirection entry can name.
APIC_ID_MAX = 254

# struct kvm_irqchip with a struct kvm_ioapic_state in it
_GET_IRQCHIP, _SET_IRQCHIP = 0xC208AE62, 0x8208AE63
_SIZE = 520
_HEADER = struct.Struct("<I")  # chip_id
_IOAPIC = 2
_ENTRY = struct.Struct("<Q")
_ENTRIES_OFFSET = 32
_LEVEL, _MASKED, _DESTINATION_SHIFT = 1 << 15, 1 << 16, 56


class Input:
    """One input: its GSI has its own number. Made and ended by its Ioapic."""

    __slots__ = ("eventfd", "gsi")

    def __init__(self, gsi: int, eventfd: int) -> None:
        """Keeps the facts; Ioapic does the work."""
        self.gsi = gsi
        self.eventfd = eventfd


class Ioapic:
    """The free inputs of one VM's IOAPIC. Their routes are in its table from its creation on, see `routing`.

    Redirection entries can be written only by KVM_SET_IRQCHIP, which writes all 24 from a copy: that would wedge an
    input whose interrupt is in service. So they are written before any vCPU has run.

    A worker of the kernel raises an input, not the writer of the eventfd as with an MSI: writes that come closely merge
    or not.

    Threads: any thread may call any method. One lock guards everything; it is held over the kernel calls.
    """

    __slots__ = ("_free", "_lock", "_vm")

    def __init__(self, vm: Vm) -> None:
        """Starts with all of them free."""
        self._vm = vm
        self._lock = threading.Lock()
        self._free = list(range(FIRST, LAST + 1))

    def connect(self, eventfd: int, resample_fd: int, vector: int, apic_id: int) -> Input:
        """Makes a write to an eventfd raise an input, until the guest ends the interrupt.

        Args:
            eventfd: Raises it; one that is readable already does so at once.
            resample_fd: An eventfd that is written when the guest ends the interrupt, which lowers the input.
            vector: What the guest sees.
            apic_id: Of the vCPU that gets it, up to APIC_ID_MAX.

        Raises:
            OSError: ENOSPC: all inputs are in use; EALREADY: a vCPU has run; EBUSY: the eventfd has an irqfd already;
                or what the kernel answered.
        """
        entry = vector | _LEVEL | apic_id << _DESTINATION_SHIFT
        with self._lock:
            self._require_still()
            if not self._free:
                raise OSError(errno.ENOSPC, f"all of the IOAPIC's inputs {FIRST} to {LAST} are in use")
            return self._vm.while_paused(lambda: self._connect(eventfd, resample_fd, self._free[0], entry))

    def _connect(self, eventfd: int, resample_fd: int, gsi: int, entry: int) -> Input:
        self._require_still()
        self._redirect(gsi, entry)
        try:
            self._vm.assign_irqfd(eventfd, gsi, resample_fd=resample_fd)
        except BaseException:
            self._redirect(gsi, _MASKED)
            raise
        self._free.remove(gsi)
        return Input(gsi, eventfd)

    def disconnect(self, source: Input) -> None:
        """Takes the irqfd off, which lowers the input, and frees it. Its entry stays: nothing raises it any more."""
        with self._lock:
            self._vm.deassign_irqfd(source.eventfd, source.gsi)
            self._free.append(source.gsi)

    def _require_still(self) -> None:
        if self._vm.entered:
            raise OSError(errno.EALREADY, "a vCPU of the guest has run: the IOAPIC cannot be programmed any more")

    def _redirect(self, gsi: int, entry: int) -> None:
        chip = bytearray(_SIZE)
        _HEADER.pack_into(chip, 0, _IOAPIC)
        self._ioctl("KVM_GET_IRQCHIP", _GET_IRQCHIP, chip)
        _ENTRY.pack_into(chip, _ENTRIES_OFFSET + gsi * _ENTRY.size, entry)
        self._ioctl("KVM_SET_IRQCHIP", _SET_IRQCHIP, chip)

    def _ioctl(self, call: str, request: int, chip: bytearray) -> None:
        try:
            fcntl.ioctl(self._vm.struct.fd, request, chip)
        except OSError as error:
            raise OSError(error.errno, f"{call}: {error.strerror}") from error
