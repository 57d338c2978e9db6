"""zx_port_*: queues of packets."""

from __future__ import annotations

from kvmbind.abi.constants import (
    ZX_HANDLE_INVALID,
    ZX_PORT_BIND_TO_INTERRUPT,
    ZX_RIGHT_READ,
    ZX_RIGHT_WAIT,
    ZX_RIGHT_WRITE,
)
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.abi.structs import PortPacket
from kvmbind.zircon import handles, waits
from kvmbind.zircon.port import PortDispatcher
from kvmbind.zx._values import refused, signed, unsigned

_OK = Status.OK  # an attribute of an enum costs a look-up more than a global: this is a hot path


def zx_port_create(options: int) -> tuple[Status, int]:
    """Makes a port.

    Args:
        options: 0, or ZX_PORT_BIND_TO_INTERRUPT for one that interrupts may be bound to.

    Returns:
        The status and the port. INVALID_ARGS for options; NO_RESOURCES without fds.
    """
    if options not in (0, ZX_PORT_BIND_TO_INTERRUPT):
        return refused(options), ZX_HANDLE_INVALID
    try:
        port = PortDispatcher(interrupts=options == ZX_PORT_BIND_TO_INTERRUPT)
    except ZxError as error:
        return error.status, ZX_HANDLE_INVALID
    return Status.OK, handles.add(port, port.DEFAULT_RIGHTS)


def zx_port_queue(port: int, packet: PortPacket) -> Status:
    """Queues a packet; its type becomes ZX_PKT_TYPE_USER.

    Args:
        port: Needs ZX_RIGHT_WRITE.
        packet: Its key, status and payload are kept.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; SHOULD_WAIT when more than 2048 wait.
    """
    if not isinstance(packet, PortPacket):
        raise TypeError(f"a {type(packet).__name__} is no PortPacket")
    try:
        handles.find(port, PortDispatcher, ZX_RIGHT_WRITE).queue(packet)
    except ZxError as error:
        return error.status
    return Status.OK


def zx_port_wait(port: int, deadline: int) -> tuple[Status, PortPacket]:
    """Takes a packet, those of interrupts first, and sleeps until there is one.

    Args:
        port: Needs ZX_RIGHT_READ.
        deadline: ns of CLOCK_MONOTONIC, or ZX_TIME_INFINITE. A packet that is there is returned even if it has passed.

    Returns:
        The status and the packet, all zero on failure. BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; INVALID_ARGS for a
        deadline that is no int64; TIMED_OUT; CANCELED if the last handle was closed meanwhile.
    """
    try:
        source = handles.find(port, PortDispatcher, ZX_RIGHT_READ)
        if not signed(64, deadline):
            return Status.INVALID_ARGS, PortPacket()
        return _OK, source.wait(deadline)
    except ZxError as error:
        return error.status, PortPacket()


def zx_port_cancel(port: int, source: int, key: int) -> Status:
    """Ends the waits of zx_object_wait_async that were made by way of a handle with a key, and takes packets back.

    Args:
        port: Needs ZX_RIGHT_WRITE.
        source: The handle that was waited with; needs ZX_RIGHT_WAIT. Another handle of its object has waits of its own.
        key: 64 bits.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED for the port; BAD_HANDLE, ACCESS_DENIED for the source; INVALID_ARGS
        for what is no uint64; NOT_SUPPORTED for a source without signals; NOT_FOUND if there is neither wait nor
        packet.
    """
    try:
        queue = handles.find(port, PortDispatcher, ZX_RIGHT_WRITE)
        obj, entry = handles.find_watchable(source, ZX_RIGHT_WAIT)
        if not unsigned(64, key):
            return Status.INVALID_ARGS
        waits.cancel(queue, obj, entry, key)
    except ZxError as error:
        return error.status
    return Status.OK
