"""The guest's TSC is the host's plus an offset that KVM tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind._shim import lib
from kvmbind.kvm import tsc

if TYPE_CHECKING:
    from tests.conftest import Boot

pytestmark = pytest.mark.kvm


def test_a_guests_stamp_less_the_offset_lies_between_the_hosts_times(boot: Boot) -> None:
    from kvmbind import guests
    from kvmbind.zircon import handles
    from kvmbind.zircon.guest import GuestDispatcher
    from kvmbind.zircon.vcpu import VcpuDispatcher

    running = boot(guests.STAMP)
    vcpu = handles.find(running.vcpu.handle, VcpuDispatcher).kvm
    offset = handles.find(running.guest.handle, GuestDispatcher).vm.while_paused(lambda: tsc.offset(vcpu))
    before = lib.kb_tsc()
    running.vcpu.interrupt(0x40)
    running.wait(1)
    stamp = int.from_bytes(running.guest.read(0x9000, 8), "little")
    assert before < (stamp - offset) % (1 << 64) < lib.kb_tsc()
