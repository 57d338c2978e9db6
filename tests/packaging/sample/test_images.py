"""What a project does that has only installed kvmbind: no file of its source is on any path."""

from __future__ import annotations

import pytest

import kvmbind


@pytest.mark.kvm
def test_the_image_counts_what_reaches_it(kvm_guest: kvmbind.Guest) -> None:
    kvm_guest.write(kvmbind.guests.COUNTER, 0x1000)
    with kvm_guest.start_vcpu(entry=0x1000) as vcpu, kvmbind.Interrupt.create(vector=0x40) as irq:
        irq.bind_vcpu(vcpu)
        irq.trigger()
        kvm_guest.wait_u32(0x8000, 1, timeout_s=5)
        assert vcpu.returns == 0
