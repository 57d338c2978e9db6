"""How a run ended."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reason(StrEnum):
    """Why a run ended. `STATUSES` has the exit status of each."""

    DEBUG_EXIT = "debug-exit"  # the program wrote to a port that ends a test: its own status
    TERMINATED = "terminated"  # INT 20h, or INT 21h/4Ch with the program's own status
    NO_BOOT = "no-boot"  # INT 18h: nothing to boot
    REBOOT = "reboot"  # INT 19h, a reset by port 64h, 92h or CF9h, or a jump to F000:FFF0
    HALTED = "halted"  # CLI; HLT
    FOUND = "found"  # the text that was waited for is there
    STILL = "still"  # the screen has not changed for as long as was asked
    STOPPED = "stopped"  # by Machine.stop
    FAULT = "fault"  # an exception that the program does not handle and would meet for ever
    SHUTDOWN = "shutdown"  # a triple fault
    CANNOT_RUN = "cannot-run"  # KVM cannot execute the instruction
    TIMEOUT = "timeout"


#: The exit status of each reason; what ends by the program's own status has that instead.
STATUSES: Mapping[Reason, int] = {
    Reason.DEBUG_EXIT: 0,
    Reason.TERMINATED: 0,
    Reason.NO_BOOT: 80,
    Reason.REBOOT: 0,
    Reason.HALTED: 0,
    Reason.FOUND: 0,
    Reason.STILL: 0,
    Reason.STOPPED: 0,
    Reason.FAULT: 81,
    Reason.SHUTDOWN: 82,
    Reason.CANNOT_RUN: 83,
    Reason.TIMEOUT: 124,  # as of timeout(1)
}

#: Reasons that nobody has asked for: a person wants to know where the program was.
TROUBLE = frozenset({Reason.FAULT, Reason.SHUTDOWN, Reason.CANNOT_RUN})


class Ending(NamedTuple):
    """How a run ended, and what was there at that moment.

    Attributes:
        reason: Why.
        exit_status: A number for shells: the program's own, or that of the reason.
        screen: The screen as text, blanks at the ends of lines and empty lines at its end left out.
        serial: What the program sent to the serial port 3F8h.
        registers: By their names, segments and flags too; empty if KVM could not tell.
        registers_are_of: "end"; or "last exit" if the processor was reset by what ended it, a triple fault.
        detail: One sentence more, or "".
        console: What the program wrote as on a teletype (INT 10h/0Eh, 13h and DOS), as text.
    """

    reason: Reason
    exit_status: int
    screen: str
    serial: bytes
    registers: Mapping[str, int]
    detail: str = ""
    console: str = ""
    registers_are_of: Literal["end", "last exit"] = "end"
