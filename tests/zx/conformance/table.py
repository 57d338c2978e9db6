"""What the table of a call says: arguments with which it works, and its checks in their order, each with a fault.

test_conformance.py makes the tests of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kvmbind import zx
from kvmbind.zx import ZX_INFO_HANDLE_BASIC, ZX_RIGHT_NONE, Status

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable, Iterator

    from tests.zx.conftest import Maker

    Arguments = dict[str, object]


@dataclass
class Scene:
    """A call that is about to be made.

    Attributes:
        make: Makes further objects.
        opened: What is to end with the test.
        arguments: In the prototype's order, by name.
        elsewhere: Whether another thread makes the call.
    """

    make: Maker
    opened: contextlib.ExitStack
    arguments: Arguments
    elsewhere: bool = False

    def number(self, argument: str) -> int:
        """An argument that is a handle or another number."""
        value = self.arguments[argument]
        assert isinstance(value, int)
        return value


class Check(NamedTuple):
    """A check of a call.

    Attributes:
        fault: What is wrong.
        status: What the call answers then.
        spoil: Makes it so.
        takes: What it spoils. Two faults that take the same cannot be had at once: "vmo" is all that "vmo.READ" is of.
        lasts: Whether the call does not work any more afterwards, since an object has changed or is gone.
        results: What is returned beside the status, where that is not nothing.
        turn: Which of several is made first: 0, values and states; 1, the end of an object; 2, handles to it.
        handle: The argument that is a wrong handle, and the right that it lacks.
    """

    fault: str
    status: Status
    spoil: Callable[[Scene], None]
    takes: frozenset[str]
    lasts: bool = False
    results: tuple[object, ...] | None = None
    turn: int = 0
    handle: tuple[str, int] | None = None

    def goes_with(self, other: Check) -> bool:
        """Whether both can be so at once."""
        return not any(
            one == two or one.startswith(f"{two}.") or two.startswith(f"{one}.")
            for one, two in itertools.product(self.takes, other.takes)
        )


@dataclass(frozen=True)
class Table:
    """A call and its checks.

    Attributes:
        call: The function.
        good: Arguments with which it works.
        checks: In their order.
        nothing: What it returns beside its status when it fails.
        variant: What is called, where a call has several tables.
        also: Arguments with which it works too: what differs from `good`.
    """

    call: Callable[..., object]
    good: Callable[[Maker], Arguments]
    checks: tuple[Check, ...]
    nothing: tuple[object, ...] = ()
    variant: str = ""
    also: tuple[Arguments, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """The call's name, and the variant."""
        return f"{self.call.__name__} {self.variant}".strip()

    def rights(self) -> dict[str, int]:
        """The rights that each handle needs, all together."""
        needed: dict[str, int] = {}
        for check in self.checks:
            if check.handle:
                argument, right = check.handle
                needed[argument] = needed.get(argument, ZX_RIGHT_NONE) | right
        return needed

    def answer(self, check: Check) -> object:
        """What the call returns when a check is the first that fails."""
        results = self.nothing if check.results is None else check.results
        return (check.status, *results) if results else check.status


def in_order(*checks: Check | Iterable[Check]) -> tuple[Check, ...]:
    """Checks one after the other."""
    return tuple(_flat(checks))


def _flat(checks: Iterable[Check | Iterable[Check]]) -> Iterator[Check]:
    for check in checks:
        if isinstance(check, Check):
            yield check
        else:
            yield from check


# Faults of arguments


def value(argument: str, is_: object, status: Status = Status.INVALID_ARGS) -> Check:
    """An argument that the call does not take."""
    shown = hex(is_) if isinstance(is_, int) else repr(is_)
    return Check(f"{argument} is {shown}", status, lambda scene: _put(scene, argument, is_), frozenset({argument}))


def _put(scene: Scene, argument: str, value: object) -> None:
    scene.arguments[argument] = value


def flags(argument: str, name: str, *, set: int = 0, clear: int = 0, status: Status = Status.INVALID_ARGS) -> Check:
    """Bits of an argument that are wrong. Others of the same argument can be wrong too."""

    def spoil(scene: Scene) -> None:
        scene.arguments[argument] = scene.number(argument) & ~clear | set

    return Check(f"{argument}: {name}", status, spoil, frozenset({f"{argument}.{name}"}))


def moved(argument: str, by: int, status: Status = Status.INVALID_ARGS) -> Check:
    """An argument that is off by so much."""

    def spoil(scene: Scene) -> None:
        scene.arguments[argument] = scene.number(argument) + by

    return Check(f"{argument} is off by {by:#x}", status, spoil, frozenset({argument}))


def replaced(
    argument: str,
    fault: str,
    status: Status,
    make: Callable[[Scene], int],
    *,
    takes: Iterable[str] | None = None,
    lasts: bool = False,
) -> Check:
    """Another object in the place of an argument's."""

    def spoil(scene: Scene) -> None:
        scene.arguments[argument] = make(scene)

    return Check(fault, status, spoil, frozenset(takes or {f"{argument}.object"}), lasts)


# Faults of handles


def closed(argument: str) -> Check:
    """A handle that was closed."""
    return Check(
        f"{argument} is closed",
        Status.BAD_HANDLE,
        lambda scene: _put(scene, argument, scene.make.closed()),
        frozenset({argument}),
        turn=2,
        handle=(argument, ZX_RIGHT_NONE),
    )


def of_another_type(argument: str, *, vmo: bool = False) -> Check:
    """A handle to another type, which has no right at all either: the type comes first."""

    def spoil(scene: Scene) -> None:
        other = scene.make.vmo(4096) if vmo else scene.make.port()
        scene.arguments[argument] = scene.make.with_rights(other, ZX_RIGHT_NONE)

    return Check(f"{argument} is of another type", Status.WRONG_TYPE, spoil, frozenset({argument}), turn=2)


def lacks(argument: str, right: str, *more: str) -> Check:
    """A handle without a right; `more` is what else must be as it is, for the right to be needed."""

    bit: int = getattr(zx, f"ZX_RIGHT_{right}")

    def spoil(scene: Scene) -> None:
        scene.arguments[argument] = without(scene, scene.number(argument), bit)

    takes = frozenset({f"{argument}.{right}", *more})
    return Check(f"{argument} lacks {right}", Status.ACCESS_DENIED, spoil, takes, turn=2, handle=(argument, bit))


def without(scene: Scene, handle: int, right: int) -> int:
    """A duplicate without a right, whether or not the handle has it."""
    status, info = zx.zx_object_get_info(handle, ZX_INFO_HANDLE_BASIC)
    assert status is Status.OK
    return scene.make.with_rights(handle, info.rights & ~right)


def lookup(argument: str, right: str = "", *, vmo: bool = False) -> list[Check]:
    """What is looked at of each handle, in this order."""
    denied = [lacks(argument, right)] if right else []
    return [closed(argument), of_another_type(argument, vmo=vmo), *denied]


# Faults of objects and threads


def state(
    fault: str,
    status: Status,
    spoil: Callable[[Scene], object],
    takes: Iterable[str],
    *,
    results: tuple[object, ...] | None = None,
    lasts: bool = True,
    turn: int = 0,
) -> Check:
    """An object that has come into a state in which the call does not work."""

    def spoiled(scene: Scene) -> None:
        spoil(scene)

    return Check(fault, status, spoiled, frozenset(takes), lasts, results, turn)


def another_thread() -> Check:
    """A call that comes from a thread that did not create the VCPU."""

    def spoil(scene: Scene) -> None:
        scene.elsewhere = True

    return Check("another thread calls", Status.BAD_STATE, spoil, frozenset({"thread"}))
