"""Ctrl-C, and each other signal with a handler in Python, is heard at once wherever the main thread waits.

A script enters and waits in a process of its own; the sender kills it at random moments and waits for each to
be raised.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

import pytest

pytestmark = pytest.mark.kvm

DRIVER = Path(__file__).with_name("ctrl_c_driver.py")
DEADLINE_S = 60.0
EXITS_S = 0.001  # longer than the 40 exits of the driver's guest take
BURST_S = 0.003  # longer than the 200 exits of BURST take
SLEEP_S = 0.0002  # so soon that many a signal comes while the call is on its way to sleep


class Found(TypedDict):
    """What the driver has found when everything was closed."""

    raised: int
    fds: int
    threads: int


class Sender:
    """Sends signals to the driver at random moments."""

    def __init__(self, driver: subprocess.Popen[bytes]) -> None:
        """Takes its stdout over."""
        assert driver.stdout is not None
        self._pid = driver.pid
        self._fd = driver.stdout.fileno()
        self._random = random.Random(1)

    def expect(self, letter: bytes) -> None:
        """Reads what the driver says next."""
        readable, _, _ = select.select([self._fd], [], [], DEADLINE_S)
        assert readable, f"the driver has not said {letter!r} for {DEADLINE_S:g} s: a signal was lost"
        said = os.read(self._fd, 1)
        assert said == letter, f"the driver said {said!r}, not {letter!r}"

    def interrupt(self, signo: int, within_s: float) -> None:
        """Waits until the driver enters, then for a moment, sends, and waits until it has raised."""
        self.expect(b"E")
        end = time.perf_counter() + within_s * self._random.random()
        while time.perf_counter() < end:
            pass
        os.kill(self._pid, signo)
        self.expect(b"K")

    def found(self) -> Found:
        """Returns what the driver has found at the end."""
        self.expect(b".")
        found: Found = json.loads(os.read(self._fd, 1000))
        return found


def interrupt(call: str, surroundings: str, rounds: int, *signals: int, within_s: float) -> Found:
    """Interrupts a call that the driver makes so many times, with each of the signals in turn."""
    command = [sys.executable, str(DRIVER), call, surroundings, str(rounds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as driver:
        try:
            sender = Sender(driver)
            for number in range(rounds):
                sender.interrupt(signals[number % len(signals)], within_s)
            return sender.found()
        finally:
            driver.kill()


@pytest.fixture
def sigints(rounds: int) -> int:
    """How many: 10,000 unless KVMBIND_TEST_ROUNDS says otherwise."""
    return max(20, rounds // 10)


def everything_is_closed(found: Found, rounds: int) -> bool:
    return found == {"raised": rounds, "fds": 0, "threads": 0}


def test_each_sigint_into_a_guest_that_takes_exits_and_then_halts_raises(sigints: int) -> None:
    found = interrupt("exits", "alone", sigints, signal.SIGINT, within_s=EXITS_S)
    assert everything_is_closed(found, sigints)


def test_each_sigint_into_a_vcpu_that_was_just_made_raises(sigints: int) -> None:
    rounds = sigints // 10
    assert everything_is_closed(interrupt("burst", "alone", rounds, signal.SIGINT, within_s=BURST_S), rounds)


SURROUNDINGS = [
    pytest.param("alone", [signal.SIGINT], id="alone"),
    pytest.param("other_threads", [signal.SIGINT], id="beside other threads"),
    pytest.param("handled_elsewhere", [signal.SIGINT], id="given to another thread"),
    pytest.param("installed", [signal.SIGUSR1], id="SIGUSR1 with a handler in Python"),
    pytest.param("installed_again", [signal.SIGUSR1, signal.SIGINT], id="handlers installed just before"),
]


@pytest.mark.parametrize(("surroundings", "signals"), SURROUNDINGS)
@pytest.mark.parametrize("call", ["halt", "held", "interrupt_wait", "port_wait", "wait_one"])
def test_each_signal_raises_what_its_handler_does_out_of_a_call_that_sleeps(
    sigints: int, call: str, surroundings: str, signals: list[int]
) -> None:
    found = interrupt(call, surroundings, sigints, *signals, within_s=SLEEP_S)
    assert everything_is_closed(found, sigints)


@pytest.mark.parametrize(("surroundings", "signals"), SURROUNDINGS[1:])
def test_each_signal_raises_what_its_handler_does_out_of_a_guest_that_takes_exits(
    sigints: int, surroundings: str, signals: list[int]
) -> None:
    rounds = sigints // 5
    found = interrupt("exits", surroundings, rounds, *signals, within_s=EXITS_S)
    assert everything_is_closed(found, rounds)


def test_each_sigint_raises_from_a_wait_for_a_guests_store(sigints: int) -> None:
    rounds = sigints // 20
    assert everything_is_closed(interrupt("wait_u32", "alone", rounds, signal.SIGINT, within_s=SLEEP_S), rounds)


def test_ctrl_c_beside_a_started_vcpu_leaves_nothing_behind(sigints: int) -> None:
    rounds = sigints // 20
    assert everything_is_closed(interrupt("started", "alone", rounds, signal.SIGINT, within_s=SLEEP_S), rounds)
