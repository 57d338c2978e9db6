"""Guest.connect_bell: a store of one guest fires an interrupt, and what ends that."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest, Interrupt, guests
from kvmbind.zx import ZX_RIGHT_SIGNAL, ZX_RIGHT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Boot, MakeInterrupt

pytestmark = pytest.mark.kvm

PAGE = 4096
ENTRY = 0x1000
BELL = 0xD0000
LEFT = 0x7100
#: mov ax, D000h; mov ds, ax
START = bytes.fromhex("b800d0 8ed8")
#: mov [0], al; out 80h, al
RING = bytes.fromhex("a20000 e680")


def run(guest: Guest, *codes: str) -> kvmbind.Vcpu:
    """A VCPU of this thread that runs `codes` with DS at the bell's page; the guest says at port 80h that it has."""
    guest.write(START + b"".join(map(bytes.fromhex, codes)) + bytes.fromhex("e680 fa f4"), ENTRY)
    guest.set_trap_io(0x80, 1, 0)
    return kvmbind.Vcpu.create(guest, ENTRY)


@pytest.fixture
def irq(make_interrupt: MakeInterrupt) -> Interrupt:
    """An interrupt that nobody has bound."""
    return make_interrupt()


@pytest.fixture
def other_guest() -> Iterator[Guest]:
    """A second guest."""
    with Guest.create(memory=1 << 20) as guest:
        yield guest


def is_fired(irq: Interrupt) -> bool:
    try:
        irq.wait(0)
    except kvmbind.TimedOutError:
        return False
    return True


def test_two_guests_fire_each_other_and_neither_vcpu_leaves_kvm_run(
    boot: Boot, make_interrupt: MakeInterrupt, rounds: int
) -> None:
    left, right = boot(guests.PING_PONG), boot(guests.PING_PONG)
    to_left, to_right = make_interrupt(), make_interrupt()
    for running, irq in [(left, to_left), (right, to_right)]:
        running.guest.write(rounds.to_bytes(4, "little"), LEFT)
        irq.bind_vcpu(running.vcpu)
    left.guest.connect_bell(BELL, to_right)
    right.guest.connect_bell(BELL, to_left)
    to_left.trigger()
    left.wait(rounds + 1)
    assert (left.count(), right.count()) == (rounds + 1, rounds)
    assert (left.returns, right.returns) == (0, 0)


def test_a_guest_may_fire_itself(boot: Boot, irq: Interrupt) -> None:
    running = boot(guests.PING_PONG)
    running.guest.write((100).to_bytes(4, "little"), LEFT)
    irq.bind_vcpu(running.vcpu)
    running.guest.connect_bell(BELL, irq)
    irq.trigger()
    running.wait(101)
    assert running.returns == 0


@pytest.mark.parametrize(
    "store",
    ["a20000", "a30000", "66a30000"],  # mov [0], al; ax; eax
    ids=["1 byte", "2 bytes", "4 bytes"],
)
def test_a_store_of_any_width_fires_with_no_exit(kvm_guest: Guest, irq: Interrupt, store: str) -> None:
    kvm_guest.connect_bell(BELL, irq)
    with run(kvm_guest, store) as vcpu:
        assert vcpu.enter().guest_io.port == 0x80
        assert is_fired(irq)
        assert vcpu.returns == 1


def test_a_store_is_a_packet_where_the_interrupt_is_bound_to_a_port(kvm_guest: Guest, irq: Interrupt) -> None:
    with kvmbind.Port.create(interrupts=True) as port:
        irq.bind(port, 7)
        kvm_guest.connect_bell(BELL, irq)
        with run(kvm_guest, "a20000") as vcpu:
            vcpu.enter()
        assert port.wait(0).key == 7


def test_several_guests_may_fire_one_interrupt(kvm_guest: Guest, other_guest: Guest, irq: Interrupt) -> None:
    for guest in (kvm_guest, other_guest):
        guest.connect_bell(BELL, irq)
        with run(guest, "a20000") as vcpu:
            vcpu.enter()
        assert is_fired(irq)


def test_several_bells_may_be_in_one_page_each_at_its_own_address(
    kvm_guest: Guest, make_interrupt: MakeInterrupt
) -> None:
    irqs = [make_interrupt() for _ in range(3)]
    for number, irq in enumerate(irqs):
        kvm_guest.connect_bell(BELL + 4 * number, irq)
    with run(kvm_guest, "a20400", "a20800") as vcpu:
        vcpu.enter()
        assert vcpu.returns == 1
    assert [is_fired(irq) for irq in irqs] == [False, True, True]


@pytest.mark.parametrize(
    ("code", "access"),
    [
        ("a20100", kvmbind.Access("memory", BELL + 1, 1, is_write=True, data=b"\0")),  # mov [1], al
        ("a00000", kvmbind.Access("memory", BELL, 1, is_write=False)),  # mov al, [0]
    ],
    ids=["a store elsewhere", "a load"],
)
def test_what_is_no_store_to_the_address_is_an_untrapped_access(
    kvm_guest: Guest, irq: Interrupt, code: str, access: kvmbind.Access
) -> None:
    kvm_guest.connect_bell(BELL, irq)
    with run(kvm_guest, code, "a20000") as vcpu:
        with pytest.raises(kvmbind.NotFoundError) as caught:
            vcpu.enter()
        assert caught.value.access == access
        assert not is_fired(irq)
        vcpu.enter()
        assert is_fired(irq)


def test_the_page_is_taken_out_of_guest_memory_and_no_other(kvm_guest: Guest, irq: Interrupt) -> None:
    kvm_guest.connect_bell(BELL + 0x10, irq)
    for addr in (BELL, BELL + PAGE - 1):
        with pytest.raises(kvmbind.OutOfRangeError):
            kvm_guest.read(addr, 1)
    assert kvm_guest.read(BELL - 1, 1) == kvm_guest.read(BELL + PAGE, 1) == b"\0"


def set_bell(guest: Guest, addr: int) -> None:
    with kvmbind.Port.create() as port:
        guest.set_trap_bell(addr, PAGE, port, 0)


@pytest.mark.parametrize("addr", [BELL, BELL + 8])
@pytest.mark.parametrize("set_trap", [lambda it: set_bell(it, BELL), lambda it: it.set_trap_mem(BELL, PAGE, 0)])
def test_one_thing_is_at_an_address(
    kvm_guest: Guest, make_interrupt: MakeInterrupt, addr: int, set_trap: Callable[[Guest], None]
) -> None:
    kvm_guest.connect_bell(addr, make_interrupt())
    with pytest.raises(kvmbind.AlreadyExistsError, match="overlaps another trap or bell"):
        set_trap(kvm_guest)
    with pytest.raises(kvmbind.AlreadyExistsError, match=f"a trap or another bell is at {addr:#x}"):
        kvm_guest.connect_bell(addr, make_interrupt())


@pytest.mark.parametrize("set_trap", [lambda it: set_bell(it, BELL), lambda it: it.set_trap_mem(BELL, PAGE, 0)])
def test_a_trap_leaves_no_address_of_its_pages_to_a_bell(
    kvm_guest: Guest, irq: Interrupt, set_trap: Callable[[Guest], None]
) -> None:
    set_trap(kvm_guest)
    for addr in (BELL, BELL + 8, BELL + PAGE - 1):
        with pytest.raises(kvmbind.AlreadyExistsError):
            kvm_guest.connect_bell(addr, irq)
    kvm_guest.connect_bell(BELL + PAGE, irq)
    kvm_guest.connect_bell(BELL - 1, irq)


@pytest.mark.parametrize("end", [Interrupt.destroy, Interrupt.close])
def test_the_end_of_the_interrupt_makes_stores_untrapped_and_the_address_free(
    kvm_guest: Guest, make_interrupt: MakeInterrupt, end: Callable[[Interrupt], None]
) -> None:
    first, second = make_interrupt(), make_interrupt()
    kvm_guest.connect_bell(BELL, first)
    end(first)
    with run(kvm_guest, "a20000", "a20000", "a20000") as vcpu:
        with pytest.raises(kvmbind.NotFoundError):
            vcpu.enter()
        kvm_guest.connect_bell(BELL, second)
        assert vcpu.enter().guest_io.port == 0x80
        assert vcpu.returns == 2
        assert is_fired(second)
    end(second)
    kvm_guest.set_trap_mem(BELL, PAGE, 0)


def test_closing_one_of_two_handles_of_the_interrupt_ends_nothing(kvm_guest: Guest, irq: Interrupt) -> None:
    kvm_guest.connect_bell(BELL, irq)
    irq.duplicate().close()
    with run(kvm_guest, "a20000") as vcpu:
        vcpu.enter()
    assert is_fired(irq)


def test_a_guest_that_ends_leaves_the_interrupt_to_the_others(
    kvm_guest: Guest, irq: Interrupt, other_guest: Guest
) -> None:
    kvm_guest.connect_bell(BELL, irq)
    other_guest.connect_bell(BELL, irq)
    kvm_guest.close()
    with run(other_guest, "a20000") as vcpu:
        vcpu.enter()
    assert is_fired(irq)
    irq.trigger()
    assert is_fired(irq)


def test_a_destroyed_interrupt_is_canceled(kvm_guest: Guest, irq: Interrupt) -> None:
    irq.destroy()
    with pytest.raises(kvmbind.CanceledError, match=r"^Guest.connect_bell: "):
        kvm_guest.connect_bell(BELL, irq)
    assert kvm_guest.read(BELL, 1) == b"\0"


@pytest.mark.parametrize("addr", [-1, 1 << 48, 1 << 64])
def test_an_address_outside_the_guests_is_invalid(kvm_guest: Guest, irq: Interrupt, addr: int) -> None:
    with pytest.raises(kvmbind.InvalidArgsError):
        kvm_guest.connect_bell(addr, irq)


def test_it_needs_the_right_to_write_the_guest_and_the_right_to_signal_the_interrupt(
    kvm_guest: Guest, irq: Interrupt
) -> None:
    with kvm_guest.duplicate(kvm_guest.rights & ~ZX_RIGHT_WRITE) as less, pytest.raises(kvmbind.AccessDeniedError):
        less.connect_bell(BELL, irq)
    with irq.duplicate(irq.rights & ~ZX_RIGHT_SIGNAL) as less_irq, pytest.raises(kvmbind.AccessDeniedError):
        kvm_guest.connect_bell(BELL, less_irq)
    with irq.duplicate(ZX_RIGHT_SIGNAL) as enough:
        kvm_guest.connect_bell(BELL, enough)


def test_a_failure_leaves_memory_and_address_as_they_were(
    kvm_guest: Guest, irq: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kvmbind.zircon.address_space import AddressSpace

    def refuse(space: AddressSpace, call: str, start: int, length: int) -> None:
        raise kvmbind.NoResourcesError(call, "there is no slot")

    with monkeypatch.context() as patch:
        patch.setattr(AddressSpace, "unmap", refuse)
        with pytest.raises(kvmbind.NoResourcesError):
            kvm_guest.connect_bell(BELL, irq)
    assert kvm_guest.read(BELL, 1) == b"\0"
    kvm_guest.connect_bell(BELL, irq)
    with run(kvm_guest, "a20000") as vcpu:
        vcpu.enter()
    assert is_fired(irq)


def test_guests_and_interrupts_that_end_in_any_order_on_several_threads_leave_no_fd(
    count_fds: Callable[[], int],
) -> None:
    before, order = count_fds(), random.Random(1)
    for _ in range(10):
        guests = [Guest.create() for _ in range(3)]
        irqs = [Interrupt.create(0x40) for _ in range(3)]
        for guest in guests:
            for number, irq in enumerate(irqs):
                guest.connect_bell(BELL + number, irq)
        objects: list[Guest | Interrupt] = [*guests, *irqs]
        order.shuffle(objects)
        threads = [threading.Thread(target=obj.close) for obj in objects]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert count_fds() == before
