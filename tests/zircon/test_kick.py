"""A kick makes the enter that runs now, or the next one, return CANCELED, once; kicks coalesce; none is lost."""

from __future__ import annotations

import bisect
import contextlib
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import guests, zx
from kvmbind.zx import Status

if TYPE_CHECKING:
    from kvmbind import Guest, PortPacket, Vcpu

pytestmark = pytest.mark.kvm

ENTRY = 0x1000
MEMORY = 1 << 20
PORT = 0x80
COUNT = 0x8000
DEADLINE_S = 60.0
KICK_SIGNAL = signal.SIGRTMIN + 4
MakeGuest = Callable[[bytes], "Guest"]


@pytest.fixture
def make_guest() -> Iterator[MakeGuest]:
    """Makes guests with an image and a trap on port 80h, which end with the test."""
    with contextlib.ExitStack() as stack:

        def make(image: bytes) -> Guest:
            guest = stack.enter_context(kvmbind.Guest.create(memory=MEMORY))
            guest.write(image, ENTRY)
            guest.set_trap_io(PORT, 1, key=PORT)
            return guest

        yield make


class Kicked:
    """A VCPU that one thread enters over and over, and what came of it.

    Enters are numbered from 1. `begun` and `ended` are the last ones that did; `canceled` are those that returned
    CANCELED, `data` is what the packets carried.
    """

    def __init__(self, guest: Guest) -> None:
        """Starts the thread, and waits until it has its VCPU."""
        self.begun = 0
        self.ended = 0
        self.canceled: list[int] = []
        self.data: list[int] = []
        self.error: BaseException | None = None
        self._change = threading.Condition()
        self._done = False
        made = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(guest, made), daemon=True)
        self._thread.start()
        assert made.wait(DEADLINE_S)

    def _run(self, guest: Guest, made: threading.Event) -> None:
        with kvmbind.Vcpu.create(guest, ENTRY) as self.vcpu:
            made.set()
            try:
                while not self._done:
                    self._enter_once()
            except BaseException as error:
                self.error = error
                raise
            finally:
                with self._change:
                    self._change.notify_all()

    def _enter_once(self) -> None:
        self.begun += 1
        try:
            self.data.append(self.vcpu.enter().guest_io.u8)
        except kvmbind.CanceledError:
            with self._change:
                self.ended = self.begun
                self.canceled.append(self.begun)
                self._change.notify_all()
        else:
            self.ended = self.begun

    def kick_and_wait(self) -> None:
        """Kicks; the enter that runs, or the first one after it, is canceled."""
        before = self.ended
        self.vcpu.kick()
        after = self.begun
        with self._change:
            came = self._change.wait_for(lambda: self.error or self._after(before), DEADLINE_S)
        assert self.error is None
        assert came, f"a kick was lost: enter {self.begun} runs, {before} had ended when it was made"
        assert self._after(before) <= after + 1

    def _after(self, enter: int) -> int:
        place = bisect.bisect_right(self.canceled, enter)
        return self.canceled[place] if place < len(self.canceled) else 0

    def end(self) -> None:
        """Ends the thread by one more kick."""
        self._done = True
        with contextlib.suppress(kvmbind.BadHandleError):  # a guest that takes exits lets it end by itself
            self.vcpu.kick()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


def pass_some_time(source: random.Random) -> None:
    """Lets up to some 20 us go by: a kick is then due at any point of the run loop."""
    for _ in range(source.randrange(600)):
        pass


def kick_from_threads(kicked: Kicked, kicks: int, threads: int) -> None:
    def kick_often(seed: int) -> None:
        source = random.Random(seed)
        for _ in range(kicks // threads):
            pass_some_time(source)
            kicked.kick_and_wait()

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kick_often, seed) for seed in range(threads)]:
            done.result()


@pytest.mark.parametrize(
    ("image", "percent"),
    [
        pytest.param("COUNTER", 100, id="guest in HLT"),
        pytest.param("PORT_LOOP", 100, id="guest that takes exits"),
        pytest.param("SPINNER", 2, id="guest that spins"),
    ],
)
def test_every_kick_of_several_threads_cancels_the_enter_that_runs_or_the_next(
    make_guest: MakeGuest, rounds: int, image: str, percent: int
) -> None:
    kicks = max(4, rounds * percent // 100)
    kicked = Kicked(make_guest(getattr(guests, image)))
    kick_from_threads(kicked, kicks, threads=4)
    kicked.end()
    assert 0 < len(kicked.canceled) <= kicks + 1


@pytest.mark.parametrize("image", ["COUNTER", "PORT_LOOP"])
def test_kicks_that_each_wait_for_their_cancel_make_exactly_as_many(
    make_guest: MakeGuest, rounds: int, image: str
) -> None:
    kicks = max(1, rounds // 20)
    kicked = Kicked(make_guest(getattr(guests, image)))
    kick_from_threads(kicked, kicks, threads=1)
    canceled = len(kicked.canceled)
    kicked.end()
    assert canceled == kicks


def test_kicks_lose_and_repeat_no_packet(make_guest: MakeGuest, rounds: int) -> None:
    kicked = Kicked(make_guest(guests.PORT_LOOP))
    kick_from_threads(kicked, max(4, rounds // 25), threads=4)
    kicked.end()
    assert kicked.data == [number % 256 for number in range(len(kicked.data))]


# One kick at a time


def test_a_kick_before_the_first_enter_cancels_it_once(make_guest: MakeGuest) -> None:
    with kvmbind.Vcpu.create(make_guest(guests.PORT_LOOP), ENTRY) as vcpu:
        vcpu.kick()
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter()
        assert vcpu.enter().guest_io.u8 == 0


def test_kicks_of_a_vcpu_that_does_not_run_coalesce(make_guest: MakeGuest) -> None:
    with kvmbind.Vcpu.create(make_guest(guests.PORT_LOOP), ENTRY) as vcpu:
        assert vcpu.enter().guest_io.u8 == 0
        for _ in range(1000):
            vcpu.kick()
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter()
        assert [vcpu.enter().guest_io.u8 for _ in range(3)] == [1, 2, 3]


def test_a_packet_that_is_returned_wins_and_the_kick_is_for_the_next_enter(make_guest: MakeGuest) -> None:
    with kvmbind.Vcpu.create(make_guest(guests.PORT_LOOP), ENTRY) as vcpu:
        packet = vcpu.enter()
        vcpu.kick()
        assert packet.guest_io.u8 == 0
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter()
        assert vcpu.enter().guest_io.u8 == 1


def test_a_thread_may_kick_itself_while_it_handles_a_packet(make_guest: MakeGuest) -> None:
    seen = []

    def take(vcpu: Vcpu, packet: PortPacket) -> None:
        seen.append(packet.guest_io.u8)
        if len(seen) == 3:
            vcpu.kick()

    with make_guest(guests.PORT_LOOP).start_vcpu(ENTRY, on_packet=take) as vcpu:
        vcpu.join(DEADLINE_S)
    assert seen == [0, 1, 2]


def test_a_kick_is_for_its_vcpu_and_not_for_another_of_the_same_thread(make_guest: MakeGuest) -> None:
    guest = make_guest(guests.PORT_LOOP)
    with kvmbind.Vcpu.create(guest, ENTRY) as kicked, kvmbind.Vcpu.create(guest, ENTRY) as other:
        kicked.kick()
        assert other.enter().guest_io.u8 == 0
        with pytest.raises(kvmbind.CanceledError):
            kicked.enter()


def test_the_kicked_flag_is_set_from_the_kick_to_the_enter_that_it_cancels(make_guest: MakeGuest) -> None:
    with kvmbind.Vcpu.create(make_guest(guests.PORT_LOOP), ENTRY) as vcpu:

        def flags() -> int:
            status, info = zx.zx_object_get_info(vcpu.handle, zx.ZX_INFO_VCPU)
            assert status is Status.OK
            return info.flags

        assert flags() == 0
        vcpu.kick()
        assert flags() == zx.ZX_INFO_VCPU_FLAG_KICKED
        assert zx.zx_vcpu_enter(vcpu.handle)[0] is Status.CANCELED
        assert flags() == 0


@pytest.mark.parametrize("kick_first", [False, True], ids=["answered, then kicked", "kicked, then answered"])
def test_a_kick_between_the_elements_of_a_string_instruction_loses_none(
    make_guest: MakeGuest, kick_first: bool
) -> None:
    guest = make_guest(guests.STRINGS)
    guest.set_trap_io(0x60, 8, key=0x60)
    values = {0x60: [1, 2, 3], 0x62: [0x1001, 0x1002, 0x1003], 0x66: [0x10000001, 0x10000002, 0x10000003]}
    unread = {port: list(numbers) for port, numbers in values.items()}
    written: dict[int, list[int]] = {0x61: [], 0x63: [], 0x67: []}
    with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:

        def cancel() -> None:
            vcpu.kick()
            with pytest.raises(kvmbind.CanceledError):
                vcpu.enter()

        while (access := vcpu.enter().guest_io).port != PORT:
            if not access.input:
                written[access.port].append(access.u32)
                cancel()
                continue
            io = kvmbind.VcpuIo(access_size=access.access_size, u32=unread[access.port].pop(0))
            if kick_first:
                cancel()
            vcpu.write_io(io)
            if not kick_first:
                cancel()
    assert written == {0x61: values[0x60], 0x63: values[0x62], 0x67: values[0x66]}


# Deadlines


def test_an_enter_whose_deadline_comes_raises_and_entering_again_goes_on(make_guest: MakeGuest) -> None:
    guest = make_guest(guests.COUNTER)
    with kvmbind.Vcpu.create(guest, ENTRY) as vcpu, kvmbind.Interrupt.create(0x40) as irq:
        irq.bind_vcpu(vcpu)
        for count in range(3):
            irq.trigger()
            while guest.read_u32(COUNT) != count + 1:
                with pytest.raises(kvmbind.TimedOutError):
                    vcpu.enter(timeout_s=0.02)


def test_a_deadline_takes_no_kick_and_no_packet(make_guest: MakeGuest) -> None:
    with kvmbind.Vcpu.create(make_guest(guests.PORT_LOOP), ENTRY) as vcpu:
        assert vcpu.enter(timeout_s=DEADLINE_S).guest_io.u8 == 0
        vcpu.kick()
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter(timeout_s=0)
        with pytest.raises(kvmbind.TimedOutError):
            vcpu.enter(timeout_s=0)
        assert [vcpu.enter(timeout_s=DEADLINE_S).guest_io.u8 for _ in range(2)] == [1, 2]


def test_a_kick_that_comes_before_the_deadline_cancels(make_guest: MakeGuest) -> None:
    with kvmbind.Vcpu.create(make_guest(guests.COUNTER), ENTRY) as vcpu:
        threading.Timer(0.01, vcpu.kick).start()
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter(timeout_s=DEADLINE_S)


# Threads


def use_everything_that_is_its_owners(vcpu: Vcpu) -> None:
    for use in (
        vcpu.enter,
        vcpu.read_state,
        lambda: vcpu.write_state(kvmbind.VcpuState()),
        lambda: vcpu.write_io(kvmbind.VcpuIo(access_size=1)),
    ):
        with pytest.raises(kvmbind.BadStateError):
            use()


def test_a_vcpu_belongs_to_the_thread_that_made_it(make_guest: MakeGuest) -> None:
    with (
        kvmbind.Vcpu.create(make_guest(guests.PORT_LOOP), ENTRY) as vcpu,
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(use_everything_that_is_its_owners, vcpu).result()
        assert vcpu.enter().guest_io.u8 == 0


def test_no_thread_inherits_the_vcpus_of_one_that_has_ended(make_guest: MakeGuest) -> None:
    guest = make_guest(guests.PORT_LOOP)
    with ThreadPoolExecutor(1) as pool:
        vcpu = pool.submit(kvmbind.Vcpu.create, guest, ENTRY).result()
    with vcpu:
        for _ in range(50):  # one after the other: Python gives them the same ident
            with ThreadPoolExecutor(1) as pool:
                pool.submit(use_everything_that_is_its_owners, vcpu).result()


def test_a_vcpu_whose_owner_has_ended_can_be_kicked_fired_at_and_closed(make_guest: MakeGuest) -> None:
    guest = make_guest(guests.COUNTER)
    with ThreadPoolExecutor(1) as pool:
        vcpu = pool.submit(kvmbind.Vcpu.create, guest, ENTRY).result()
    with vcpu, kvmbind.Interrupt.create(0x40) as irq:
        irq.bind_vcpu(vcpu)
        irq.trigger()
        vcpu.kick()
        assert vcpu.kicked


# Signals


@pytest.mark.parametrize("blocked", [{KICK_SIGNAL}, signal.valid_signals()], ids=["the kick signal", "every signal"])
def test_a_thread_that_blocks_signals_is_kicked_all_the_same(make_guest: MakeGuest, blocked: set[int]) -> None:
    guest, entered = make_guest(guests.COUNTER), threading.Event()

    def enter() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
            made.append(vcpu)
            for _ in range(100):
                entered.set()
                with pytest.raises(kvmbind.CanceledError):
                    vcpu.enter()

    made: list[Vcpu] = []
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(enter)
        while not ended.done():
            if entered.wait(0.001):
                entered.clear()
                with contextlib.suppress(kvmbind.BadHandleError):
                    made[0].kick()
        ended.result()


FOREIGN_HANDLER = """
import signal, sys
import kvmbind
signal.signal(signal.SIGRTMIN + 4, lambda *_: None)
with kvmbind.Guest.create(memory=4096) as guest:
    try:
        kvmbind.Vcpu.create(guest)
    except kvmbind.ZxError as error:
        print(error)
    signal.signal(signal.SIGRTMIN + 4, signal.SIG_DFL)
    kvmbind.Vcpu.create(guest).close()
"""


def test_a_foreign_handler_of_the_kick_signal_is_an_error_that_says_so() -> None:
    command = [sys.executable, "-c", FOREIGN_HANDLER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "SIGRTMIN + 4" in done.stdout
    assert "another handler" in done.stdout
