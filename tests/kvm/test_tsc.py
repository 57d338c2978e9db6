"""The guest's TSC is the host's plus an offset that KVM tells, and that lasts where the host's TSC is stable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvmbind._shim import lib
from kvmbind.kvm import tsc

if TYPE_CHECKING:
    from tests.conftest import Boot, Running

pytestmark = pytest.mark.kvm

# The kernel offers no clock that it takes for unstable.
CLOCKS = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource").read_text(encoding="ascii")
TSC_IS_STABLE = "tsc" in CLOCKS.split()


def offset_of(running: Running) -> int | None:
    from kvmbind.zircon import handles
    from kvmbind.zircon.guest import GuestDispatcher
    from kvmbind.zircon.vcpu import VcpuDispatcher

    vcpu = handles.find(running.vcpu.handle, VcpuDispatcher).kvm
    return handles.find(running.guest.handle, GuestDispatcher).vm.while_paused(lambda: tsc.offset(vcpu))


def test_an_offset_lasts_where_the_hosts_tsc_is_stable(boot: Boot) -> None:
    from kvmbind import guests

    running = boot(guests.STAMP)
    offset = offset_of(running)
    running.answer(lambda: running.vcpu.interrupt(0x40), times=10)
    assert offset_of(running) == offset
    assert (offset is not None) == TSC_IS_STABLE


@pytest.mark.xfail(not TSC_IS_STABLE, reason="the kernel takes the host's TSC for unstable", strict=True)
def test_a_guests_stamp_less_the_offset_lies_between_the_hosts_times(boot: Boot) -> None:
    from kvmbind import guests

    running = boot(guests.STAMP)
    offset = offset_of(running)
    assert offset is not None
    before = lib.kb_tsc()
    running.vcpu.interrupt(0x40)
    running.wait(1)
    stamp = int.from_bytes(running.guest.read(0x9000, 8), "little")
    assert before < (stamp - offset) % (1 << 64) < lib.kb_tsc()
