"""zx_object_*: what is known of an object."""

from __future__ import annotations

from operator import index
from typing import Literal, overload

from kvmbind.abi.constants import (
    ZX_INFO_HANDLE_BASIC,
    ZX_INFO_HANDLE_COUNT,
    ZX_INFO_HANDLE_VALID,
    ZX_INFO_VCPU,
    ZX_INFO_VCPU_FLAG_KICKED,
    ZX_RIGHT_INSPECT,
)
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.abi.structs import InfoHandleBasic, InfoVcpu
from kvmbind.zircon import handles
from kvmbind.zircon.vcpu import VcpuDispatcher

Info = int | InfoHandleBasic | InfoVcpu


def _handle_basic(handle: int) -> InfoHandleBasic:
    entry = handles.entry_of(handle)
    obj = handles.find_any(handle)
    return InfoHandleBasic(koid=obj.koid, rights=entry.rights, type=obj.TYPE, props=int(obj.WAITABLE))


def _vcpu(handle: int) -> InfoVcpu:
    vcpu = handles.find(handle, VcpuDispatcher, ZX_RIGHT_INSPECT)
    return InfoVcpu(flags=ZX_INFO_VCPU_FLAG_KICKED if vcpu.kicked else 0)


@overload
def zx_object_get_info(handle: int, topic: Literal[1, 19]) -> tuple[Status, int]: ...
@overload
def zx_object_get_info(handle: int, topic: Literal[2]) -> tuple[Status, InfoHandleBasic]: ...
@overload
def zx_object_get_info(handle: int, topic: Literal[32]) -> tuple[Status, InfoVcpu]: ...
@overload
def zx_object_get_info(handle: int, topic: int) -> tuple[Status, Info]: ...
def zx_object_get_info(handle: int, topic: int) -> tuple[Status, Info]:
    """Tells something about a handle or its object.

    Args:
        handle: Needs ZX_RIGHT_INSPECT, but for ZX_INFO_HANDLE_VALID and _BASIC.
        topic: ZX_INFO_HANDLE_VALID (nothing but the status), _HANDLE_BASIC, _HANDLE_COUNT, _VCPU.

    Returns:
        The status and what was asked, all zero on failure: 0, an InfoHandleBasic, how many handles the object has, an
        InfoVcpu. BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; NOT_SUPPORTED for another topic.
    """
    nothing: Info = 0
    try:
        if topic == ZX_INFO_HANDLE_VALID:
            handles.entry_of(handle)
            return Status.OK, 0
        if topic == ZX_INFO_HANDLE_BASIC:
            nothing = InfoHandleBasic()
            return Status.OK, _handle_basic(handle)
        if topic == ZX_INFO_HANDLE_COUNT:
            return Status.OK, handles.find_any(handle, ZX_RIGHT_INSPECT).handle_count
        if topic == ZX_INFO_VCPU:
            nothing = InfoVcpu()
            return Status.OK, _vcpu(handle)
        index(topic)
        handles.entry_of(handle)
    except ZxError as error:
        return error.status, nothing
    return Status.NOT_SUPPORTED, nothing
