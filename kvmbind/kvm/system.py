"""/dev/kvm: what this host's KVM can do, and whether that is enough."""

from __future__ import annotations

import os

from kvmbind._shim import ffi, lib
from kvmbind.kvm.calls import check
from kvmbind.kvm.capabilities import REQUIRED
from kvmbind.kvm.descriptors import Descriptor
from kvmbind.kvm.refusals import lacks, refused

NR_VCPUS_MAX = 66
NR_MEMSLOTS = 10
IRQ_ROUTING = 25


class System(Descriptor):
    """An open /dev/kvm.

    Threads: any thread may use it. Its owner closes it when nobody is inside a call on it.
    """

    __slots__ = ("_capabilities", "address_bits", "cpuid", "device", "run_size")

    def __init__(self, device: str = "/dev/kvm") -> None:
        """Opens `device` and checks that it can do what kvmbind needs.

        Raises:
            OSError: It cannot be opened, or lacks something; the message says what to do.
        """
        self.device = device
        self._capabilities: dict[int, int] = {}
        try:
            super().__init__("open", lambda slot: lib.kb_system_open(slot, os.fsencode(device)))
        except OSError as error:
            raise refused(error.errno or 0, device) from error
        try:
            self._require_capabilities()
            self.run_size = check(lib.kb_vcpu_run_size(self.fd), "KVM_GET_VCPU_MMAP_SIZE")
            self.cpuid = ffi.gc(ffi.new("struct kb_cpuid *"), lib.kb_cpuid_free)
            check(lib.kb_cpuid_read(self.cpuid, self.fd), "KVM_GET_SUPPORTED_CPUID")
            self.address_bits = lib.kb_cpuid_address_bits(self.cpuid)
        except BaseException:
            self.close()
            raise

    def _require_capabilities(self) -> None:
        for capability in REQUIRED:
            if self.capability(capability.number) <= 0:
                raise lacks(capability, self.device)

    def capability(self, number: int) -> int:
        """Returns what KVM_CHECK_EXTENSION answers for a KVM_CAP_* number: 0 if it is not there."""
        if number not in self._capabilities:
            self._capabilities[number] = lib.kb_check_extension(self.fd, number)
        return self._capabilities[number]
