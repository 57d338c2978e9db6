"""The exceptions that carry a status, and the table that makes a status of an errno.

There is one subclass of `ZxError` per status, named after it. Where a built-in exception means the same it is
that too: `except TimeoutError` catches `TimedOutError`.
"""

from __future__ import annotations

import builtins
import errno
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.abi.status import Status

if TYPE_CHECKING:
    from typing import Literal

    from kvmbind.kvm.exits import Exit


class Access(NamedTuple):
    """An access by the guest that nobody answers.

    `kind` is "io" or "memory", `addr` the port or the guest-physical address, `size` in bytes. `data` is
    what a write wrote, little-endian, and empty for a read.
    """

    kind: Literal["io", "memory"]
    addr: int
    size: int
    is_write: bool
    data: bytes = b""

    def __str__(self) -> str:
        """Says it in words: "write of 1 byte (05) to I/O port 0x80"."""
        verb, preposition = ("write", "to") if self.is_write else ("read", "from")
        what = f"{self.size} byte{'' if self.size == 1 else 's'}"
        value = f" ({self.data.hex()})" if self.data else ""
        place = "I/O port" if self.kind == "io" else "guest memory"
        return f"{verb} of {what}{value} {preposition} {place} {self.addr:#x}"


class ZxError(Exception):
    """A call that failed; raised as one of its subclasses, which say with which status.

    Args:
        call: the call that failed, such as "zx_interrupt_bind_vcpu", or "".
        hint: why, and what to do about it, or "".
        access: the guest's access that is the reason, or None.
        observed: the signals that a wait for signals has seen before it failed.
        exit: the exit from KVM_RUN that is the reason, or None.

    The facts stay attributes, the sentence is built by `str()`. An OSError that was the reason is
    `__cause__`. A subclass that is itself an OSError has no `errno`, `strerror` or `filename` of its own:
    they are None, the cause has them.
    """

    status: Status = Status.INTERNAL

    def __init__(
        self,
        call: str = "",
        hint: str = "",
        *,
        access: Access | None = None,
        observed: int = 0,
        exit: Exit | None = None,
    ) -> None:
        # Not super(): OSError would take the two for errno and strerror.
        Exception.__init__(self, call, hint)
        self.call = call
        self.hint = hint
        self.access = access
        self.observed = observed
        self.exit = exit

    def __str__(self) -> str:
        """Says it in one line: "zx_port_wait: TIMED_OUT (-21): nothing came"."""
        parts = [self.call, f"{self.status.name} ({self.status.value})", self.hint]
        if self.access is not None:
            parts.append(str(self.access))
        return ": ".join(filter(None, parts))


class InternalError(ZxError):
    """Something inside failed that no other status describes."""

    status = Status.INTERNAL


class NotSupportedError(ZxError, NotImplementedError):
    """This object, or this machine's KVM, cannot do it."""

    status = Status.NOT_SUPPORTED


class NoResourcesError(ZxError):
    """A limit was met: file descriptors, GSIs, VCPUs, memory slots."""

    status = Status.NO_RESOURCES


class NoMemoryError(ZxError, MemoryError):
    """There was no memory."""

    status = Status.NO_MEMORY


class InternalIntrRetryError(ZxError):
    """A signal interrupted the call: retry it."""

    status = Status.INTERNAL_INTR_RETRY


class InvalidArgsError(ZxError, ValueError):
    """An argument is wrong, whatever the state."""

    status = Status.INVALID_ARGS


class BadHandleError(ZxError, ValueError):
    """The handle is no handle, or not any more."""

    status = Status.BAD_HANDLE


class WrongTypeError(ZxError, TypeError):
    """The handle's object is of another type."""

    status = Status.WRONG_TYPE


class BadSyscallError(ZxError):
    """There is no such call."""

    status = Status.BAD_SYSCALL


class OutOfRangeError(ZxError, ValueError):
    """A number is outside what the object has."""

    status = Status.OUT_OF_RANGE


class BufferTooSmallError(ZxError):
    """The caller's buffer is too small."""

    status = Status.BUFFER_TOO_SMALL


class BadStateError(ZxError):
    """The object's state forbids it now."""

    status = Status.BAD_STATE


class TimedOutError(ZxError, TimeoutError):
    """The deadline passed first."""

    status = Status.TIMED_OUT


class ShouldWaitError(ZxError, BlockingIOError):
    """It would have to wait."""

    status = Status.SHOULD_WAIT


class CanceledError(ZxError):
    """It was kicked, destroyed or closed meanwhile."""

    status = Status.CANCELED


class PeerClosedError(ZxError):
    """The other end is closed."""

    status = Status.PEER_CLOSED


class NotFoundError(ZxError, LookupError):
    """There is no such thing; from enter: no trap and no memory at `access`."""

    status = Status.NOT_FOUND


class AlreadyExistsError(ZxError, FileExistsError):
    """Something is there already."""

    status = Status.ALREADY_EXISTS


class AlreadyBoundError(ZxError):
    """It is bound already."""

    status = Status.ALREADY_BOUND


class UnavailableError(ZxError):
    """The object cannot do it now, or was not made for it."""

    status = Status.UNAVAILABLE


class AccessDeniedError(ZxError, PermissionError):
    """A right is missing."""

    status = Status.ACCESS_DENIED


class IoError(ZxError, OSError):
    """Input or output failed."""

    status = Status.IO


class IoRefusedError(ZxError, OSError):
    """Input or output was refused."""

    status = Status.IO_REFUSED


class IoDataIntegrityError(ZxError, OSError):
    """The data are damaged."""

    status = Status.IO_DATA_INTEGRITY


class IoDataLossError(ZxError, OSError):
    """Data were lost."""

    status = Status.IO_DATA_LOSS


class IoNotPresentError(ZxError, OSError):
    """The device is not there."""

    status = Status.IO_NOT_PRESENT


class IoOverrunError(ZxError, OSError):
    """More data came than could be taken."""

    status = Status.IO_OVERRUN


class IoMissedDeadlineError(ZxError, OSError):
    """Input or output came too late."""

    status = Status.IO_MISSED_DEADLINE


class IoInvalidError(ZxError, OSError):
    """Input or output was asked for in a wrong way."""

    status = Status.IO_INVALID


class BadPathError(ZxError):
    """The path is malformed."""

    status = Status.BAD_PATH


class NotDirError(ZxError):
    """It is no directory."""

    status = Status.NOT_DIR


class NotFileError(ZxError):
    """It is no file."""

    status = Status.NOT_FILE


class FileBigError(ZxError):
    """The file is too big."""

    status = Status.FILE_BIG


class NoSpaceError(ZxError):
    """The file system is full."""

    status = Status.NO_SPACE


class NotEmptyError(ZxError):
    """The directory is not empty."""

    status = Status.NOT_EMPTY


class StopError(ZxError):
    """A callback asks to stop."""

    status = Status.STOP


class NextError(ZxError):
    """A callback asks for the next."""

    status = Status.NEXT


class AsyncError(ZxError):
    """A callback will finish later."""

    status = Status.ASYNC


class ProtocolNotSupportedError(ZxError):
    """The protocol is unknown."""

    status = Status.PROTOCOL_NOT_SUPPORTED


class AddressUnreachableError(ZxError):
    """The address cannot be reached."""

    status = Status.ADDRESS_UNREACHABLE


class AddressInUseError(ZxError):
    """The address is in use."""

    status = Status.ADDRESS_IN_USE


class NotConnectedError(ZxError):
    """There is no connection."""

    status = Status.NOT_CONNECTED


class ConnectionRefusedError(ZxError, builtins.ConnectionRefusedError):
    """The connection was refused."""

    status = Status.CONNECTION_REFUSED


class ConnectionResetError(ZxError, builtins.ConnectionResetError):
    """The connection was reset."""

    status = Status.CONNECTION_RESET


class ConnectionAbortedError(ZxError, builtins.ConnectionAbortedError):
    """The connection was aborted."""

    status = Status.CONNECTION_ABORTED


_CLASS_OF_STATUS = {cls.status: cls for cls in ZxError.__subclasses__()}

#: The status that an errno of the kernel means; any other is INTERNAL.
STATUS_OF_ERRNO = {
    errno.E2BIG: Status.NO_RESOURCES,
    errno.EACCES: Status.ACCESS_DENIED,
    errno.EAGAIN: Status.SHOULD_WAIT,
    errno.EBADF: Status.BAD_HANDLE,
    errno.EBUSY: Status.ALREADY_BOUND,  # KVM_IRQFD: this eventfd has an irqfd
    errno.ECANCELED: Status.CANCELED,
    errno.EEXIST: Status.ALREADY_EXISTS,
    errno.EFAULT: Status.NOT_FOUND,  # KVM_RUN: neither trap nor memory at that address
    errno.EINTR: Status.INTERNAL_INTR_RETRY,
    errno.EINVAL: Status.INVALID_ARGS,
    errno.EIO: Status.IO,
    errno.EMFILE: Status.NO_RESOURCES,
    errno.ENFILE: Status.NO_RESOURCES,
    errno.ENODEV: Status.NOT_FOUND,
    errno.ENOENT: Status.NOT_FOUND,
    errno.ENOMEM: Status.NO_MEMORY,
    errno.ENOSPC: Status.NO_RESOURCES,
    errno.ENOSYS: Status.NOT_SUPPORTED,
    errno.ENOTTY: Status.NOT_SUPPORTED,
    errno.ENXIO: Status.NOT_FOUND,
    errno.EOPNOTSUPP: Status.NOT_SUPPORTED,
    errno.EOVERFLOW: Status.OUT_OF_RANGE,
    errno.EPERM: Status.ACCESS_DENIED,
    errno.ERANGE: Status.OUT_OF_RANGE,
    errno.ETIMEDOUT: Status.TIMED_OUT,
}


def error_for(
    status: int, call: str = "", hint: str = "", *, access: Access | None = None, exit: Exit | None = None
) -> ZxError:
    """Returns the exception for a status, an instance of its subclass of `ZxError`.

    Raises:
        ValueError: `status` is OK, or no status at all.
    """
    status = Status(status)
    if status is Status.OK:
        raise ValueError("OK is no error")
    return _CLASS_OF_STATUS[status](call, hint, access=access, exit=exit)


def from_os_error(call: str, os_error: OSError, hint: str = "") -> ZxError:
    """Returns the exception for what the kernel answered, to be raised `from` it.

    Its status is that of `STATUS_OF_ERRNO`; without a `hint` the kernel's own sentence is the hint. A
    `ZxError` that is an OSError, such as `AccessDeniedError`, keeps its status and its facts.
    """
    if isinstance(os_error, ZxError):
        hint = hint or os_error.hint
        return error_for(os_error.status, call, hint, access=os_error.access, exit=os_error.exit)
    if os_error.errno is None:
        return InternalError(call, hint or str(os_error))
    status = STATUS_OF_ERRNO.get(os_error.errno, Status.INTERNAL)
    return _CLASS_OF_STATUS[status](call, hint or _sentence(os_error))


_REMEDY_OF_ERRNO = {
    errno.EMFILE: "this process has no fd left: raise its limit (ulimit -n, RLIMIT_NOFILE)",
    errno.ENFILE: "the system has no fd left: raise fs.file-max",
}


def _sentence(os_error: OSError) -> str:
    """Returns what an OSError says, and its errno: "KVM_IRQFD: Device or resource busy (EBUSY)"."""
    name = errno.errorcode.get(os_error.errno or 0, f"errno {os_error.errno}")
    path = "" if os_error.filename is None else f"{os_error.filename}: "
    reason = _REMEDY_OF_ERRNO.get(os_error.errno or 0, os_error.strerror)
    return f"{path}{reason} ({name})"
