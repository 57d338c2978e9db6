"""Why the device refuses, and what to do about it: one table for all who open it. Only facts: nothing here is compiled.

An exception and a line of pytest's have room for a sentence. The doctor, which knows the place that it runs in, builds
its steps of the same commands. A fault has one name everywhere, that of its section in the troubleshooting guide; but
the doctor finds out more about `absent` and `denied`, and has names for what it finds.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from kvmbind.kvm.capabilities import Capability

#: The only one since Linux 2.6.22: user space must refuse any other.
API_VERSION: Final = 12

JOIN_GROUP: Final = "sudo usermod -aG {group} $USER"
PASS_IN: Final = "--device {device}"
RAISE_FD_LIMIT: Final = "ulimit -n $(ulimit -Hn)"


class Refusal(NamedTuple):
    """What is wrong with a device, and the remedy; names in braces are facts of the case."""

    fault: str
    fact: str
    remedy: str

    def sentence(self, device: str, **facts: str) -> str:
        """Says both, of a device."""
        return f"{self.fact}: {self.remedy}".format(device=device, group="kvm", **facts)


_ABSENT: Final = Refusal(
    "absent",
    "{device} does not exist",
    "load kvm_intel or kvm_amd (sudo modprobe), switch virtualization on in the firmware or in the outer hypervisor, "
    f"or give a container {PASS_IN}; kvmbind doctor tells which",
)
NOT_KVM: Final = Refusal("not-kvm", "{device} is no KVM device", "name the one that is, usually /dev/kvm")
API: Final = Refusal(
    "api-version", f"{{device}} does not speak version {API_VERSION} of KVM's API", "use Linux's own KVM"
)
_NO_FDS: Final = Refusal(
    "no-fds", "{device} cannot be opened: {reason}", f"close files, or raise the limit ({RAISE_FD_LIMIT})"
)
LACKING: Final = Refusal(
    "old-kernel",
    "{device} lacks {capability}, needed {purpose}",
    "use an x86-64 host with Linux 4.18 or newer and its own KVM",
)
_OTHER: Final = Refusal("device-error", "{device} cannot be opened: {reason}", "kvmbind doctor looks into it")

#: By the errno of open(2), or of KVM_GET_API_VERSION; EPROTO is ours, for another version.
_BY_ERRNO: Final = {
    errno.ENOENT: _ABSENT,
    errno.ENXIO: _ABSENT._replace(fact="{device} has no driver"),
    errno.ENODEV: _ABSENT._replace(fact="{device} has no driver"),
    errno.EACCES: Refusal(
        "denied",
        "{device} may not be opened",
        f"join its group ({JOIN_GROUP}, then log in again); kvmbind doctor tells if it is something else",
    ),
    errno.EPERM: Refusal(  # whatever the file's mode: a cgroup's device rules
        "device-rule", "{device} may not be opened in this container", f"start it with {PASS_IN}"
    ),
    errno.EMFILE: _NO_FDS,
    errno.ENFILE: _NO_FDS,
    errno.ENOTTY: NOT_KVM,
    errno.EPROTO: API,
}


def refusal_of(number: int) -> Refusal:
    """Returns what an errno of opening the device means."""
    return _BY_ERRNO.get(number, _OTHER)


def refused(number: int, device: str) -> OSError:
    """Makes the error of a device that does not open, or is not KVM's: its text says what to do."""
    return OSError(number, refusal_of(number).sentence(device, reason=os.strerror(number)))


def lacks(capability: Capability, device: str) -> OSError:
    """Makes the error of a device that lacks what every guest needs."""
    sentence = LACKING.sentence(device, capability=capability.name, purpose=capability.purpose)
    return OSError(errno.EOPNOTSUPP, sentence)
