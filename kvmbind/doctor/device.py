"""The device: does it open, is it KVM's, does it make a virtual machine. And if not, why not."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.doctor.findings import Finding
from kvmbind.doctor.module import loaded
from kvmbind.kvm import probe
from kvmbind.kvm.refusals import API, API_VERSION, NOT_KVM, refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from kvmbind.doctor.place import Files, Place

_KVM_CREATE_VM = 0xAE01


@contextmanager
def opened(path: str) -> Iterator[tuple[int, OSError | None]]:
    """Opens the device for reading and writing, and closes it at the end. The second value is why it did not open."""
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(probe.opened(path))
        except OSError as os_error:
            yield -1, os_error
            return
        yield fd, None


class Node(NamedTuple):
    """The file of a device: who may open it, and who asks.

    group: the name of its group; members: whom the system's database of groups lists there. groups: the ids that this
    process has; user: its name.
    """

    path: str
    mode: int
    uid: int
    gid: int
    group: str
    members: tuple[str, ...]
    user: str
    groups: tuple[int, ...]

    @classmethod
    def look(cls, path: str) -> Self | None:
        """Looks at a file; None if there is none."""
        try:
            facts = os.stat(path)
        except OSError:
            return None
        group, members = _group(facts.st_gid)
        return cls(
            path=path,
            mode=stat.S_IMODE(facts.st_mode),
            uid=facts.st_uid,
            gid=facts.st_gid,
            group=group,
            members=members,
            user=_user(os.geteuid()),
            groups=(os.getegid(), *os.getgroups()),
        )

    @property
    def fault(self) -> str:
        """Why this process may not open it, as far as the file's mode says."""
        group_may = self.mode & 0o060 == 0o060
        if self.mode & 0o006 == 0o006 or (group_may and self.gid in self.groups):
            return "security-module"
        if not group_may or self.gid == 0:
            return "owner-only"
        return "login-again" if self.user in self.members else "group"


def refusal(os_error: OSError, node: Node | None, place: Place, files: Files) -> Finding:
    """Returns why a device did not open, and the remedy.

    Args:
        os_error: What opening it raised.
        node: Its file, None if there is none.
        place: Where this process is.
        files: Where to look for KVM's modules.
    """
    path = os.fspath(os_error.filename)
    number = os_error.errno or 0
    fault = refusal_of(number).fault
    if fault == "absent":
        missing = "does not exist" if node is None else "has no driver"
        fault = _why_no_device(place, files)
        return Finding.wrong("device", f"{path} {missing}: {_ABSENT[fault]}", fault, place, device=path)
    if fault == "denied":
        if node is not None:
            return _denied(node, place)
        fault = "security-module"  # not even its mode may be looked at
    summary = f"{path} does not open: {os_error.strerror} ({errno.errorcode.get(number)})"
    return Finding.wrong("device", summary, fault, place, device=path)


def examine(fd: int, path: str, place: Place) -> Iterator[Finding]:
    """Yields whether an open device is KVM's, and whether it makes a virtual machine."""
    try:
        version = probe.api_version(fd)
    except OSError as os_error:
        summary = f"{path} is not KVM's device: {os_error.strerror}"
        yield Finding.wrong("api", summary, NOT_KVM.fault, place, device=path)
        return
    if version != API_VERSION:
        summary = f"{path} speaks version {version} of KVM's API, not {API_VERSION}"
        yield Finding.wrong("api", summary, API.fault, place, version=version)
        return
    yield Finding.fine("api", f"version {version}", version=version)
    yield _make_vm(fd, path, place)


def _make_vm(fd: int, path: str, place: Place) -> Finding:
    while True:
        try:
            os.close(fcntl.ioctl(fd, _KVM_CREATE_VM, 0))
        except InterruptedError:  # KVM starts a thread for it, which a signal in that moment fails
            continue
        except OSError as os_error:
            fault = "busy" if os_error.errno == errno.EBUSY else "vm-refused"
            return Finding.wrong("vm", f"{path} makes no virtual machine: {os_error.strerror}", fault, place)
        return Finding.fine("vm", "KVM makes a virtual machine")


_ABSENT = {
    "not-passed-in": "the host has KVM, and this container was not given it",
    "no-node": "KVM's module is loaded, but there is no file for it",
    "no-module": "no module of KVM is loaded",
    "no-nesting": "this virtual machine may make none of its own",
    "no-virtualization": "the CPU offers no virtualization",
}


def _why_no_device(place: Place, files: Files) -> str:
    if loaded(files):
        return "not-passed-in" if place.container else "no-node"
    if place.virtualization:
        return "no-module"
    return "no-nesting" if place.hypervisor else "no-virtualization"


def _denied(node: Node, place: Place) -> Finding:
    facts: dict[str, str | int] = {
        "device": node.path,
        "mode": f"{node.mode:04o}",
        "uid": node.uid,
        "gid": node.gid,
        "group": node.group,
        "user": node.user,
    }
    summary = f"{node.path} may not be opened by {node.user}: its mode is {node.mode:04o}, its group {node.group}"
    return Finding.wrong("device", summary, node.fault, place, **facts)


def _group(gid: int) -> tuple[str, tuple[str, ...]]:
    import grp

    try:
        entry = grp.getgrgid(gid)
    except KeyError:
        return str(gid), ()
    return entry.gr_name, tuple(entry.gr_mem)


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
