"""Whatever is closed or destroyed while it is in use ends cleanly, and nothing else ends with it."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import guests, zx
from kvmbind.zx import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import Boot, MakeInterrupt, WaitUntil

ENTRY = 0x1000
COUNT = 0x8000
DEADLINE_S = 60.0


class Thread(threading.Thread):
    """A thread that keeps what its work returned, and raises nothing but what the test sees to."""

    def __init__(self, work: Callable[[], object]) -> None:
        """Starts it."""
        super().__init__(daemon=True)
        self._work = work
        self.result: object = "it raised"
        self.start()

    def run(self) -> None:
        """Works."""
        try:
            self.result = self._work()
        except kvmbind.ZxError as error:
            self.result = error.status

    def ended(self) -> object:
        """Waits for its end and returns the result."""
        self.join(DEADLINE_S)
        assert not self.is_alive(), "it hangs"
        return self.result


def entering(guest: kvmbind.Guest) -> tuple[Thread, int]:
    """Returns a thread that enters a new VCPU, and the VCPU's handle."""
    handles: list[int] = []
    made = threading.Event()

    def work() -> object:
        handles.append(zx.zx_vcpu_create(guest.handle, 0, ENTRY)[1])
        made.set()
        return zx.zx_vcpu_enter(handles[0])[0]

    thread = Thread(work)
    assert made.wait(DEADLINE_S)
    return thread, handles[0]


def is_ready(vmo: int) -> bool:
    """Whether COUNTER has set itself up in this memory."""
    return zx.zx_vmo_read(vmo, 0x7000, 1)[1] == b"\1"


@pytest.mark.kvm
def test_closing_the_last_handle_of_a_running_vcpu_cancels_its_enter(wait_until: WaitUntil) -> None:
    with kvmbind.Guest.create(memory=1 << 20) as guest:
        guest.write(guests.COUNTER, ENTRY)
        thread, vcpu = entering(guest)
        wait_until(lambda: guest.read(0x7000, 1) == b"\1")
        assert zx.zx_handle_close(vcpu) is Status.OK
        assert thread.ended() is Status.CANCELED


@pytest.mark.kvm
def test_closing_one_of_two_handles_of_a_running_vcpu_does_not_stop_it(wait_until: WaitUntil) -> None:
    with kvmbind.Guest.create(memory=1 << 20) as guest:
        guest.write(guests.COUNTER, ENTRY)
        thread, vcpu = entering(guest)
        status, other = zx.zx_handle_duplicate(vcpu, zx.ZX_RIGHT_SAME_RIGHTS)
        assert status is Status.OK
        wait_until(lambda: guest.read(0x7000, 1) == b"\1")
        zx.zx_handle_close(vcpu)
        assert zx.zx_vcpu_interrupt(other, 0x40) is Status.OK
        guest.wait_u32(COUNT, 1, timeout_s=DEADLINE_S)
        assert thread.is_alive()
        zx.zx_handle_close(other)
        assert thread.ended() is Status.CANCELED


@pytest.mark.kvm
def test_every_handle_may_be_closed_while_a_vcpu_runs_in_any_order(
    count_fds: Callable[[], int], wait_until: WaitUntil
) -> None:
    shuffle = random.Random(1).shuffle
    before = count_fds()
    for _ in range(60):
        root = zx.get_root_resource()
        _, guest, vmar = zx.zx_guest_create(root, 0)
        _, vmo = zx.zx_vmo_create(1 << 20, 0)
        zx.zx_vmo_write(vmo, guests.COUNTER, ENTRY)
        options = zx.ZX_VM_PERM_READ | zx.ZX_VM_PERM_WRITE | zx.ZX_VM_PERM_EXECUTE | zx.ZX_VM_SPECIFIC
        assert zx.zx_vmar_map(vmar, options, 0, vmo, 0, 1 << 20) == (Status.OK, 0)
        thread, vcpu = entering(kvmbind.Guest.borrow(guest))
        _, interrupt = zx.zx_interrupt_create(0, 0x40, zx.ZX_INTERRUPT_VIRTUAL)
        assert zx.zx_interrupt_bind_vcpu(interrupt, vcpu, 0) is Status.OK
        wait_until(partial(is_ready, vmo))
        everything = [root, guest, vmar, vmo, vcpu, interrupt]
        shuffle(everything)
        for handle in everything:
            zx.zx_interrupt_trigger(interrupt, 0, 0)
            assert zx.zx_handle_close(handle) is Status.OK
        assert thread.ended() is Status.CANCELED
    kvmbind.settle()
    assert count_fds() == before


@pytest.mark.kvm
def test_a_bound_interrupt_keeps_its_vcpu_and_guest_when_all_their_handles_are_closed(
    count_fds: Callable[[], int], make_interrupt: MakeInterrupt
) -> None:
    before = count_fds()
    irq = make_interrupt()
    with kvmbind.Guest.create(memory=1 << 20) as guest:
        guest.write(guests.COUNTER, ENTRY)
        memory = guest.memory.duplicate()
        with kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
            irq.bind_vcpu(vcpu)
    kept = count_fds()
    irq.trigger()
    assert count_fds() == kept > before + 2
    irq.close()
    memory.close()
    kvmbind.settle()
    assert count_fds() == before


@pytest.mark.kvm
def test_triggers_still_land_in_a_running_vcpu_whose_guest_and_memory_are_closed(
    make_interrupt: MakeInterrupt, wait_until: WaitUntil
) -> None:
    irq = make_interrupt()
    with kvmbind.Guest.create(memory=1 << 20) as guest:
        guest.write(guests.COUNTER, ENTRY)
        seen = guest.memory.view()
        thread, vcpu = entering(guest)
        assert zx.zx_interrupt_bind_vcpu(irq.handle, vcpu, 0) is Status.OK
        wait_until(lambda: guest.read(0x7000, 1) == b"\1")
    for count in range(1, 101):
        irq.trigger()
        wait_until(lambda: int.from_bytes(seen[COUNT : COUNT + 4], "little") == count)  # noqa: B023  # called at once
    zx.zx_handle_close(vcpu)
    assert thread.ended() is Status.CANCELED


@pytest.mark.kvm
def test_a_guest_does_not_close_its_vm_while_somebody_maps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvmbind.kvm import slots
    from kvmbind.kvm.vm import Vm

    order: list[str] = []
    inside, go_on = threading.Event(), threading.Event()
    exchange, close = slots.exchange, Vm.close

    def slowly(exchanges: Sequence[slots.Exchange]) -> None:
        inside.set()
        assert go_on.wait(DEADLINE_S)
        exchange(exchanges)
        order.append("mapped")

    def recorded(vm: Vm) -> None:
        order.append("closed")
        close(vm)

    with kvmbind.Vmo.create(4096) as vmo:
        guest = kvmbind.Guest.create()
        with guest.vmar.duplicate() as vmar:
            monkeypatch.setattr(slots, "exchange", slowly)
            monkeypatch.setattr(Vm, "close", recorded)
            mapping = Thread(lambda: vmar.map(vmo, 0))
            assert inside.wait(DEADLINE_S)
            closing = Thread(guest.close)
            closing.join(0.05)  # time to do it wrong
            go_on.set()
            assert mapping.ended() == 0
            closing.ended()
            assert order == ["mapped", "closed"]
            with pytest.raises(kvmbind.BadStateError):
                vmar.map(vmo, 4096)


@pytest.mark.kvm
def test_memory_that_is_mapped_while_the_guest_closes_is_mapped_or_refused(count_fds: Callable[[], int]) -> None:
    before = count_fds()
    for _ in range(100):
        with kvmbind.Vmo.create(4096) as vmo:
            guest = kvmbind.Guest.create()
            with guest.vmar.duplicate() as vmar:
                started = threading.Barrier(2)

                def churn(
                    vmar: kvmbind.Vmar = vmar, vmo: kvmbind.Vmo = vmo, started: threading.Barrier = started
                ) -> None:
                    started.wait()
                    while True:
                        vmar.unmap(vmar.map(vmo), 4096)

                thread = Thread(churn)
                started.wait()
                guest.close()
                assert thread.ended() is Status.BAD_STATE
    assert count_fds() == before


@pytest.mark.kvm
def test_destroying_an_interrupt_ends_its_hold_on_the_vcpu(count_fds: Callable[[], int]) -> None:
    before = count_fds()
    with kvmbind.Interrupt.create(0x40) as irq:
        with kvmbind.Guest.create(memory=1 << 20) as guest, kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
            irq.bind_vcpu(vcpu)
        irq.destroy()
        assert count_fds() == before + 1  # its eventfd


@pytest.mark.kvm
def test_destroying_while_others_trigger_gives_each_of_them_ok_or_canceled(boot: Boot) -> None:
    running = boot(guests.COUNTER)
    for _ in range(50):
        with kvmbind.Interrupt.create(0x40) as irq:
            irq.bind_vcpu(running.vcpu)
            started = threading.Barrier(3)

            def trigger(handle: int = irq.handle, started: threading.Barrier = started) -> object:
                started.wait()
                while (status := zx.zx_interrupt_trigger(handle, 0, 0)) is Status.OK:
                    pass
                return status

            threads = [Thread(trigger) for _ in range(2)]
            started.wait()
            irq.destroy()
            assert [thread.ended() for thread in threads] == [Status.CANCELED] * 2
    assert running.returns == 0


@pytest.mark.kvm
def test_binding_while_the_interrupt_is_closed_binds_or_says_what_is_gone(
    boot: Boot, count_fds: Callable[[], int]
) -> None:
    running = boot(guests.COUNTER, 2)
    before = count_fds()
    for _ in range(200):
        irq = kvmbind.Interrupt.create(0x40)
        handle, started = irq.handle, threading.Barrier(2)

        def bind(handle: int = handle, started: threading.Barrier = started) -> object:
            started.wait()
            return [zx.zx_interrupt_bind_vcpu(handle, vcpu.handle, 0) for vcpu in running.vcpus]

        thread = Thread(bind)
        started.wait()
        irq.close()
        statuses = thread.ended()
        assert isinstance(statuses, list)
        assert set(statuses) <= {Status.OK, Status.CANCELED, Status.BAD_HANDLE}
    assert count_fds() == before
    running.answer(lambda: running.vcpu.interrupt(0x40))


def test_closing_a_port_cancels_the_threads_that_wait_for_it(count_fds: Callable[[], int]) -> None:
    before = count_fds()
    port = kvmbind.Port.create(interrupts=True)
    threads = [Thread(port.wait) for _ in range(3)]
    port.close()
    assert {thread.ended() for thread in threads} <= {Status.CANCELED, Status.BAD_HANDLE}
    assert count_fds() == before


def test_an_interrupt_outlives_the_port_that_it_is_bound_to(count_fds: Callable[[], int]) -> None:
    before = count_fds()
    with kvmbind.Interrupt.create() as irq:
        with kvmbind.Port.create(interrupts=True) as port:
            irq.bind(port, key=1)
            irq.trigger()
        irq.trigger()
        irq.ack()
    assert count_fds() == before


@pytest.mark.kvm
def test_a_storm_of_binds_triggers_kicks_and_closes_ends_with_every_fd_closed(count_fds: Callable[[], int]) -> None:
    before = count_fds()
    with kvmbind.Guest.create(memory=1 << 20) as guest:
        guest.write(guests.COUNTER, ENTRY)
        vcpus = [guest.start_vcpu(ENTRY) for _ in range(3)]
        interrupts = [kvmbind.Interrupt.create(0x40) for _ in range(8)]
        ports = [kvmbind.Port.create(interrupts=True) for _ in range(2)]

        replacing = threading.Lock()

        def storm(seed: int) -> None:
            choice = random.Random(seed).choice
            for _ in range(600):
                irq, vcpu, port = choice(interrupts), choice(vcpus), choice(ports)
                step = choice(["bind", "bind port", "trigger", "trigger", "wait", "ack", "destroy", "close", "stats"])
                with contextlib.suppress(kvmbind.ZxError):
                    if step == "bind":
                        irq.bind_vcpu(vcpu)
                    elif step == "bind port":
                        irq.bind(port, key=1)
                    elif step == "trigger":
                        irq.trigger()
                    elif step == "wait":
                        port.wait(timeout_s=0)
                    elif step == "ack":
                        irq.ack()
                    elif step == "stats":
                        vcpu.stats()
                    else:
                        with replacing:
                            place = choice(range(len(interrupts)))
                            irq, interrupts[place] = interrupts[place], kvmbind.Interrupt.create(0x40)
                        with irq:
                            irq.destroy() if step == "destroy" else irq.close()

        threads = [Thread(partial(storm, seed)) for seed in range(4)]
        for thread in threads:
            thread.ended()
        for vcpu in vcpus:
            assert vcpu.returns == 0
        for irq in interrupts:
            irq.close()
        for port in ports:
            port.close()
        count = guest.read_u32(COUNT)
        vcpus[0].interrupt(0x40)
        guest.wait_u32(COUNT, count + 1, timeout_s=DEADLINE_S)
    assert count_fds() == before


@pytest.mark.kvm
def test_a_storm_of_enters_kicks_and_closes_of_vcpus_ends_with_every_fd_closed(count_fds: Callable[[], int]) -> None:
    before = count_fds()
    with kvmbind.Guest.create(memory=1 << 20) as guest, kvmbind.Interrupt.create(0x40) as irq:
        guest.write(guests.PORT_LOOP, ENTRY)
        guest.set_trap_io(0x80, 1, key=1)
        vcpus = [0] * 3  # each thread's own: one that no disturber picks any more would run for ever
        allowed = {Status.OK, Status.CANCELED, Status.BAD_HANDLE, Status.BAD_STATE, Status.TIMED_OUT}

        def enter_vcpus(seed: int) -> None:
            choice = random.Random(seed).choice
            for _ in range(25):
                status, handle = zx.zx_vcpu_create(guest.handle, 0, ENTRY)
                assert status is Status.OK
                vcpus[seed] = handle
                while status in (Status.OK, Status.TIMED_OUT):
                    try:
                        kvmbind.Vcpu.borrow(handle).enter(timeout_s=choice([0, 0.001, 1]))
                        status = Status.OK
                    except kvmbind.ZxError as error:
                        status = error.status
                    assert status in allowed
                zx.zx_handle_close(handle)

        def disturb(seed: int) -> None:
            choice = random.Random(seed).choice
            while any(thread.is_alive() for thread in entered):
                for handle in vcpus:
                    step = choice([zx.zx_vcpu_kick, zx.zx_handle_close, bind, interrupt, look])
                    assert step(handle) in allowed

        def bind(handle: int) -> Status:
            return zx.zx_interrupt_bind_vcpu(irq.handle, handle, 0)

        def interrupt(handle: int) -> Status:
            return zx.zx_vcpu_interrupt(handle, 0x40)

        def look(handle: int) -> Status:
            return zx.zx_object_get_info(handle, zx.ZX_INFO_VCPU)[0]

        entered = [Thread(partial(enter_vcpus, seed)) for seed in range(3)]
        disturbers = [Thread(partial(disturb, seed)) for seed in range(2)]
        assert [thread.ended() for thread in (*entered, *disturbers)] == [None] * 5
    assert count_fds() == before


@pytest.mark.kvm
def test_a_guest_ends_in_the_order_irqfd_route_vcpu_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvmbind.kvm import eventfd, memory, vcpu, vm

    ended: list[str] = []

    def record(owner: type, method: str, name: str) -> None:
        original = getattr(owner, method)

        def recorded(self: object, *arguments: object) -> object:
            ended.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(owner, method, recorded)

    guest = kvmbind.Guest.create(memory=1 << 20)
    processor, irq = kvmbind.Vcpu.create(guest, ENTRY), kvmbind.Interrupt.create(0x40)
    irq.bind_vcpu(processor)
    record(vm.Vm, "deassign_irqfd", "irqfd")
    record(vm.Vm, "set_gsi_routing", "route")
    record(vcpu.Vcpu, "close", "vcpu")
    record(vm.Vm, "close", "vm")
    record(eventfd.EventFd, "close", "eventfd")
    record(memory.Memory, "close", "memory")
    guest.close()
    processor.close()
    assert ended == []
    irq.close()
    assert ended == ["irqfd", "route", "vcpu", "vm", "memory", "eventfd"]
