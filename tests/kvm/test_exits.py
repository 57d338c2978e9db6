"""What is made of the run page at an exit that is no access."""

from __future__ import annotations

import struct

import pytest

from kvmbind.kvm.exits import Exit, ExitReason, decode

ROOM = 136


@pytest.mark.parametrize(
    ("reason", "facts", "exit", "text"),
    [
        (ExitReason.SHUTDOWN, b"", Exit(ExitReason.SHUTDOWN), "KVM_EXIT_SHUTDOWN"),
        (
            ExitReason.INTERNAL_ERROR,
            struct.pack("<IIQB15s", 1, 3, 1, 2, b"\x0f\x0b\x90"),
            Exit(ExitReason.INTERNAL_ERROR, 1, b"\x0f\x0b", (1, 0x900B0F02, 0)),
            "KVM_EXIT_INTERNAL_ERROR, suberror 0x1, at instruction 0f 0b",
        ),
        (
            ExitReason.INTERNAL_ERROR,
            struct.pack("<IIQB15s", 1, 3, 0, 2, b"\x0f\x0b"),
            Exit(ExitReason.INTERNAL_ERROR, 1, b"", (0, 0x0B0F02, 0)),
            "KVM_EXIT_INTERNAL_ERROR, suberror 0x1",
        ),
        (
            ExitReason.INTERNAL_ERROR,
            struct.pack("<IIQQ", 3, 2, 5, 6),
            Exit(ExitReason.INTERNAL_ERROR, 3, b"", (5, 6)),
            "KVM_EXIT_INTERNAL_ERROR, suberror 0x3",
        ),
        (
            ExitReason.FAIL_ENTRY,
            struct.pack("<QI", 1 << 63 | 33, 1),
            Exit(ExitReason.FAIL_ENTRY, 1 << 63 | 33),
            "KVM_EXIT_FAIL_ENTRY, suberror 0x8000000000000021",
        ),
        (
            ExitReason.DEBUG,
            struct.pack("<IIQQQ", 1, 0, 0x1003, 0xFFFF4FF0, 0x400),
            Exit(ExitReason.DEBUG, exception=1, pc=0x1003, dr6=0xFFFF4FF0, dr7=0x400),
            "KVM_EXIT_DEBUG, dr6 0xffff4ff0, at linear address 0x1003",
        ),
        (
            ExitReason.SYSTEM_EVENT,
            struct.pack("<II", 2, 0),
            Exit(ExitReason.SYSTEM_EVENT, 2),
            "KVM_EXIT_SYSTEM_EVENT, suberror 0x2",
        ),
        (
            ExitReason.MEMORY_FAULT,
            struct.pack("<QQQ", 0, 0x5000, 0x1000),
            Exit(ExitReason.MEMORY_FAULT, addr=0x5000),
            "KVM_EXIT_MEMORY_FAULT, at guest-physical address 0x5000",
        ),
        (99, b"", Exit(99), "exit reason 99"),
    ],
)
def test_an_exit_has_the_facts_of_its_reason_and_says_them(reason: int, facts: bytes, exit: Exit, text: str) -> None:
    decoded = decode(reason, facts.ljust(ROOM, b"\0"))
    assert decoded == exit
    assert str(decoded) == text


def test_bytes_past_what_an_exit_has_are_not_looked_at() -> None:
    assert decode(ExitReason.INTERNAL_ERROR, struct.pack("<II", 3, 0).ljust(ROOM, b"\xff")).data == ()
