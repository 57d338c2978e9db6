"""What code in long mode needs: page tables at 0, descriptors, gates; and the ways to other kinds of code."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvmbind import Guest

IDT, GDT, TABLE_REGISTERS, TSS, STACK = 0x5000, 0x8000, 0x8100, 0x8200, 0x9000
PRESENT, WRITABLE, USER, LARGE = 1, 2, 4, 0x80
INTERRUPT_GATE, TSS_LIMIT = 0x8E00, 0x67

#: The GDT, by selector. SYSCALL and SYSENTER load the first two.
DESCRIPTORS = {
    0x00: 0,
    0x08: 0x00209A0000000000,  # 64-bit code
    0x10: 0x00CF92000000FFFF,  # data
    0x18: 0x00CFFA000000FFFF,  # the user's 32-bit code
    0x20: 0x00CFF2000000FFFF,  # the user's data
    0x28: 0x0020FA0000000000,  # the user's 64-bit code
    0x30: 0x00CF9A000000FFFF,  # 32-bit code
    0x38: TSS_LIMIT | TSS << 16 | 0x89 << 40,
    0x40: 0,
}
CODE_64, CODE_32 = 0x08, 0x30

# mov esp, 9000h; lgdt [8100h]; lidt [8110h]; push 8; push 3020h; retfq; at 3020h is what comes next
PROLOGUE = bytes.fromhex("bc00900000 0f01142500810000 0f011c2510810000 6a08 6820300000 48cb").ljust(0x20, b"\x90")

# lea rax, [rip + 3]; push rax; and retfq or iretq, behind which it goes on
_RETF, _IRET = "488d0503000000 50 48cb", "488d0503000000 50 48cf"
# and byte [803Dh], FDh (another VCPU has made the TSS busy); mov eax, 38h; ltr ax
_LOAD_TASK = "8024253d800000fd b838000000 0f00d8"
# push 20h | 3; push 9800h; push 3002h (all ports are the user's)
_LEAVE = f"{_LOAD_TASK} 6a23 6800980000 6802300000"
#: The code behind it is a user's, of 64 or 32 bits: push its selector. What faults is reported as always.
TO_USER, TO_USER_32 = f"{_LEAVE} 6a2b {_IRET}", f"{_LEAVE} 6a1b {_IRET}"
#: The code behind it has 32 bits: push 30h; or 64 again: push 8; call; add dword [esp], 5; retf.
TO_32, TO_64 = f"6a30 {_RETF}", "6a08 e800000000 83042405 cb"


def write_msr(number: int, value: int) -> str:
    """mov ecx, number; mov eax, low half; mov edx, high half; wrmsr."""
    numbers = struct.pack("<BI", 0xB9, number), struct.pack("<BI", 0xB8, value & 0xFFFFFFFF)
    return b"".join((*numbers, struct.pack("<BI", 0xBA, value >> 32), b"\x0f\x30")).hex()


def write_tables(guest: Guest, handlers: Iterable[int]) -> None:
    """Writes all tables: the first GiB is mapped to itself for users too, vector n comes to the n-th handler."""
    of_everybody = USER | WRITABLE | PRESENT
    pages = [number << 21 | LARGE | of_everybody for number in range(512)]
    for addr, entries in [(0, [0x1000 | of_everybody]), (0x1000, [0x2000 | of_everybody]), (0x2000, pages)]:
        guest.write(struct.pack(f"<{len(entries)}Q", *entries), addr)
    gates = b"".join(struct.pack("<HHHHQ", handler, CODE_64, INTERRUPT_GATE, 0, 0) for handler in handlers)
    guest.write(gates, IDT)
    guest.write(struct.pack("<IQ", 0, STACK), TSS)  # the stack of a handler that comes while a user runs
    guest.write(struct.pack("<HQ", 8 * len(DESCRIPTORS) - 1, GDT), TABLE_REGISTERS)
    guest.write(struct.pack("<HQ", len(gates) - 1, IDT), TABLE_REGISTERS + 16)
    guest.write(struct.pack(f"<{len(DESCRIPTORS)}Q", *DESCRIPTORS.values()), GDT)
