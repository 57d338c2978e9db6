"""The handle table: values, rights, counts, koids, and many threads at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.abi.constants import ZX_HANDLE_FIXED_BITS_MASK, ZX_KOID_FIRST, ZX_RIGHT_DUPLICATE, ZX_RIGHT_SAME_RIGHTS
from kvmbind.abi.errors import AccessDeniedError, BadHandleError, InvalidArgsError, WrongTypeError
from kvmbind.zircon import handles
from kvmbind.zircon.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = 0xFFFFF
RIGHTS = st.integers(0, ALL)


class Thing(Dispatcher):
    """A kernel object that keeps what happened to it."""

    __slots__ = ("events",)

    TYPE: ClassVar[int] = 99
    DEFAULT_RIGHTS: ClassVar[int] = ALL
    WAITABLE: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def on_zero_handles(self) -> None:
        self.events.append("zero handles")

    def _destroy(self) -> None:
        self.events.append("destroyed")


class Other(Thing):
    """Another kind of object."""

    __slots__ = ()


ENDED = ["zero handles", "destroyed"]


def test_values_are_below_2_to_the_31_not_zero_and_have_their_low_two_bits_set() -> None:
    thing = Thing()
    values = [handles.add(thing, ALL) for _ in range(1000)]
    assert all(0 < value < 1 << 31 for value in values)
    assert all(value & ZX_HANDLE_FIXED_BITS_MASK == 3 for value in values)
    assert handles.close_many(values)


def test_no_value_comes_twice_even_if_each_is_closed_at_once() -> None:
    seen = set()
    for _ in range(10_000):
        value = handles.add(Thing(), ALL)
        handles.close(value)
        seen.add(value)
    assert len(seen) == 10_000


@pytest.mark.parametrize("factor", [5, 13, (1 << 29) - 3])
@pytest.mark.parametrize("step", [1, 12345, (1 << 29) - 1])
def test_the_walk_through_the_values_has_a_full_period(factor: int, step: int) -> None:
    walk = handles._Values()
    assert walk._factor % 8 == 5
    assert walk._step % 2 == 1
    # Hull and Dobell: such a factor and step have the full period modulo every power of two; here all of it is tried.
    bits, place, seen = 16, 0, set()
    for _ in range(1 << bits):
        seen.add(place)
        place = (place * factor + step) % (1 << bits)
    assert len(seen) == 1 << bits


def test_a_closed_handle_and_any_other_number_is_bad() -> None:
    value = handles.add(Thing(), ALL)
    handles.close(value)
    for bad in (value, value ^ 3, 0, -1, 1 << 31, 1 << 64, -(1 << 80)):
        for call in (handles.close, handles.entry_of, handles.find_any, lambda v: handles.find(v, Thing),
                     lambda v: handles.duplicate(v, 0), lambda v: handles.replace(v, 0)):  # fmt: skip
            with pytest.raises(BadHandleError):
                call(bad)


def test_closing_the_last_handle_ends_the_object_and_closing_another_does_not() -> None:
    thing = Thing()
    first = handles.add(thing, ALL)
    second = handles.duplicate(first, ZX_RIGHT_SAME_RIGHTS)
    handles.close(first)
    assert thing.events == []
    handles.close(second)
    assert thing.events == ENDED


def test_an_object_that_somebody_holds_ends_when_it_is_let_go() -> None:
    thing = Thing()
    value = handles.add(thing, ALL)
    with thing:
        handles.close(value)
        assert thing.events == ["zero handles"]
    assert thing.events == ENDED
    with pytest.raises(BadHandleError):
        thing.hold()


def test_close_many_closes_each_that_is_open_and_tells_of_the_others() -> None:
    things = [Thing() for _ in range(3)]
    first, second, third = (handles.add(thing, ALL) for thing in things)
    assert handles.close_many([0, first, 0])
    assert not handles.close_many([first, second])
    assert not handles.close_many([third, third])
    assert [thing.events for thing in things] == [ENDED] * 3
    assert handles.close_many([])


@given(RIGHTS, RIGHTS)
def test_a_duplicate_has_the_asked_part_of_the_rights_or_is_refused(held: int, asked: int) -> None:
    value = handles.add(Thing(), held)
    if not held & ZX_RIGHT_DUPLICATE:
        with pytest.raises(AccessDeniedError):
            handles.duplicate(value, asked)
    elif asked & ~held:
        with pytest.raises(InvalidArgsError):
            handles.duplicate(value, asked)
    else:
        made = handles.duplicate(value, asked)
        assert handles.entry_of(made).rights == asked
        handles.close(made)
    assert handles.entry_of(value).rights == held
    handles.close(value)


@given(RIGHTS, RIGHTS)
def test_a_replaced_handle_is_gone_also_when_the_rights_are_refused(held: int, asked: int) -> None:
    thing = Thing()
    value = handles.add(thing, held)
    if asked & ~held:
        with pytest.raises(InvalidArgsError):
            handles.replace(value, asked)
        assert thing.events == ENDED
    else:
        made = handles.replace(value, asked)
        assert (handles.entry_of(made).rights, thing.events) == (asked, [])
        handles.close(made)
    with pytest.raises(BadHandleError):
        handles.entry_of(value)


@given(RIGHTS)
def test_the_same_rights_are_those_that_the_handle_has(held: int) -> None:
    value = handles.replace(handles.add(Thing(), held), ZX_RIGHT_SAME_RIGHTS)
    assert handles.entry_of(value).rights == held
    handles.close(value)


@given(RIGHTS, RIGHTS)
def test_the_kind_is_looked_at_before_the_rights(held: int, needed: int) -> None:
    thing = Thing()
    value = handles.add(thing, held)
    with pytest.raises(WrongTypeError):
        handles.find(value, Other, needed)
    if needed & ~held:
        with pytest.raises(AccessDeniedError):
            handles.find(value, Thing, needed)
        with pytest.raises(AccessDeniedError):
            handles.find_any(value, needed)
    else:
        assert handles.find(value, Thing, needed) is thing
        assert handles.find_any(value, needed) is thing
    handles.close(value)


def test_koids_are_unique_and_grow_from_1024_on() -> None:
    koids = [Thing().koid for _ in range(100)]
    assert koids == sorted(set(koids))
    assert koids[0] >= ZX_KOID_FIRST == 1024


def test_the_first_koid_of_a_process_is_1024() -> None:
    import subprocess
    import sys

    code = "from kvmbind.zircon.port import PortDispatcher as P; print(P(interrupts=False).koid)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1024\n"


@given(st.lists(st.booleans(), max_size=30))
def test_the_handle_count_is_how_many_handles_are_open(steps: list[bool]) -> None:
    thing = Thing()
    values = [handles.add(thing, ALL)]
    for make in steps:
        if make:
            values.append(handles.duplicate(values[0], ZX_RIGHT_SAME_RIGHTS))
        elif len(values) > 1:
            handles.close(values.pop())
        assert thing.handle_count == len(values)
    assert handles.close_many(values)
    assert thing.handle_count == 0


def test_an_abandoned_handle_is_closed_by_the_next_call_that_changes_the_table() -> None:
    thing = Thing()
    handles.abandon(handles.add(thing, ALL))
    assert thing.events == []
    handles.close(handles.add(Thing(), ALL))
    assert thing.events == ENDED


def run_together(count: int, work: Callable[[int], None]) -> None:
    together, failures = threading.Barrier(count), list[BaseException]()

    def run(number: int) -> None:
        together.wait()
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_storm_of_threads_loses_and_repeats_nothing() -> None:
    thing = Thing()
    root = handles.add(thing, ALL)
    made: list[list[int]] = [[] for _ in range(8)]

    def work(number: int) -> None:
        for turn in range(500):
            value = handles.duplicate(root, ZX_RIGHT_SAME_RIGHTS)
            made[number].append(value)
            assert handles.find(value, Thing) is thing
            if turn % 3:
                handles.close(value)
            elif turn % 2:
                made[number].append(handles.replace(value, ALL))

    run_together(8, work)
    values = [value for part in made for value in part]
    assert len(values) == len(set(values))
    handles.close_many(values)
    assert (thing.handle_count, thing.events) == (1, [])
    handles.close(root)
    assert thing.events == ENDED


def test_of_many_threads_that_close_one_handle_exactly_one_succeeds() -> None:
    for _ in range(200):
        thing = Thing()
        value = handles.add(thing, ALL)
        winners = list[int]()

        def work(number: int, value: int = value, winners: list[int] = winners) -> None:
            try:
                handles.close(value)
            except BadHandleError:
                return
            winners.append(number)

        run_together(4, work)
        assert (len(winners), thing.events) == (1, ENDED)


def test_of_replacing_and_closing_at_once_one_wins_and_nothing_is_left() -> None:
    for _ in range(200):
        thing = Thing()
        value = handles.add(thing, ALL)
        left = list[int]()

        def work(number: int, value: int = value, left: list[int] = left) -> None:
            try:
                if number % 2:
                    handles.close(value)
                else:
                    left.append(handles.replace(value, ALL))
            except BadHandleError:
                return

        run_together(4, work)
        assert len(left) <= 1
        assert thing.handle_count == len(left)
        assert handles.close_many(left)
        assert thing.events == ENDED


def test_holding_and_dropping_from_many_threads_ends_the_object_once() -> None:
    thing = Thing()
    value = handles.add(thing, ALL)

    def work(number: int) -> None:
        for _ in range(500):
            try:
                with thing:
                    assert "destroyed" not in thing.events
            except BadHandleError:
                assert not number or thing.handle_count == 0
            if number == 0 and thing.handle_count:
                handles.close(value)

    run_together(6, work)
    assert thing.events == ENDED
