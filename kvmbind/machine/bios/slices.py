"""Services that may take long, done in slices: between two the machine looks whether it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call

_SLICE_NS = 1_000_000


def in_slices(bios: Bios, call: Call, count: int) -> Iterator[int]:
    """Yields 0, 1 and so on to `count` - 1: for a millisecond, then the guest asks again and they go on from there.

    Nothing that the service needs then, registers above all, may be changed before `Call.is_done`.

    Args:
        bios: For the time.
        call: Its `progress` is taken; `kept` is the service's own.
        count: How many pieces of work there are, 0 to 65,536. Each takes some milliseconds at most.
    """
    until_ns = bios.host.now_ns() + _SLICE_NS
    for done, piece in enumerate(range(call.progress if call.is_resumed else 0, count), 1):
        if done > 1 and bios.host.now_ns() >= until_ns:
            call.progress = piece
            call.ask_again()
            return
        yield piece
