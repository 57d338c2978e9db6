"""INT 9 and 16h."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.machine.keys import Stroke, named, typed

if TYPE_CHECKING:
    from tests.machine.conftest import Bench

A = named("a")


def press(bench: Bench, stroke: Stroke) -> None:
    """A key goes down and up, and the handler of its interrupt runs for each code."""
    for place, code in enumerate(stroke.make + stroke.release, 1):
        bench.keyboard.send(code, stroke.key if place == len(stroke.make) else None)
        bench.call(0x09)
        bench.host.pass_time(10_000_000)


def test_a_key_goes_into_the_ring_and_comes_out_once(bench: Bench) -> None:
    press(bench, A)
    assert bench.host.lines == [1, 1]
    poll = bench.call(0x16, ah=0x01)
    assert (poll.zero, poll.ax) == (False, 0x1E61)
    assert bench.call(0x16, ah=0x00).ax == 0x1E61
    assert bench.call(0x16, ah=0x01).zero


def test_waiting_for_a_key_sleeps_until_there_is_one(bench: Bench) -> None:
    waiting = bench.call(0x16, ah=0x00)
    assert waiting.is_resumed
    assert bench.again().is_resumed
    assert bench.bios.calls[0x16, 0x00] == 1
    bench.bios.memory.write(b"a\x1e", 0x41E)
    bench.data.key_tail = 0x20
    done = bench.again()
    assert (done.is_resumed, done.ax) == (False, 0x1E61)


def test_the_ring_holds_15_keys(bench: Bench) -> None:
    for number in range(20):
        press(bench, named(chr(ord("a") + number)))
    read = []
    while not bench.call(0x16, ah=0x01).zero:
        read.append(chr(bench.call(0x16, ah=0x00).al))
    assert "".join(read) == "abcdefghijklmno"


@pytest.mark.parametrize(("function", "ax"), [(0x00, 0x4800), (0x10, 0x48E0)])
def test_only_the_new_functions_tell_new_keys_from_old(bench: Bench, function: int, ax: int) -> None:
    press(bench, named("up"))
    assert bench.call(0x16, ah=function + 1).ax == ax
    assert bench.call(0x16, ah=function).ax == ax


def test_shift_flags_follow_the_keys(bench: Bench) -> None:
    bench.keyboard.send(0x2A)
    bench.call(0x09)
    assert bench.call(0x16, ah=0x02).al == 0x02
    bench.host.pass_time(10_000_000)
    bench.keyboard.send(0xAA)
    bench.call(0x09)
    assert bench.call(0x16, ah=0x02).al == 0
    bench.host.pass_time(10_000_000)
    press(bench, named("capslock"))
    assert bench.call(0x16, ah=0x02).al == 0x40
    assert bench.call(0x16, ah=0x01).zero
    press(bench, named("shift+a"))
    assert bench.call(0x16, ah=0x00).ax == 0x1E41


def test_a_character_on_no_key_is_typed_by_its_number(bench: Bench) -> None:
    stroke = typed("é")
    assert stroke is not None
    press(bench, stroke)
    assert bench.call(0x16, ah=0x00).ax == 0x0082


def test_a_stored_key_is_read(bench: Bench) -> None:
    assert bench.call(0x16, ah=0x05, cx=0x1234).al == 0
    assert bench.call(0x16, ah=0x00).ax == 0x1234


def test_a_handler_that_reads_the_port_and_goes_on_to_the_bios_loses_no_key(bench: Bench) -> None:
    bench.keyboard.send(0x1E, A.key)
    bench.keyboard.send(0x9E)
    assert bench.keyboard.read(0x60, 1) == 0x1E
    bench.call(0x09)
    assert bench.call(0x16, ah=0x01).ax == 0x1E61


def test_a_ring_that_a_program_has_spoilt_harms_nobody(bench: Bench) -> None:
    bench.data.key_head, bench.data.key_tail = 0xFFFF, 0x1E
    assert not bench.call(0x16, ah=0x00).is_resumed
    assert bench.data.key_head == 0x1E


def test_who_asks_again_and_again_sleeps_between_two_questions(bench: Bench) -> None:
    answers = [bench.call(0x16, ah=0x01).is_resumed for _ in range(150)]
    assert not any(answers[:100])
    assert all(answers[110:])
    bench.host.pass_time(10_000_000)
    assert 8 in bench.host.lines
    assert not bench.again().is_resumed
    assert bench.call(0x16, ah=0x01).is_resumed


def test_who_does_something_between_two_questions_is_not_slowed_down(bench: Bench) -> None:
    for _ in range(300):
        assert not bench.call(0x16, ah=0x01).is_resumed
        bench.host.pass_time(3_000_000)


def ask_until_woken(bench: Bench) -> int:
    """Asks for a key that does not come, and tells for how many ms the guest sleeps."""
    bench.call(0x16, ah=0x01)
    slept_ms = 0
    while True:
        bench.host.pass_time(1_000_000)
        slept_ms += 1
        if 8 in bench.host.lines:
            bench.host.lines.clear()
            assert not bench.again().is_resumed
            return slept_ms


def test_who_asks_on_while_the_screen_stays_as_it_is_sleeps_longer(bench: Bench) -> None:
    for _ in range(150):
        bench.call(0x16, ah=0x01)
    slept = [ask_until_woken(bench) for _ in range(250)]
    assert set(slept[:100]) == {10}
    assert set(slept[-20:]) == {200}
    bench.print(b"x")
    ask_until_woken(bench)
    assert ask_until_woken(bench) == 10


def test_a_tick_ends_no_long_sleep_and_a_key_ends_it_at_once(bench: Bench) -> None:
    for _ in range(150):
        bench.call(0x16, ah=0x01)
    while ask_until_woken(bench) == 10:
        pass
    bench.call(0x16, ah=0x01)
    bench.host.pass_time(1_000_000)
    assert bench.again().is_resumed
    bench.bios.memory.write(b"a\x1e", 0x41E)
    bench.data.key_tail = 0x20
    done = bench.again()
    assert (done.is_resumed, done.zero, done.ax) == (False, False, 0x1E61)


def test_what_ends_a_sleep_early_sets_no_second_alarm(bench: Bench) -> None:
    """Else each tick would add one, and the guest would be woken more and more often."""
    for _ in range(110):
        bench.call(0x16, ah=0x01)
    alarms = len(bench.host.alarms)
    for _ in range(10):
        bench.again()
        bench.call(0x16, ah=0x01)
    assert len(bench.host.alarms) == alarms == 1
