"""Eight guests with sixteen VCPUs under everything at once: every interrupt, packet and kick is accounted for.

For some seconds; KVMBIND_STRESS_S says for how many, and a run says with which seed it can be had again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

import kvmbind

if TYPE_CHECKING:
    from tests.objects.conftest import Count

pytestmark = [pytest.mark.kvm, pytest.mark.timeout(int(os.environ.get("KVMBIND_STRESS_S", "4")) + 240)]

DURATION_S = float(os.environ.get("KVMBIND_STRESS_S", "4"))
SEED = int(os.environ.get("KVMBIND_STRESS_SEED", "1"))
DEADLINE_S = 60.0
GUESTS, VCPUS_EACH, WORKERS = 8, 2, 4
INTERRUPTS_MAX = 4  # of one guest at a time
MEMORY, PAGE = 1 << 20, 4096
ENTRY, READY, COUNTS, BELL, SPARE = 0x1000, 0x7000, 0x8000, 0xD0000, 0xE0000
VECTOR, HANDLER = 0x40, 0x47

#: At vector 40h each VCPU counts, and rings twice: the bell's first address, which makes no exit, and one of its own.
IMAGE = bytes.fromhex(
    "66b902080000 0f32 89c6 c1e006 0540c0 89c4"  # si = the APIC id; sp = C040h + 64 * si
    "89f3 c1e302 81c30080"  # bx = 8000h + 4 * si
    "b800d0 8ec0 678d3cf508000000"  # es = D000h; di = 8 + 8 * si
    "c70600014700 8c0e0201"  # vector 40h -> cs:0047h
    "66b90b080000 6631c0 6631d2"  # what a bare wrmsr needs to end an interrupt
    "c684007001 fb f4 ebfd"  # ready; sti; hlt, for ever
    "66ff07 26a20000 268805 0f30 cf"  # HANDLER: inc dword [bx]; mov es:[0], al; mov es:[di], al; wrmsr; iret
)


class Runner:
    """A VCPU on a thread that enters it again after each kick, until it is closed."""

    def __init__(self, guest: kvmbind.Guest) -> None:
        self.kicks = 0
        self.canceled = 0
        self.fired = 0
        self._changed = threading.Condition()
        self._made = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[guest])
        self._thread.start()
        assert self._made.wait(DEADLINE_S)

    def _run(self, guest: kvmbind.Guest) -> None:
        self.vcpu = kvmbind.Vcpu.create(guest, ENTRY)
        self._made.set()
        try:
            while not self.vcpu.closed:
                try:
                    raise AssertionError(f"the guest made {self.vcpu.enter()!r}")
                except kvmbind.CanceledError:
                    with self._changed:
                        self.canceled += 1
                        self._changed.notify_all()
        except kvmbind.BadHandleError:
            return  # closed between two enters
        except BaseException as error:
            self._error = error

    def kick(self) -> int:
        """Kicks it, and returns how many kicks had been heard before."""
        with self._changed:
            self.kicks += 1
            before = self.canceled
        self.vcpu.kick()
        return before

    def has_heard(self, before: int) -> bool:
        """Waits until a kick that was made after so many were heard is heard."""
        with self._changed:
            return self._changed.wait_for(lambda: self.canceled > before, DEADLINE_S)

    def end(self) -> None:
        self.vcpu.close()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        assert self._error is None, self._error
        assert self.canceled <= self.kicks + 1  # and the one by which closing stops it


class Place:
    """Where a guest is, and after its end another. Its lock makes one action at a time; kicks come from anywhere."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.fired = 0
        self._open()

    def _open(self) -> None:
        self.guest = kvmbind.Guest.create(memory=MEMORY)
        self.guest.write((HANDLER | (ENTRY >> 4) << 16).to_bytes(4, "little"), 4 * VECTOR)
        self.guest.write(IMAGE, ENTRY)
        self.port = kvmbind.Port.create()
        self.guest.set_trap_bell(BELL, PAGE, self.port, key=7)
        self.interrupts: list[tuple[kvmbind.Interrupt, list[Runner]]] = []
        self.runners = [Runner(self.guest) for _ in range(VCPUS_EACH)]
        for runner in self.runners:
            self.guest.wait_u32(READY, 0x0101 if runner.vcpu.apic_id else 1, timeout_s=DEADLINE_S)

    def close(self) -> None:
        """Closes everything, in whatever order; nothing that was not taken may be left."""
        for irq, _ in self.interrupts:
            irq.close()
        counted = [self.guest.read_u32(COUNTS + 4 * runner.vcpu.apic_id) for runner in self.runners]
        assert counted == [runner.fired for runner in self.runners]
        with pytest.raises(kvmbind.TimedOutError):
            self.port.wait(0)
        for runner in self.runners:
            runner.end()
        self.guest.close()
        self.port.close()

    # Actions, each under the lock

    def bind(self, chance: random.Random) -> None:
        """Binds one more interrupt to one or both VCPUs."""
        if len(self.interrupts) == INTERRUPTS_MAX:
            return
        runners = chance.sample(self.runners, chance.randint(1, VCPUS_EACH))
        irq = kvmbind.Interrupt.create(VECTOR, physical=chance.random() < 0.3)
        for runner in runners:
            irq.bind_vcpu(runner.vcpu)
        self.interrupts.append((irq, runners))

    def fire(self, chance: random.Random) -> None:
        """Fires one: each VCPU that it is bound to counts once and rings twice, in order."""
        if not self.interrupts:
            return
        irq, runners = chance.choice(self.interrupts)
        for runner in runners:
            runner.fired += 1
        try:
            irq.trigger()
        except kvmbind.BadStateError:
            os.eventfd_write(irq.fileno(), 1)  # a physical one
        for runner in runners:
            self.guest.wait_u32(COUNTS + 4 * runner.vcpu.apic_id, runner.fired, timeout_s=DEADLINE_S)
        rings = [self.port.wait(DEADLINE_S).guest_bell.addr for _ in range(2 * len(runners))]
        own = [BELL + 8 + 8 * runner.vcpu.apic_id for runner in runners]
        assert sorted(rings) == sorted([BELL] * len(runners) + own)
        assert rings[0] == BELL
        self.fired += len(runners)

    def kick_and_fire(self, chance: random.Random) -> None:
        """Kicks a VCPU and fires at it before that is heard: neither is lost."""
        runner = chance.choice(self.runners)
        before = runner.kick()
        self.fire(chance)
        assert runner.has_heard(before)

    def end_an_interrupt(self, chance: random.Random) -> None:
        """Destroys or closes one, and fires it no more."""
        if not self.interrupts:
            return
        irq, _ = self.interrupts.pop(chance.randrange(len(self.interrupts)))
        if chance.random() < 0.5:
            irq.destroy()
        irq.close()

    def queue(self, chance: random.Random) -> None:
        """Queues a packet and takes it."""
        key = chance.getrandbits(64)
        self.port.queue(kvmbind.PortPacket(key=key))
        assert self.port.wait(DEADLINE_S).key == key

    def change_memory(self, chance: random.Random) -> None:
        """Takes a page of memory out under the VCPUs and puts it back."""
        assert self.guest.vmar is not None
        assert self.guest.memory is not None
        addr = SPARE + PAGE * chance.randrange(16)
        self.guest.vmar.unmap(addr, PAGE)
        self.guest.vmar.map(self.guest.memory, addr, vmo_offset=addr, length=PAGE)

    def begin_again(self, chance: random.Random) -> None:
        """Ends the guest, now and then, and starts another."""
        if chance.random() < 0.05:
            self.close()
            self._open()


ACTIONS = [
    Place.fire,
    Place.fire,
    Place.fire,
    Place.bind,
    Place.kick_and_fire,
    Place.end_an_interrupt,
    Place.queue,
    Place.change_memory,
    Place.begin_again,
]


def act(places: list[Place], seed: int, end: float, errors: list[BaseException]) -> None:
    """Does one random action after the other, at random places."""
    chance = random.Random(seed)
    try:
        while time.monotonic() < end and not errors:
            place = chance.choice(places)
            with place.lock:
                chance.choice(ACTIONS)(place, chance)
    except BaseException as error:
        errors.append(error)


def kick(places: list[Place], seed: int, end: float, errors: list[BaseException]) -> None:
    """Kicks VCPUs in the middle of whatever happens to them; each kick is heard."""
    chance = random.Random(seed)
    try:
        while time.monotonic() < end and not errors:
            runner = chance.choice(chance.choice(places).runners)
            try:
                before = runner.kick()
            except kvmbind.BadHandleError:
                continue  # closed at the same time
            assert runner.has_heard(before)
            time.sleep(0.001)
    except BaseException as error:
        errors.append(error)


def test_eight_guests_under_everything_at_once_lose_nothing_and_leave_nothing(held: Count) -> None:
    Place().close()
    before = held()
    places = [Place() for _ in range(GUESTS)]
    errors: list[BaseException] = []
    end = time.monotonic() + DURATION_S
    threads = [threading.Thread(target=act, args=[places, SEED + n, end, errors]) for n in range(WORKERS)]
    threads.append(threading.Thread(target=kick, args=[places, SEED, end, errors]))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    for place in places:
        place.close()
    assert sum(place.fired for place in places) > 0
    assert held(before) == before
