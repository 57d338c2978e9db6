"""Which debug registers work: KVM's capability says no where they do, and yes where they do not."""

from __future__ import annotations

from kvmbind.abi.errors import InvalidArgsError, NotSupportedError
from kvmbind.kvm.registers import Breakpoint
from kvmbind.machine.gdb.points import DebugSupport
from kvmbind.objects.guest import Guest
from kvmbind.objects.vcpu import Vcpu

_ENTRY, _WATCHED, _PORT = 0x100, 0x200, 0x80
_CODE = bytes.fromhex("c606000201 e680 ebfc")  # mov byte [200h], 1; 1: out 80h, al; jmp 1b
_BEHIND_STORE = _ENTRY + 5
_DEADLINE_S = 10.0


def probe() -> DebugSupport:
    """Sets a breakpoint and watches an address in a small guest, and looks whether it stops.

    Raises:
        ZxError: KVM failed.
        OSError: There is no KVM.
    """
    return DebugSupport(_stops_for(Breakpoint(_BEHIND_STORE)), _stops_for(Breakpoint(_WATCHED, "write")))


def _stops_for(register: Breakpoint) -> bool:
    with Guest.create(memory=1 << 12) as guest:
        guest.write(_CODE, _ENTRY)
        guest.set_trap_io(_PORT, 1, 0)
        with Vcpu.create(guest, _ENTRY) as vcpu:
            try:
                vcpu.set_guest_debug([register])
                vcpu.enter(_DEADLINE_S)
            except NotSupportedError:
                return True
            except InvalidArgsError:  # this kernel has no KVM_GUESTDBG_USE_HW_BP
                return False
    return False
