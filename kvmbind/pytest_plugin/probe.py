"""Whether KVM works, and what it is: asked of the device itself, by system calls that need nothing compiled."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final

from kvmbind.kvm.capabilities import OPTIONAL, REQUIRED

_KVM_GET_API_VERSION: Final = 0xAE00
_KVM_CHECK_EXTENSION: Final = 0xAE03
_API_VERSION: Final = 12  # the only one since Linux 2.6.22; user space must refuse any other


def find_problem(device: str) -> str | None:
    """Tells what keeps ``device`` from working as KVM, and the remedy.

    Opens it for reading and writing, asks for its version (``KVM_GET_API_VERSION``) and for what every guest
    needs (``KVM_CHECK_EXTENSION``).

    Args:
        device: path of the device, ``/dev/kvm``.

    Returns:
        One sentence, or None when KVM works.
    """
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return (
            f"{device} does not exist: load kvm_intel or kvm_amd, with virtualization enabled in the firmware"
            f" (in a virtual machine: nested virtualization; in a container: --device {device})"
        )
    except PermissionError as error:
        if error.errno == errno.EPERM:  # not the file's mode: a container's device rules
            return f"{device} may not be opened in this container: start it with --device {device}"
        return f"{device} may not be opened by this user: sudo usermod -aG kvm $USER, then log in again"
    except OSError as error:
        return f"{device} cannot be opened ({error.strerror}): load kvm_intel or kvm_amd"
    try:
        return _find_problem_of(fd, device)
    finally:
        os.close(fd)


def _find_problem_of(fd: int, device: str) -> str | None:
    try:
        version = fcntl.ioctl(fd, _KVM_GET_API_VERSION)
    except OSError as error:
        return f"{device} is not KVM's device ({error.strerror}): remove it, then load kvm_intel or kvm_amd"
    if version != _API_VERSION:
        return f"{device} has KVM's API version {version}, not {_API_VERSION}: run a mainline kernel's KVM"
    for number, name, purpose in REQUIRED:
        if fcntl.ioctl(fd, _KVM_CHECK_EXTENSION, number) <= 0:
            return f"{device} lacks {name}, needed {purpose}: use an x86-64 host with Linux 4.18 or newer"
    return None


def describe(device: str) -> str:
    """Says what a ``device`` that works is: its module, its version, and what it lacks of what some guests need."""
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        version = fcntl.ioctl(fd, _KVM_GET_API_VERSION)
        lacking = [name for number, name, _ in OPTIONAL if fcntl.ioctl(fd, _KVM_CHECK_EXTENSION, number) <= 0]
    finally:
        os.close(fd)
    parts = [_module() or device, f"API {version}"]
    if lacking:
        parts.append(f"lacks {', '.join(lacking)}")
    return ", ".join(parts)


def _module() -> str:
    try:
        names = os.listdir("/sys/module")
    except OSError:
        return ""
    return next((name for name in sorted(names) if name.startswith("kvm_")), "")
