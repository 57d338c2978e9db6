"""The device, asked by system calls that need nothing compiled: for those who must know it where the shim is broken."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from kvmbind.kvm.refusals import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

_KVM_GET_API_VERSION: Final = 0xAE00
_KVM_CHECK_EXTENSION: Final = 0xAE03


@contextmanager
def opened(device: str) -> Iterator[int]:
    """Opens a device for reading and writing, and closes it at the end.

    Raises:
        OSError: What open(2) answered.
    """
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def api_version(fd: int) -> int:
    """Returns what KVM_GET_API_VERSION answers.

    Raises:
        OSError: The device is not KVM's.
    """
    return fcntl.ioctl(fd, _KVM_GET_API_VERSION)


def require_version(fd: int) -> None:
    """Makes sure that a device is KVM's, and speaks the one version.

    Raises:
        OSError: It is not, or speaks another (EPROTO), as the shim has it.
    """
    if api_version(fd) != API_VERSION:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))


def capability(fd: int, number: int) -> int:
    """Returns what KVM_CHECK_EXTENSION answers for a KVM_CAP_* number: 0 if it is not there."""
    return fcntl.ioctl(fd, _KVM_CHECK_EXTENSION, number)
