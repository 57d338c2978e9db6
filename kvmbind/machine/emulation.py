"""Instructions that the emulator of some KVMs lacks and that are as well done from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.kvm.exits import ExitReason

if TYPE_CHECKING:
    from kvmbind.kvm.exits import Exit
    from kvmbind.machine.memory import PhysicalMemory
    from kvmbind.objects.vcpu import Vcpu

_FWAIT = 0x9B
_EMULATION_FAILED = 1
_PAGING = 1 << 31


def skip(vcpu: Vcpu, exit: Exit, memory: PhysicalMemory) -> bool:
    """Does the instruction that KVM could not do, if it is known here.

    FWAIT waits for an x87 exception, and none is pending where the x87 is emulated: it is passed over.

    Returns:
        Whether it was known; the guest goes on behind it.
    """
    if exit.reason != ExitReason.INTERNAL_ERROR or exit.suberror != _EMULATION_FAILED:
        return False
    general = vcpu.read_registers()
    code = exit.instruction[:1]
    if not code:
        special = vcpu.read_special()
        if special.cr0 & _PAGING:
            return False
        code = memory.read(special.cs.base + general.rip, 1)
    if code[0] != _FWAIT:
        return False
    vcpu.write_registers(general._replace(rip=general.rip + 1))
    return True
