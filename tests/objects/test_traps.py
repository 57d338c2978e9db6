"""Guest.set_trap_*: what they refuse, whose port a bell needs, and what a failure leaves."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest
from kvmbind.kvm import epoll, eventfd, vm
from kvmbind.zx import ZX_RIGHT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.kvm

PAGE = 4096
BELL = 0xD0000
#: mov ax, D000h; mov ds, ax; mov [0], al; mov [8], al; out 80h, al
IMAGE = bytes.fromhex("b800d0 8ed8 a20000 a20800 e680")


@pytest.mark.parametrize(
    ("addr", "size", "key", "error"),
    [
        (-PAGE, PAGE, 0, kvmbind.InvalidArgsError),
        (0, -PAGE, 0, kvmbind.InvalidArgsError),
        (0, PAGE, -1, kvmbind.InvalidArgsError),
        (0, PAGE, 1 << 64, kvmbind.InvalidArgsError),
        (0, 0, 0, kvmbind.InvalidArgsError),
        (1, PAGE, 0, kvmbind.InvalidArgsError),
        (0, 1 << 80, 0, kvmbind.OutOfRangeError),
        (0x80000, PAGE, 0, kvmbind.AlreadyExistsError),
    ],
)
def test_memory_and_bell_traps_refuse_what_the_call_refuses(
    kvm_guest: Guest, addr: int, size: int, key: int, error: type[kvmbind.ZxError]
) -> None:
    kvm_guest.set_trap_mem(0x80000, PAGE, 1)
    with pytest.raises(error, match=r"^zx_guest_set_trap: "):
        kvm_guest.set_trap_mem(addr, size, key)
    with kvmbind.Port.create() as port, pytest.raises(error, match=r"^zx_guest_set_trap: "):
        kvm_guest.set_trap_bell(addr, size, port, key)


def test_a_bell_needs_the_write_right_of_its_port_and_an_open_one(kvm_guest: Guest) -> None:
    with kvmbind.Port.create() as port:
        with port.duplicate(port.rights & ~ZX_RIGHT_WRITE) as less, pytest.raises(kvmbind.AccessDeniedError):
            kvm_guest.set_trap_bell(BELL, PAGE, less, 0)
        port.close()
        with pytest.raises(kvmbind.BadHandleError):
            kvm_guest.set_trap_bell(BELL, PAGE, port, 0)


def rings(guest: Guest, port: kvmbind.Port) -> list[int]:
    """Lets the guest ring twice, and returns where."""
    guest.write(IMAGE, 0x1000)
    guest.set_trap_io(0x80, 1, 0)
    with kvmbind.Vcpu.create(guest, 0x1000) as vcpu:
        vcpu.enter()
    return [port.wait(0).guest_bell.addr - BELL for _ in range(2)]


STEPS = [(eventfd.EventFd, "create"), (vm.Vm, "assign_ioeventfd"), (epoll.Epoll, "watch"), (vm.Vm, "add_bell_range")]


@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
def test_a_step_that_fails_leaks_nothing_and_the_next_try_works(
    kvm_guest: Guest,
    owner: type,
    step: str,
    count_fds: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with kvmbind.Port.create() as port:
        before = count_fds()
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, fail)
            with pytest.raises(kvmbind.NoResourcesError):
                kvm_guest.set_trap_bell(BELL, PAGE, port, 0)
        assert count_fds() == before
        kvm_guest.set_trap_bell(BELL, PAGE, port, 0)
        assert rings(kvm_guest, port) == [0, 8]


def test_a_guest_may_have_hundreds_of_bells_each_with_its_own_packets(kvm_guest: Guest) -> None:
    with kvmbind.Port.create() as port:
        for number in range(300):
            kvm_guest.set_trap_bell(BELL + number * PAGE, PAGE, port, number)
        assert rings(kvm_guest, port) == [0, 8]
        with pytest.raises(kvmbind.TimedOutError):
            port.wait(0)


def test_a_closed_guest_gives_its_fds_and_the_port_back(count_fds: Callable[[], int]) -> None:
    before = count_fds()
    for _ in range(3):
        with Guest.create(memory=1 << 20) as guest, kvmbind.Port.create() as port:
            guest.set_trap_bell(BELL, PAGE, port, 0)
            port.close()
            guest.set_trap_bell(BELL + PAGE, PAGE, kvm_port := kvmbind.Port.create(), 0)
            guest.close()
            kvm_port.close()
        assert count_fds() == before
