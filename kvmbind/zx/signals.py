"""zx_object_signal and zx_object_wait_*: signals of an object, and waiting for them."""

from __future__ import annotations

from kvmbind.abi.constants import ZX_RIGHT_SIGNAL, ZX_RIGHT_WAIT, ZX_RIGHT_WRITE
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.zircon import handles, waits
from kvmbind.zircon.port import PortDispatcher
from kvmbind.zx._values import signed, unsigned


def zx_object_signal(handle: int, clear: int, set: int) -> Status:
    """Clears signals of an object and then sets others, in one step for those who wait.

    Args:
        handle: Needs ZX_RIGHT_SIGNAL: of an interrupt, a VCPU or a VMO.
        clear: ZX_USER_SIGNAL_* bits.
        set: ZX_USER_SIGNAL_* bits.

    Returns:
        OK; BAD_HANDLE, ACCESS_DENIED; NOT_SUPPORTED for an object without signals; INVALID_ARGS for other bits.
    """
    try:
        obj = handles.find_any(handle, ZX_RIGHT_SIGNAL)
        obj.waitable_signals("zx_object_signal").signal(clear, set)
    except ZxError as error:
        return error.status
    return Status.OK


def zx_object_wait_one(handle: int, signals: int, deadline: int) -> tuple[Status, int]:
    """Sleeps until an object has one of some signals.

    Args:
        handle: Needs ZX_RIGHT_WAIT. Closing it ends the wait; closing another handle of the object does not.
        signals: Which; 0 waits for the deadline.
        deadline: ns of CLOCK_MONOTONIC, or ZX_TIME_INFINITE. A signal that is there counts even if it has passed.

    Returns:
        The status and all signals that were seen meanwhile, also with TIMED_OUT, and with CANCELED if the handle was
        closed, which shows ZX_SIGNAL_HANDLE_CLOSED. BAD_HANDLE, ACCESS_DENIED; NOT_SUPPORTED for an object without
        signals; INVALID_ARGS for what is no uint32 or int64; NO_RESOURCES without fds.
    """
    try:
        obj, entry = handles.find_watchable(handle, ZX_RIGHT_WAIT)
        if not unsigned(32, signals) or not signed(64, deadline):
            return Status.INVALID_ARGS, 0
        return Status.OK, waits.wait_one(obj, entry, signals, deadline)
    except ZxError as error:
        return error.status, error.observed


def zx_object_wait_async(handle: int, port: int, key: int, signals: int, options: int) -> Status:
    """Sends one packet of type SIGNAL_ONE to a port when an object has one of some signals.

    Args:
        handle: Needs ZX_RIGHT_WAIT. Closing it ends the wait; a packet that is in the port stays there.
        port: Needs ZX_RIGHT_WRITE.
        key: 64 bits, given back in the packet.
        signals: Which; the packet has them as `trigger`, and all that the object had then as `observed`.
        options: 0, or ZX_WAIT_ASYNC_TIMESTAMP: the packet says when; ZX_WAIT_ASYNC_EDGE: a signal that is there
            already does not count before it has been cleared; or both.

    Returns:
        OK. In this order: BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED for the port; BAD_HANDLE, ACCESS_DENIED for the
        handle; INVALID_ARGS for what is no uint; NOT_SUPPORTED for an object without signals; INVALID_ARGS for
        options; NO_MEMORY when 16384 packets of such waits are in the port or to come.
    """
    try:
        queue = handles.find(port, PortDispatcher, ZX_RIGHT_WRITE)
        obj, entry = handles.find_watchable(handle, ZX_RIGHT_WAIT)
        if not unsigned(64, key) or not unsigned(32, signals, options):
            return Status.INVALID_ARGS
        waits.wait_async(queue, obj, entry, key, signals, options)
    except ZxError as error:
        return error.status
    return Status.OK
