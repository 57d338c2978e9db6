"""What tests/objects/test_ctrl_c.py interrupts: `ctrl_c_driver.py CALL SURROUNDINGS ROUNDS`.

For each round it writes "E" to stdout, makes the call, and writes "K" when that has raised. At the end it writes "."
and a line of JSON: what it found when everything was closed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

import kvmbind
from kvmbind import guests, zx

ENTRY = 0x1000
MEMORY = 1 << 20
PORT = 0x80
NEVER = 0xFFFFFFFF
VCPUS = 200  # made in one guest, one after the other: KVM frees no id
VECTOR = 0x40
SIGNAL = zx.ZX_USER_SIGNAL_0
HANDLER = 0x0F
EXITS = bytes.fromhex(
    "bb2800"  # again: mov bx, 40
    "e680"  # next: out 0x80, al
    "fec0"  # inc al
    "4b"  # dec bx
    "75f9"  # jnz next
    "fb"  # sti
    "f4"  # hlt
    "fa"  # cli
    "ebf1"  # jmp again
    "66b90b080000"  # HANDLER: mov ecx, 0x80b
    "6631c0"  # xor eax, eax
    "6631d2"  # xor edx, edx
    "0f30"  # wrmsr
    "cf"  # iret
)

BELL, HELD_AT = 0xD0000, 256
RUNG = 0x8000
RINGS = bytes.fromhex(
    "b800d0"  # mov ax, 0xd000
    "8ec0"  # mov es, ax
    "47"  # again: inc di
    "268805"  # mov es:[di], al
    "893e0080"  # mov [RUNG], di
    "ebf6"  # jmp again
)

Call = Callable[[], object]


def say(letter: bytes) -> None:
    os.write(1, letter)


def enter_for_ever(vcpu: kvmbind.Vcpu) -> None:
    while True:
        vcpu.enter()


# Calls, one for each round


def exits(rounds: int) -> Iterator[Call]:
    """Enters a VCPU that takes 40 exits and halts, each time it is woken."""
    with kvmbind.Guest.create(memory=MEMORY) as guest, kvmbind.Interrupt.create(VECTOR) as irq:
        guest.write(struct.pack("<HH", HANDLER, ENTRY >> 4), 4 * VECTOR)
        guest.write(EXITS, ENTRY)
        guest.set_trap_io(PORT, 1, key=PORT)
        with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
            irq.bind_vcpu(vcpu)
            for _ in range(rounds):
                irq.trigger()
                yield lambda: enter_for_ever(vcpu)


def burst(rounds: int) -> Iterator[Call]:
    """Enters a new VCPU each time: it takes 200 exits and halts."""
    while rounds:
        with kvmbind.Guest.create(memory=MEMORY) as guest:
            guest.write(guests.BURST, ENTRY)
            guest.set_trap_io(PORT, 1, key=PORT)
            for _ in range(min(rounds, VCPUS)):
                with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
                    yield lambda vcpu=vcpu: enter_for_ever(vcpu)  # type: ignore[misc]
                rounds -= 1


def halt(rounds: int) -> Iterator[Call]:
    """Enters a VCPU that halts."""
    with kvmbind.Guest.create(memory=MEMORY) as guest:
        guest.write(guests.COUNTER, ENTRY)
        with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
            for _ in range(rounds):
                yield vcpu.enter


def held(rounds: int) -> Iterator[Call]:
    """Enters a VCPU that has rung a bell as often as it may, by exits, and is to ring it once more."""
    with kvmbind.Guest.create(memory=MEMORY) as guest, kvmbind.Port.create() as port:
        guest.write(RINGS, ENTRY)
        guest.set_trap_bell(BELL, 4096, port, key=1)
        with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
            while guest.read_u32(RUNG) < HELD_AT:
                with contextlib.suppress(kvmbind.TimedOutError):
                    vcpu.enter(0.01)
            for _ in range(rounds):
                yield vcpu.enter
            addrs = [port.wait(0).guest_bell.addr for _ in range(HELD_AT)]
            assert addrs == list(range(BELL + 1, BELL + HELD_AT + 1))


def port_wait(rounds: int) -> Iterator[Call]:
    """Waits for a port that gets nothing."""
    with kvmbind.Port.create(interrupts=True) as port:
        for _ in range(rounds):
            yield port.wait
        port.queue(kvmbind.PortPacket(key=1))
        assert port.wait().key == 1


def interrupt_wait(rounds: int) -> Iterator[Call]:
    """Waits for an interrupt that is not fired."""
    with kvmbind.Interrupt.create() as irq:
        for _ in range(rounds):
            yield irq.wait
        irq.trigger(7)
        assert irq.wait() == 7


def wait_one(rounds: int) -> Iterator[Call]:
    """Waits for a signal that nobody sets."""
    with kvmbind.Vmo.create(4096) as vmo:
        for _ in range(rounds):
            yield lambda: vmo.wait_one(SIGNAL)
        vmo.signal(set=SIGNAL)
        assert vmo.wait_one(SIGNAL) & SIGNAL


def wait_u32(rounds: int) -> Iterator[Call]:
    """Waits for a guest that stores nothing."""
    with kvmbind.Guest.create(memory=MEMORY) as guest:
        for _ in range(rounds):
            yield lambda: guest.wait_u32(0x8000, NEVER)


def started(rounds: int) -> Iterator[Call]:
    """Is inside `with guest.start_vcpu()`."""

    def stay(guest: kvmbind.Guest) -> None:
        with guest.start_vcpu(ENTRY):
            say(b"E")
            while True:
                time.sleep(0.01)  # not for long: Python's own sleep misses a signal that comes just before

    for _ in range(rounds):
        with kvmbind.Guest.create(memory=MEMORY) as guest:
            guest.write(guests.COUNTER, ENTRY)
            yield lambda: stay(guest)


# Surroundings


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nothing else runs."""
    yield


@contextlib.contextmanager
def other_threads() -> Iterator[None]:
    """Other threads run, one of them a guest of its own, and none blocks a signal."""
    done, ready = threading.Event(), threading.Event()
    running: list[kvmbind.Vcpu] = []

    def run_a_guest() -> None:
        with kvmbind.Guest.create(memory=MEMORY) as guest:
            guest.write(guests.COUNTER, ENTRY)
            with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
                running.append(vcpu)
                ready.set()
                while not done.is_set():
                    with contextlib.suppress(kvmbind.CanceledError):
                        vcpu.enter()

    threads = [threading.Thread(target=done.wait), threading.Thread(target=run_a_guest)]
    for thread in threads:
        thread.start()
    ready.wait()
    try:
        yield
    finally:
        done.set()
        running[0].kick()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def handled_elsewhere() -> Iterator[None]:
    """The main thread blocks SIGINT, so that the kernel gives it to one of the others."""
    with other_threads():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _raise(signo: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """SIGUSR1 has a handler in Python too."""
    signal.signal(signal.SIGUSR1, _raise)
    yield


@contextlib.contextmanager
def installed_again() -> Iterator[None]:
    """Each round installs new handlers just before its call."""
    with installed():
        yield


def install() -> None:
    signal.signal(signal.SIGUSR1, lambda signo, frame: _raise(signo, frame))
    signal.signal(signal.SIGINT, lambda signo, frame: _raise(signo, frame))


def count_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> None:
    calls, surroundings = globals()[sys.argv[1]], globals()[sys.argv[2]]
    fds, raised = count_fds(), 0
    with surroundings():
        for call in calls(int(sys.argv[3])):
            try:
                if calls is not started:
                    say(b"E")
                if surroundings is installed_again:
                    install()
                call()
            except KeyboardInterrupt:
                raised += 1
                say(b"K")
    gc.collect()
    found = {"raised": raised, "fds": count_fds() - fds, "threads": threading.active_count() - 1}
    say(b"." + json.dumps(found).encode() + b"\n")


if __name__ == "__main__":
    main()
