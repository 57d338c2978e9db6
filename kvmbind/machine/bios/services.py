"""The table of services: a module adds one by decorating a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmbind.machine.bios.bios import Bios
    from kvmbind.machine.bios.call import Call

    Service = Callable[[Bios, Call], object]

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
    return _functions.get((vector, function)) or _vectors.get(vector) or refuse


def refuse(_: Bios, call: Call) -> None:
    """There is no such function: CF = 1, and nothing else changes."""
    call.carry = True


def key(vector: int, function: int) -> tuple[int, int]:
    """Returns what calls are counted by: AH is 0 for an interrupt that has no functions."""
    return vector, function if vector in _with_functions else 0


def name(vector: int, function: int) -> str:
    """Returns what a call is named in a trace: "10/0E teletype", or "20 terminate" where AH means nothing."""
    serving = find(vector, function)
    title = serving.__name__.replace("_", " ") if serving is not refuse else "unknown"
    number = f"{vector:02X}/{function:02X}" if vector in _with_functions else f"{vector:02X}"
    return f"{number} {title}"
