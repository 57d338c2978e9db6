"""zx_handle_*: closing, duplicating and replacing handles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.abi.constants import ZX_HANDLE_INVALID
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.zircon import handles

if TYPE_CHECKING:
    from collections.abc import Iterable


def zx_handle_close(handle: int) -> Status:
    """Closes a handle; 0 is OK. With its last handle an object ends, unless others refer to it.

    Returns:
        OK; BAD_HANDLE.
    """
    if handle == ZX_HANDLE_INVALID:
        return Status.OK
    try:
        handles.close(handle)
    except ZxError as error:
        return error.status
    return Status.OK


def zx_handle_close_many(handles_to_close: Iterable[int]) -> Status:
    """Closes handles in their order, each that is open; zeros are passed over.

    Returns:
        OK; BAD_HANDLE if one was not open, or stood there twice: the others are closed all the same.
    """
    return Status.OK if handles.close_many(handles_to_close) else Status.BAD_HANDLE


def zx_handle_duplicate(handle: int, rights: int) -> tuple[Status, int]:
    """Makes another handle to the same object, with `rights` (ZX_RIGHT_SAME_RIGHTS: the same).

    Returns:
        The status and the handle. BAD_HANDLE; ACCESS_DENIED without ZX_RIGHT_DUPLICATE; INVALID_ARGS for rights that
        `handle` lacks.
    """
    try:
        return Status.OK, handles.duplicate(handle, rights)
    except ZxError as error:
        return error.status, ZX_HANDLE_INVALID


def zx_handle_replace(handle: int, rights: int) -> tuple[Status, int]:
    """Closes a handle and returns another to the same object, with `rights` (ZX_RIGHT_SAME_RIGHTS: the same).

    Returns:
        The status and the new handle. BAD_HANDLE; INVALID_ARGS for rights that `handle` lacks: it is closed then too.
    """
    try:
        return Status.OK, handles.replace(handle, rights)
    except ZxError as error:
        return error.status, ZX_HANDLE_INVALID
