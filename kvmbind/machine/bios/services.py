"""The table of services: a module adds one by decorating a function."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call

    Service = Callable[[Bios, Call], object]

#: The modules that serve an interrupt; its first call imports them.
GROUPS = {
    **dict.fromkeys((0x00, 0x06, 0x0C, 0x0D, 0x11, 0x12, 0x14, 0x17, 0x18, 0x19), ("system",)),
    **dict.fromkeys((0x09, 0x16), ("keyboard",)),
    **dict.fromkeys((0x20, 0x21, 0x29), ("dos",)),
    0x10: ("video",),
    0x13: ("disk",),
    0x15: ("clock", "system"),
    0x1A: ("clock",),
}

_to_come = dict(GROUPS)
_functions: dict[tuple[int, int], Service] = {}
_vectors: dict[int, Service] = {}
_with_functions: set[int] = set()


def service(vector: int, *functions: int) -> Callable[[Service], Service]:
    """Makes a function the service of an interrupt's functions in AH, or of all others if none is named.

    The function gets the Bios and the Call, changes the Call's registers, and may call `Call.sleep`. It takes whatever
    a guest puts into the registers, and raises nothing.
    """

    def add(function: Service) -> Service:
        for number in functions:
            assert (vector, number) not in _functions, f"two services of INT {vector:02X}h/{number:02X}h"
            _functions[vector, number] = function
            _with_functions.add(vector)
        if not functions:
            assert vector not in _vectors, f"two services of INT {vector:02X}h"
            _vectors[vector] = function
        return function

    return add


def find(vector: int, function: int) -> Service:
    """Returns what serves a call, if only by saying that there is no such function."""
    _load(vector)
    return _functions.get((vector, function)) or _vectors.get(vector) or refuse


def _load(vector: int) -> None:
    if vector in _to_come:
        for group in _to_come[vector]:
            import_module(f"kvmbind.machine.bios.{group}")
        _to_come.pop(vector, None)


def refuse(_: Bios, call: Call) -> None:
    """There is no such function: CF = 1, and nothing else changes."""
    call.carry = True


def key(vector: int, function: int) -> tuple[int, int]:
    """Returns what calls are counted by: AH is 0 for an interrupt that has no functions."""
    _load(vector)
    return vector, function if vector in _with_functions else 0


def name(vector: int, function: int) -> str:
    """Returns what a call is named in a trace: "10/0E teletype", or "20 terminate" where AH means nothing."""
    serving = find(vector, function)
    title = serving.__name__.replace("_", " ") if serving is not refuse else "unknown"
    number = f"{vector:02X}/{function:02X}" if vector in _with_functions else f"{vector:02X}"
    return f"{number} {title}"
