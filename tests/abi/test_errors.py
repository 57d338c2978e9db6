"""Errors: one class per status, facts kept, one sentence, one table from errno."""

from __future__ import annotations

import builtins
import copy
import errno
import os
import pickle
import subprocess
import sys

import pytest

from kvmbind.abi import errors
from kvmbind.abi.errors import Access, ZxError, error_for, from_os_error
from kvmbind.abi.status import Status

FAILURES = [status for status in Status if status is not Status.OK]
READ = Access(kind="memory", addr=0xFEE00000, size=4, is_write=False)
WRITE = Access(kind="io", addr=0x80, size=1, is_write=True, data=b"\x05")

BUILTINS = {
    Status.NOT_FOUND: LookupError,
    Status.ACCESS_DENIED: PermissionError,
    Status.TIMED_OUT: TimeoutError,
    Status.INVALID_ARGS: ValueError,
    Status.BAD_HANDLE: ValueError,
    Status.OUT_OF_RANGE: ValueError,
    Status.WRONG_TYPE: TypeError,
    Status.NO_MEMORY: MemoryError,
    Status.NOT_SUPPORTED: NotImplementedError,
    Status.ALREADY_EXISTS: FileExistsError,
    Status.SHOULD_WAIT: BlockingIOError,
    Status.CONNECTION_REFUSED: ConnectionRefusedError,
    Status.CONNECTION_RESET: ConnectionResetError,
    Status.CONNECTION_ABORTED: ConnectionAbortedError,
} | {status: OSError for status in Status if status.name.split("_")[0] == "IO"}


@pytest.mark.parametrize("status", FAILURES)
def test_each_status_has_its_class_of_the_same_name(status: Status) -> None:
    error = error_for(status, "zx_call", "a hint")
    assert isinstance(error, ZxError)
    assert type(error).__name__ == "".join(word.capitalize() for word in status.name.split("_")) + "Error"
    assert type(error) is getattr(errors, type(error).__name__)
    assert (error.status, error.call, error.hint, error.access) == (status, "zx_call", "a hint", None)


@pytest.mark.parametrize("status", FAILURES)
def test_each_class_is_the_builtin_that_fits_and_no_other(status: Status) -> None:
    inherited = {cls for cls in type(error_for(status)).__bases__ if cls is not ZxError}
    assert inherited == ({BUILTINS[status]} if status in BUILTINS else set())


@pytest.mark.parametrize("status", FAILURES)
def test_each_class_says_its_sentence(status: Status) -> None:
    sentence = f"zx_call: {status.name} ({status.value}): a hint"
    assert str(error_for(status, "zx_call", "a hint")) == sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.BadStateError(), "BAD_STATE (-20)"),
        (errors.BadStateError("zx_vcpu_enter"), "zx_vcpu_enter: BAD_STATE (-20)"),
        (errors.BadStateError(hint="it runs"), "BAD_STATE (-20): it runs"),
        (
            errors.BadStateError("zx_interrupt_bind_vcpu", "a thread is inside zx_interrupt_wait"),
            "zx_interrupt_bind_vcpu: BAD_STATE (-20): a thread is inside zx_interrupt_wait",
        ),
        (
            errors.NotFoundError("zx_vcpu_enter", "no trap", access=WRITE),
            "zx_vcpu_enter: NOT_FOUND (-25): no trap: write of 1 byte (05) to I/O port 0x80",
        ),
        (
            errors.NotFoundError("zx_vcpu_enter", access=READ),
            "zx_vcpu_enter: NOT_FOUND (-25): read of 4 bytes from guest memory 0xfee00000",
        ),
    ],
)
def test_the_sentence_has_what_is_known(error: ZxError, sentence: str) -> None:
    assert str(error) == sentence


def test_the_sentence_is_built_from_the_facts_of_the_moment() -> None:
    error = errors.NotFoundError("zx_vcpu_enter")
    error.access = READ
    assert "0xfee00000" in str(error)


@pytest.mark.parametrize("status", FAILURES)
def test_each_error_can_be_pickled_and_copied(status: Status) -> None:
    original = error_for(status, "zx_call", "a hint", access=WRITE)
    for duplicate in copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original)):
        assert type(duplicate) is type(original)
        assert str(duplicate) == str(original)
        assert (duplicate.status, duplicate.access) == (status, WRITE)


@pytest.mark.parametrize("status", [status for status in FAILURES if isinstance(error_for(status), OSError)])
def test_an_error_that_is_an_os_error_claims_no_errno(status: Status) -> None:
    error = error_for(status, "zx_call", "a hint")
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert repr(error) == f"{type(error).__name__}('zx_call', 'a hint')"


@pytest.mark.parametrize("status", FAILURES)
def test_each_error_can_be_raised_from_the_os_error(status: Status) -> None:
    reason = OSError(errno.EIO, "broken")
    with pytest.raises(ZxError) as caught:
        raise error_for(status, "zx_call") from reason
    assert caught.value.__cause__ is reason


def test_ok_is_no_error() -> None:
    with pytest.raises(ValueError, match="OK is no error"):
        error_for(Status.OK)


def test_a_number_that_is_no_status_has_no_error() -> None:
    with pytest.raises(ValueError, match="-5 is not a valid Status"):
        error_for(-5)


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ("EBUSY", Status.ALREADY_BOUND),
        ("EMFILE ENFILE ENOSPC E2BIG", Status.NO_RESOURCES),
        ("ENOMEM", Status.NO_MEMORY),
        ("EINVAL", Status.INVALID_ARGS),
        ("EPERM EACCES", Status.ACCESS_DENIED),
        ("ENOENT ENXIO ENODEV EFAULT", Status.NOT_FOUND),
        ("ENOTTY ENOSYS EOPNOTSUPP ENOTSUP", Status.NOT_SUPPORTED),
        ("EEXIST", Status.ALREADY_EXISTS),
        ("EINTR", Status.INTERNAL_INTR_RETRY),
        ("EAGAIN EWOULDBLOCK", Status.SHOULD_WAIT),
        ("ETIMEDOUT", Status.TIMED_OUT),
        ("ECANCELED", Status.CANCELED),
        ("ERANGE EOVERFLOW", Status.OUT_OF_RANGE),
        ("EBADF", Status.BAD_HANDLE),
        ("EIO", Status.IO),
        ("EDOM ESPIPE EPIPE", Status.INTERNAL),
    ],
)
def test_an_errno_becomes_its_status(names: str, status: Status) -> None:
    for name in names.split():
        number = getattr(errno, name)
        error = from_os_error("zx_call", OSError(number, os.strerror(number)))
        assert type(error) is type(error_for(status)), name
        assert error.call == "zx_call"


def test_the_kernels_sentence_is_the_hint() -> None:
    reason = OSError(errno.EBUSY, "KVM_IRQFD: Device or resource busy")
    error = from_os_error("zx_interrupt_bind_vcpu", reason)
    assert error.hint == "KVM_IRQFD: Device or resource busy (EBUSY)"


def test_the_kernels_sentence_names_the_file() -> None:
    reason = FileNotFoundError(errno.ENOENT, "No such file or directory", "/dev/kvm")
    assert from_os_error("", reason).hint == "/dev/kvm: No such file or directory (ENOENT)"


def test_a_hint_goes_before_the_kernels_sentence() -> None:
    error = from_os_error("zx_call", OSError(errno.EMFILE, "Too many open files"), "raise ulimit -n")
    assert str(error) == "zx_call: NO_RESOURCES (-3): raise ulimit -n"


def test_an_errno_without_a_name_is_shown_as_its_number() -> None:
    assert from_os_error("zx_call", OSError(9999, "strange")).hint == "strange (errno 9999)"


def test_an_os_error_without_an_errno_is_internal() -> None:
    error = from_os_error("zx_call", OSError("half a message"))
    assert (error.status, error.hint) == (Status.INTERNAL, "half a message")


def test_an_error_that_has_a_status_keeps_it() -> None:
    inner = errors.TimedOutError("zx_port_wait", "nothing came")
    outer = from_os_error("zx_call", inner)
    assert str(outer) == "zx_call: TIMED_OUT (-21): nothing came"


def test_names_that_are_also_builtins_are_those_builtins() -> None:
    names = {cls.__name__ for cls in ZxError.__subclasses__()} & set(vars(builtins))
    assert names == {"ConnectionRefusedError", "ConnectionResetError", "ConnectionAbortedError"}
    for name in names:
        assert issubclass(getattr(errors, name), getattr(builtins, name))


def test_errors_and_constants_load_neither_ctypes_nor_anything_slow() -> None:
    program = (
        "import sys; before = set(sys.modules);"
        "import kvmbind.abi.errors, kvmbind.abi.constants;"
        "slow = {'ctypes', 'dataclasses', 'inspect', 'pathlib', 'logging'};"
        "print(*slow & set(sys.modules) - before)"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == ""
