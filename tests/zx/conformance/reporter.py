"""A guest whose handlers report which vector they were called for, in real mode or in long mode.

What a test has run ends at an OUT to port 80h with EAX as it is; a handler's OUT has its vector there instead.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal

from kvmbind import Guest, Vcpu, VcpuState
from kvmbind.zx import ZX_PKT_TYPE_GUEST_IO
from tests.zx.conformance import long_mode

if TYPE_CHECKING:
    import contextlib

    Mode = Literal["real", "long"]

ENTRY, STUBS, COMMON = 0x3000, 0x6000, 0x7F00
REPORT, READY = 0x80, 0x81
DEADLINE_S = 60

OUT_REPORT = bytes.fromhex("e680")
# out 80h, al; mov ecx, 80Bh; xor eax, eax; xor edx, edx; wrmsr (the end of interrupt); iret
HANDLER = {
    "real": bytes.fromhex("e680 66b90b080000 6631c0 6631d2 0f30 cf"),
    "long": bytes.fromhex("e680 b90b080000 31c0 31d2 0f30 48cf"),
}
# mov sp, 9000h
PROLOGUE_REAL = bytes.fromhex("bc0090")
PROLOGUE = {"real": PROLOGUE_REAL, "long": long_mode.PROLOGUE}
# out 81h, al; sti; hlt for ever
IDLE = bytes.fromhex("e681 fb f4 ebfd")
NOTHING = "9090"


class Reporter:
    """The guest. Each run has a VCPU of its own, whose APIC id is the next."""

    def __init__(self, opened: contextlib.ExitStack, mode: Mode) -> None:
        self.mode = mode
        self.guest = opened.enter_context(Guest.create(memory=1 << 20))
        self._opened = opened
        self.guest.set_trap_io(REPORT, 2, 0)
        self.guest.write(HANDLER[mode], COMMON)
        self.guest.write(b"".join(self._stub(vector) for vector in range(256)), STUBS)
        handlers = range(STUBS, STUBS + 256 * 16, 16)
        if mode == "long":
            long_mode.write_tables(self.guest, handlers)
        else:
            self.guest.write(struct.pack("<256I", *handlers), 0)

    def _stub(self, vector: int) -> bytes:
        """mov eax, vector; jmp COMMON; and what makes it 16 bytes."""
        load, jump = (b"\xb8", "<i") if self.mode == "long" else (b"\x66\xb8", "<h")
        load += struct.pack("<I", vector)
        behind = STUBS + 16 * vector + len(load) + 1 + struct.calcsize(jump)
        return (load + b"\xe9" + struct.pack(jump, COMMON - behind)).ljust(16, b"\x90")

    def load(self, code: bytes) -> None:
        """Puts code where VCPUs begin, behind what sets their stack up."""
        self.guest.write(PROLOGUE[self.mode] + code, ENTRY)

    def behind(self, code: str) -> int:
        """Where code that is loaded ends."""
        return ENTRY + len(PROLOGUE[self.mode]) + len(bytes.fromhex(code))

    def vcpu(self) -> Vcpu:
        """The next VCPU, which has not run yet."""
        return self._opened.enter_context(Vcpu.create(self.guest, ENTRY, mode=self.mode))

    def idle(self) -> Vcpu:
        """A VCPU that is just before its HLT, with interrupts still off: the next enter lets them in."""
        return self.make_idle(self.vcpu())

    def make_idle(self, vcpu: Vcpu, first: str = NOTHING) -> Vcpu:
        """Runs one instruction of two bytes, and goes on to where `idle` stops."""
        self.load(bytes.fromhex(first) + IDLE)
        assert vcpu.enter(DEADLINE_S).guest_io.port == READY
        return vcpu

    def run(self, code: str, **registers: int) -> VcpuState:
        """Runs code, with registers at first, and returns those at its report, which is the one exit that it makes."""
        self.load(bytes.fromhex(code) + OUT_REPORT)
        with Vcpu.create(self.guest, ENTRY, mode=self.mode) as vcpu:
            vcpu.write_state(VcpuState(**registers))
            report(vcpu)
            assert vcpu.returns == 1
            return vcpu.read_state()


def report(vcpu: Vcpu) -> int:
    """Enters, and returns what is reported: a handler's vector, or the low byte of what the code has in EAX."""
    packet = vcpu.enter(DEADLINE_S)
    assert (packet.type, packet.guest_io.port) == (ZX_PKT_TYPE_GUEST_IO, REPORT)
    return packet.guest_io.u8
