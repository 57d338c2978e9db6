"""What a BIOS and devices ask of the machine around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.machine.ending import Reason


class Host(Protocol):
    """The machine around them. All of it belongs to whoever has the PC's lock."""

    def end(self, reason: Reason, status: int | None = None, detail: str = "") -> None:
        """Ends the run after this exit.

        Args:
            reason: Why.
            status: The exit status; None is the reason's own.
            detail: For a person.
        """

    def now_ns(self) -> int:
        """Returns CLOCK_MONOTONIC."""

    def call_at(self, when_ns: int, action: Callable[[], object]) -> None:
        """Calls `action` at that time on the boot processor's thread, between two exits or while the guest runs."""

    def wake_at(self, when_ns: int) -> None:
        """Interrupts the guest at that time, so that a call that sleeps is looked at again."""

    def raise_line(self, line: int) -> None:
        """Makes an edge on an interrupt line."""

    def set_line(self, line: int, is_high: bool) -> None:
        """Sets an interrupt line, 0 to 23."""

    def ticks_since_midnight(self) -> int:
        """Returns how many timer ticks of 1/18.2 s the day is old."""

    def local_time(self) -> tuple[int, int, int, int, int, int, int]:
        """Returns year, month, day, hour, minute, second and day of the week, 0 for Sunday."""

    def wants_key(self) -> None:
        """Tells that the program has asked for a key and there is none."""

    def print_character(self, character: int) -> None:
        """Adds a character of code page 437 to the console's stream."""
