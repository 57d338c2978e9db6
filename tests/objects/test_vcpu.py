"""Vcpu: entering it with a timeout, its thread, its errors, its figures."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest, PortPacket, Vcpu, VcpuIo, VcpuState
from kvmbind.guests import COUNTER, ECHO, PORT_LOOP, SPINNER
from kvmbind.zx import (
    ZX_RIGHT_EXECUTE,
    ZX_RIGHT_INSPECT,
    ZX_RIGHT_NONE,
    ZX_RIGHT_READ,
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WRITE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.kvm

ENTRY, READY = 0x1000, 0x7000
DEADLINE_S = 60


def load(guest: Guest, image: bytes, *, trap: bool = True) -> Guest:
    guest.write(image, ENTRY)
    if trap:
        guest.set_trap_io(0x60, 0x40, 7)
    return guest


@pytest.mark.parametrize("image", [COUNTER, SPINNER], ids=["halted", "spinning"])
@pytest.mark.parametrize("timeout_s", [-1, 0, 0.002, 0.05])
def test_an_enter_times_out_says_where_the_guest_is_and_goes_on_later(
    kvm_guest: Guest, image: bytes, timeout_s: float
) -> None:
    load(kvm_guest, image)
    with Vcpu.create(kvm_guest, ENTRY) as vcpu:
        for _ in range(2):
            with pytest.raises(kvmbind.TimedOutError, match=r"the guest ran until the deadline, at 0100:[0-9a-f]{4}"):
                vcpu.enter(timeout_s)
        while not kvm_guest.read_u32(READY):
            with pytest.raises(kvmbind.TimedOutError):
                vcpu.enter(0.05)
        vcpu.interrupt(0x40)
        while not kvm_guest.read_u32(0x8000):
            with pytest.raises(kvmbind.TimedOutError):
                vcpu.enter(0.05)


def test_an_enter_with_time_left_returns_the_packet(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP)
    with Vcpu.create(kvm_guest, ENTRY) as vcpu:
        assert [vcpu.enter(timeout_s=DEADLINE_S).guest_io.u8 for _ in range(100)] == list(range(100))
        assert vcpu.returns == 100


def test_a_kick_raises_canceled_once_and_can_be_seen_before(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP)
    with Vcpu.create(kvm_guest, ENTRY) as vcpu:
        assert not vcpu.kicked
        vcpu.kick()
        assert vcpu.kicked
        with pytest.raises(kvmbind.CanceledError, match="kicked"):
            vcpu.enter()
        assert not vcpu.kicked
        assert vcpu.enter().key == 7


#: Each use with the right that it needs and the call that errors name.
USES: list[tuple[str, int, Callable[[Vcpu], object]]] = [
    ("zx_vcpu_enter", ZX_RIGHT_EXECUTE, lambda vcpu: vcpu.enter(0)),
    ("zx_vcpu_kick", ZX_RIGHT_EXECUTE, lambda vcpu: vcpu.kick()),
    ("zx_vcpu_interrupt", ZX_RIGHT_SIGNAL, lambda vcpu: vcpu.interrupt(0)),
    ("zx_vcpu_read_state", ZX_RIGHT_READ, lambda vcpu: vcpu.read_state()),
    ("zx_vcpu_write_state", ZX_RIGHT_WRITE, lambda vcpu: vcpu.write_state(VcpuState())),
    ("zx_vcpu_write_state", ZX_RIGHT_WRITE, lambda vcpu: vcpu.write_io(VcpuIo(access_size=3))),
    ("kicked", ZX_RIGHT_INSPECT, lambda vcpu: vcpu.kicked),
    ("apic_id", ZX_RIGHT_NONE, lambda vcpu: vcpu.apic_id),
    ("returns", ZX_RIGHT_NONE, lambda vcpu: vcpu.returns),
    ("interrupted", ZX_RIGHT_NONE, lambda vcpu: vcpu.interrupted),
    ("stats", ZX_RIGHT_NONE, lambda vcpu: vcpu.stats()),
]


@pytest.mark.parametrize(("call", "right", "use"), USES, ids=[use[0] for use in USES])
def test_a_use_needs_its_right_and_an_open_vcpu_and_its_error_names_the_call(
    kvm_guest: Guest, call: str, right: int, use: Callable[[Vcpu], object]
) -> None:
    with Vcpu.create(kvm_guest) as vcpu, vcpu.duplicate(vcpu.rights & ~right) as less:
        if right:
            with pytest.raises(kvmbind.AccessDeniedError) as caught:
                use(less)
            assert (caught.value.call, bool(caught.value.hint)) == (call, True)
        less.close()
        with pytest.raises(kvmbind.BadHandleError) as closed:
            use(less)
        assert (closed.value.call, closed.value.hint) == (call, "the Vcpu is closed")


@pytest.mark.parametrize("use", [use[2] for use in USES[:1] + USES[3:6]], ids=["enter", "read", "write", "write_io"])
def test_another_thread_may_not_touch_its_state(kvm_guest: Guest, use: Callable[[Vcpu], object]) -> None:
    errors = list[Exception]()

    def run() -> None:
        try:
            use(vcpu)
        except kvmbind.ZxError as error:
            errors.append(error)

    with Vcpu.create(kvm_guest) as vcpu:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(DEADLINE_S)
    assert [str(error).split(": ", 1)[1] for error in errors] == [
        "BAD_STATE (-20): the VCPU belongs to the thread that created it"
    ]


@pytest.mark.parametrize(
    ("entry", "mode", "hint"),
    [
        (-1, "real", "entry -1 is negative"),
        (1 << 20, "real", "is not below 0x100000"),
        (1 << 48, "long", "is not below"),
        (0, "protected", 'mode \'protected\' is not "real", "long" or "wait-for-sipi"'),
        (0, "wait-for-sipi", "the first VCPU is the one that starts the others"),
        (0x1000, "wait-for-sipi", "SIPI says where it starts"),
    ],
)
def test_create_refuses_what_is_no_entry_or_mode(kvm_guest: Guest, entry: int, mode: str, hint: str) -> None:
    creates: list[Callable[[], object]] = [
        lambda: Vcpu.create(kvm_guest, entry, mode=mode),  # type: ignore[arg-type]
        lambda: kvm_guest.start_vcpu(entry, mode=mode),  # type: ignore[arg-type]
    ]
    for create in creates:
        with pytest.raises(kvmbind.InvalidArgsError) as caught:
            create()
        assert (caught.value.call, hint in caught.value.hint) == ("zx_vcpu_create", True)


def test_stats_are_the_kernels_figures_also_while_it_runs(kvm_guest: Guest) -> None:
    load(kvm_guest, COUNTER)
    with kvm_guest.start_vcpu(ENTRY) as vcpu:
        kvm_guest.wait_u32(READY, 1, timeout_s=DEADLINE_S)
        before = vcpu.stats()
        for count in range(1, 11):
            vcpu.interrupt(0x40)
            kvm_guest.wait_u32(0x8000, count, timeout_s=DEADLINE_S)
        after = vcpu.stats()
        assert after.halt_exits >= before.halt_exits
        assert after._fields == kvmbind.VcpuStats._fields
        assert (vcpu.returns, vcpu.apic_id) == (0, 0)


# A VCPU on a thread of its own


def test_on_packet_takes_each_packet_on_the_vcpus_thread_and_answers_reads(kvm_guest: Guest) -> None:
    load(kvm_guest, ECHO)
    echoed, done, threads = list[int](), threading.Event(), set[threading.Thread]()

    def on_packet(vcpu: Vcpu, packet: PortPacket) -> None:
        threads.add(threading.current_thread())
        if packet.guest_io.input:
            vcpu.write_io(VcpuIo(access_size=1, u8=len(echoed) + 1))
            return
        echoed.append(packet.guest_io.u8)
        if len(echoed) == 200:
            done.set()
            vcpu.kick()

    with kvm_guest.start_vcpu(ENTRY, on_packet=on_packet) as vcpu:
        assert done.wait(DEADLINE_S)
        vcpu.join(DEADLINE_S)
    assert echoed == list(range(1, 201))
    assert [thread.name for thread in threads] == ["kvmbind-vcpu"]


class Trouble(Exception):
    """What a careless on_packet raises."""


def raise_trouble(vcpu: Vcpu, packet: PortPacket) -> None:
    raise Trouble(packet.key)


def test_what_on_packet_raises_ends_the_thread_and_join_raises_it_once(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP)
    vcpu = kvm_guest.start_vcpu(ENTRY, on_packet=raise_trouble)
    with pytest.raises(Trouble, match="7"):
        vcpu.join(DEADLINE_S)
    vcpu.join(DEADLINE_S)
    vcpu.close()
    assert vcpu.closed


def test_what_on_packet_raises_is_raised_by_close(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP)
    vcpu, started = None, threading.Event()

    def on_packet(vcpu: Vcpu, packet: PortPacket) -> None:
        started.set()
        raise Trouble

    vcpu = kvm_guest.start_vcpu(ENTRY, on_packet=on_packet)
    assert started.wait(DEADLINE_S)
    with pytest.raises(Trouble):
        vcpu.close()
    assert vcpu.closed
    vcpu.close()


def test_what_on_packet_raises_is_raised_at_the_end_of_the_with_block(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP)
    with pytest.raises(Trouble):
        run_until_it_ends(kvm_guest, raise_trouble)


def run_until_it_ends(
    guest: Guest, on_packet: Callable[[Vcpu, PortPacket], object] | None, error: Exception | None = None
) -> None:
    """Leaves the with block when the VCPU's thread has ended, without Vcpu.join, and by an error if there is one."""
    with guest.start_vcpu(ENTRY, on_packet=on_packet) as vcpu:
        assert vcpu._runner is not None
        vcpu._runner._thread.join(DEADLINE_S)
        if error is not None:
            raise error


def test_an_error_in_the_block_is_raised_and_gets_a_note_of_the_threads(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP)
    with pytest.raises(ZeroDivisionError) as caught:
        run_until_it_ends(kvm_guest, raise_trouble, error=ZeroDivisionError())
    assert caught.value.__notes__ == ["The VCPU's thread had ended with Trouble: 7"]


def test_closing_the_guest_raises_what_a_vcpus_thread_raised_and_closes_everything() -> None:
    guest = load(Guest.create(memory=1 << 20), PORT_LOOP)
    vcpu = guest.start_vcpu(ENTRY, on_packet=raise_trouble)
    assert vcpu._runner is not None
    vcpu._runner._thread.join(DEADLINE_S)
    with pytest.raises(Trouble):
        guest.close()
    assert (guest.closed, vcpu.closed) == (True, True)


def test_a_packet_that_nobody_takes_is_an_error_that_says_what_is_missing(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP)
    with pytest.raises(kvmbind.BadStateError, match=r"GUEST_IO.*no on_packet was given to take it"):
        run_until_it_ends(kvm_guest, None)


def test_an_untrapped_access_ends_the_thread_with_what_it_was(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP, trap=False)
    with pytest.raises(kvmbind.NotFoundError) as caught:
        run_until_it_ends(kvm_guest, None)
    assert caught.value.access == kvmbind.Access("io", 0x80, 1, is_write=True, data=b"\0")


def test_close_kicks_and_joins_a_vcpu_that_sleeps_or_spins(kvm_guest: Guest) -> None:
    load(kvm_guest, COUNTER)
    kvm_guest.write(SPINNER, 0x2000)
    vcpus = [kvm_guest.start_vcpu(ENTRY), kvm_guest.start_vcpu(0x2000)]
    kvm_guest.wait_u32(READY, 0x101, timeout_s=DEADLINE_S)
    for vcpu in vcpus:
        vcpu.close()
    assert [thread for thread in threading.enumerate() if thread.name == "kvmbind-vcpu"] == []


def test_join_times_out_while_it_runs_and_returns_when_it_was_kicked(kvm_guest: Guest) -> None:
    load(kvm_guest, COUNTER)
    with kvm_guest.start_vcpu(ENTRY) as vcpu:
        for timeout_s in (0, 0.01):
            with pytest.raises(kvmbind.TimedOutError, match="still runs after"):
                vcpu.join(timeout_s)
        vcpu.kick()
        vcpu.join(DEADLINE_S)
        vcpu.join()


def test_only_a_started_vcpu_can_be_joined(kvm_guest: Guest) -> None:
    with Vcpu.create(kvm_guest) as vcpu, pytest.raises(kvmbind.BadStateError, match=r"Guest\.start_vcpu"):
        vcpu.join()


def test_the_handle_of_a_started_vcpu_is_its_threads_and_cannot_be_given_away(kvm_guest: Guest) -> None:
    load(kvm_guest, COUNTER)
    with kvm_guest.start_vcpu(ENTRY) as vcpu:
        for give in (vcpu.release, lambda: vcpu.replace(vcpu.rights)):
            with pytest.raises(kvmbind.BadStateError, match="duplicate it instead"):
                give()
        with vcpu.duplicate() as other:
            assert other.koid == vcpu.koid
    assert vcpu.closed


def test_closing_from_its_own_thread_does_not_wait_for_itself(kvm_guest: Guest) -> None:
    load(kvm_guest, PORT_LOOP)
    closed = threading.Event()

    def on_packet(vcpu: Vcpu, packet: PortPacket) -> None:
        vcpu.close()
        closed.set()

    with kvm_guest.start_vcpu(ENTRY, on_packet=on_packet) as vcpu:
        assert closed.wait(DEADLINE_S)
    assert vcpu.closed
