"""A vCPU's time-stamp counter beside the host's."""

from __future__ import annotations

import fcntl
import struct
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmbind.kvm.vcpu import Vcpu

_GET_DEVICE_ATTR = 0x4018AEE2  # KVM_GET_DEVICE_ATTR
_TSC_CTRL, _TSC_OFFSET = 0, 0  # KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET
_ATTRIBUTE = struct.Struct("<IIQQ")  # struct kvm_device_attr: flags, group, attr, addr


def offset(vcpu: Vcpu) -> int | None:
    """Returns the guest's TSC less the host's, modulo 2^64; the caller keeps the vCPU out of KVM_RUN.

    None: there is none that lasts. Where the kernel takes the host's TSC for unstable, KVM sets a new one whenever it
    loads the vCPU (kvm_arch_vcpu_load in Linux's x86.c), as each KVM_RUN and each question does.

    Raises:
        OSError: EINVAL, ENXIO or ENOTTY: this kernel does not tell (before Linux 5.16).
    """
    first, second = _ask(vcpu), _ask(vcpu)
    return first if first == second else None


def _ask(vcpu: Vcpu) -> int:
    ticks = array("Q", [0])
    address, _ = ticks.buffer_info()
    fcntl.ioctl(vcpu.struct.fd, _GET_DEVICE_ATTR, _ATTRIBUTE.pack(0, _TSC_CTRL, _TSC_OFFSET, address))
    return ticks[0]
