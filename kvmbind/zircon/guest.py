"""Guests: a VM fd, its address space, its routing table, its traps."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar, Literal

from kvmbind.abi.constants import ZX_DEFAULT_GUEST_RIGHTS, ZX_OBJ_TYPE_GUEST
from kvmbind.abi.errors import BadStateError, InvalidArgsError, NoResourcesError, from_os_error
from kvmbind.kvm import closer, system
from kvmbind.kvm.ioapic import Ioapic
from kvmbind.kvm.routing import Routing
from kvmbind.kvm.vm import Vm
from kvmbind.zircon.address_space import AddressSpace
from kvmbind.zircon.dispatcher import Dispatcher
from kvmbind.zircon.traps import Traps
from kvmbind.zircon.vmar import VmarDispatcher

if TYPE_CHECKING:
    from kvmbind.kvm.msi import Message
    from kvmbind.kvm.vcpu import Vcpu
    from kvmbind.zircon.interrupt import InterruptDispatcher
    from kvmbind.zircon.port import PortDispatcher
    from kvmbind.zircon.resource import ResourceDispatcher

ADDRESS_BITS_MAX = 48
_XAPIC_ID_MAX = 254
StartMode = Literal["real", "long", "wait-for-sipi"]


class GuestDispatcher(Dispatcher):
    """A guest. Each VCPU holds it, and each VCPU is held by the interrupts that are bound to it.

    Threads: any thread may use it. `_creation` orders the making of VCPUs.
    """

    __slots__ = ("_creation", "_next_apic_id", "_resource", "_vcpus_max", "ioapic", "routing", "space", "traps", "vm")

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_GUEST
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_GUEST_RIGHTS
    WAITABLE: ClassVar[bool] = False

    def __init__(
        self, resource: ResourceDispatcher, *, irqchip: Literal["split", "pc"] = "split", pit: bool = False
    ) -> None:
        """Makes a guest with no VCPU and no memory.

        Args:
            resource: Of kind HYPERVISOR or ROOT; held from now on.
            irqchip: "split": local APICs only; "pc": PIC and IOAPIC too.
            pit: Whether a "pc" has a PIT.

        Raises:
            WrongTypeError: The resource is of another kind.
            ZxError: What the kernel answered.
        """
        call = "zx_guest_create"
        resource.require_hypervisor(call)
        resource.hold()
        try:
            host = resource.system
            self.vm = Vm(host, irqchip=irqchip, pit=pit)
            self.routing = Routing(self.vm, host.capability(system.IRQ_ROUTING))
            self.ioapic = Ioapic(self.vm) if irqchip == "pc" else None
            size = 1 << min(host.address_bits, ADDRESS_BITS_MAX)
            self.space = AddressSpace(self.vm, size, host.capability(system.NR_MEMSLOTS))
            self.traps = Traps(self.vm, self.space)
            self._vcpus_max = host.capability(system.NR_VCPUS_MAX)
        except OSError as error:
            resource.drop()
            raise from_os_error(call, error) from error
        self._resource = resource
        self._creation = threading.Lock()
        self._next_apic_id = 0
        super().__init__()

    def make_vmar(self) -> VmarDispatcher:
        """Returns a dispatcher for its address space."""
        return VmarDispatcher(self.space)

    def make_vcpu(self, call: str, entry: int, mode: StartMode, *, x2apic: bool) -> tuple[Vcpu, int]:
        """Makes the next vCPU and sets its start state; the caller holds the guest.

        Returns:
            The vCPU and its APIC id.

        Raises:
            NoResourcesError: As many as KVM allows have been made.
            InvalidArgsError: `entry` is none of this mode; the first VCPU cannot wait; no xAPIC has such an id.
            ZxError: What the kernel answered.
        """
        from kvmbind.kvm.vcpu import Vcpu

        with self._creation:
            if self._next_apic_id == self._vcpus_max:
                raise NoResourcesError(call, f"the guest has had {self._vcpus_max} VCPUs; KVM frees no id")
            self._check_start(call, entry, mode, x2apic=x2apic)
            try:
                self.vm.create_irqchip()
                vcpu = self._next_vcpu(Vcpu, x2apic=x2apic)
                apic_id = self._next_apic_id - 1
            except OSError as error:
                raise from_os_error(call, error) from error
        try:
            _start(vcpu, entry, mode)
        except OSError as error:
            vcpu.close()
            raise from_os_error(call, error) from error
        return vcpu, apic_id

    def _check_start(self, call: str, entry: int, mode: StartMode, *, x2apic: bool) -> None:
        limit = {"real": 1 << 20, "long": self.space.size, "wait-for-sipi": 1}[mode]
        if entry >= min(limit, self.space.size):
            hint = "SIPI says where it starts" if mode == "wait-for-sipi" else f"it is not below {limit:#x}"
            raise InvalidArgsError(call, f"entry {entry:#x}: {hint}")
        if mode == "wait-for-sipi" and not self._next_apic_id:
            raise InvalidArgsError(call, "the first VCPU is the one that starts the others: it cannot wait for SIPI")
        if not x2apic and self._next_apic_id > _XAPIC_ID_MAX:
            raise InvalidArgsError(call, f"APIC id {self._next_apic_id} is above {_XAPIC_ID_MAX}: no xAPIC has it")

    def _next_vcpu(self, make: type[Vcpu], *, x2apic: bool) -> Vcpu:
        while True:
            try:
                vcpu = make(self.vm, self._resource.system, self._next_apic_id, x2apic=x2apic)
            except FileExistsError:  # a creation that failed half-way has used this id up
                self._next_apic_id += 1
                continue
            self._next_apic_id += 1
            return vcpu

    def set_trap(self, kind: int, addr: int, size: int, port: PortDispatcher | None, key: int) -> None:
        """Traps accesses; see zx_guest_set_trap for arguments and errors."""
        with self:
            self.traps.set("zx_guest_set_trap", kind, addr, size, port, key)

    def connect_bell(self, addr: int, interrupt: InterruptDispatcher) -> None:
        """Lets stores to an address fire an interrupt; see `Traps.connect` for errors."""
        with self, interrupt:
            self.traps.connect("Guest.connect_bell", addr, interrupt)

    def set_irq_line(self, call: str, line: int, level: bool) -> None:
        """Sets an input of PIC and IOAPIC; BAD_STATE before the first VCPU, which they are made with."""
        with self:
            if not self.vm.has_irq_lines:
                raise BadStateError(call, "the guest has no VCPU yet, or no PIC")
            try:
                self.vm.set_irq_line(line, level)
            except OSError as error:
                raise from_os_error(call, error) from error

    def signal(self, call: str, message: Message) -> None:
        """Sends an MSI to local APICs of this guest."""
        with self:
            try:
                self.vm.signal_msi(message)
            except OSError as error:
                raise from_os_error(call, error) from error

    def _destroy(self) -> None:
        if self.vm.irqchip == "pc":
            closer.submit(self._close)
        else:
            self._close()

    def _close(self) -> None:
        self.traps.end()
        self.space.leave()  # whoever has the VMAR is out of the VM's fd before it closes
        self.vm.close()
        self.space.release()
        self._resource.drop()


def _start(vcpu: Vcpu, entry: int, mode: StartMode) -> None:
    if mode == "long":
        vcpu.start_long(entry)
    else:
        vcpu.start_real(entry)
    if mode == "wait-for-sipi":
        vcpu.start_waiting()
