"""zx_object_get_info and zx_object_*_property: what is known of an object."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Literal, overload

from kvmbind.abi.constants import (
    ZX_INFO_HANDLE_BASIC,
    ZX_INFO_HANDLE_COUNT,
    ZX_INFO_HANDLE_VALID,
    ZX_INFO_RESOURCE,
    ZX_INFO_VCPU,
    ZX_INFO_VCPU_FLAG_KICKED,
    ZX_INFO_VMAR,
    ZX_INFO_VMO,
    ZX_PROP_NAME,
    ZX_RIGHT_GET_PROPERTY,
    ZX_RIGHT_INSPECT,
    ZX_RIGHT_SET_PROPERTY,
)
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.abi.structs import InfoHandleBasic, InfoResource, InfoVcpu, InfoVmar, InfoVmo
from kvmbind.zircon import handles
from kvmbind.zircon.resource import ResourceDispatcher
from kvmbind.zircon.vcpu import VcpuDispatcher
from kvmbind.zircon.vmar import VmarDispatcher
from kvmbind.zircon.vmo import VmoDispatcher
from kvmbind.zx._values import refused

if TYPE_CHECKING:
    from collections.abc import Callable

Info = int | InfoHandleBasic | InfoResource | InfoVcpu | InfoVmar | InfoVmo


def _handle_valid(handle: int) -> int:
    handles.entry_of(handle)
    return 0


def _handle_basic(handle: int) -> InfoHandleBasic:
    entry = handles.entry_of(handle)
    obj = handles.find_any(handle)
    return InfoHandleBasic(koid=obj.koid, rights=entry.rights, type=obj.TYPE, props=int(obj.WAITABLE))


def _handle_count(handle: int) -> int:
    return handles.find_any(handle, ZX_RIGHT_INSPECT).handle_count


def _vmar(handle: int) -> InfoVmar:
    return InfoVmar(base=0, len=handles.find(handle, VmarDispatcher, ZX_RIGHT_INSPECT).space.size)


def _resource(handle: int) -> InfoResource:
    return handles.find(handle, ResourceDispatcher, ZX_RIGHT_INSPECT).info()


def _vmo(handle: int) -> InfoVmo:
    vmo, rights = handles.find_with_rights(handle, VmoDispatcher)
    info = vmo.info()
    info.handle_rights = rights
    return info


def _vcpu(handle: int) -> InfoVcpu:
    vcpu = handles.find(handle, VcpuDispatcher, ZX_RIGHT_INSPECT)
    return InfoVcpu(flags=ZX_INFO_VCPU_FLAG_KICKED if vcpu.kicked else 0)


#: For each topic: how to ask, and what the answer is on failure.
_TOPICS: dict[int, tuple[Callable[[int], Info], Callable[[], Info]]] = {
    ZX_INFO_HANDLE_VALID: (_handle_valid, int),
    ZX_INFO_HANDLE_BASIC: (_handle_basic, InfoHandleBasic),
    ZX_INFO_VMAR: (_vmar, InfoVmar),
    ZX_INFO_RESOURCE: (_resource, InfoResource),
    ZX_INFO_HANDLE_COUNT: (_handle_count, int),
    ZX_INFO_VMO: (_vmo, InfoVmo),
    ZX_INFO_VCPU: (_vcpu, InfoVcpu),
}


@overload
def zx_object_get_info(handle: int, topic: Literal[1, 19]) -> tuple[Status, int]: ...
@overload
def zx_object_get_info(handle: int, topic: Literal[2]) -> tuple[Status, InfoHandleBasic]: ...
@overload
def zx_object_get_info(handle: int, topic: Literal[7]) -> tuple[Status, InfoVmar]: ...
@overload
def zx_object_get_info(handle: int, topic: Literal[18]) -> tuple[Status, InfoResource]: ...
@overload
def zx_object_get_info(handle: int, topic: Literal[23]) -> tuple[Status, InfoVmo]: ...
@overload
def zx_object_get_info(handle: int, topic: Literal[32]) -> tuple[Status, InfoVcpu]: ...
@overload
def zx_object_get_info(handle: int, topic: int) -> tuple[Status, Info]: ...
def zx_object_get_info(handle: int, topic: int) -> tuple[Status, Info]:
    """Tells something about a handle or its object.

    Args:
        handle: Needs ZX_RIGHT_INSPECT, but for ZX_INFO_HANDLE_VALID, _HANDLE_BASIC and _VMO.
        topic: ZX_INFO_HANDLE_VALID (nothing but the status), _HANDLE_BASIC, _HANDLE_COUNT, _VMAR, _RESOURCE, _VMO,
            _VCPU.

    Returns:
        The status and what was asked, all zero on failure: 0, how many handles the object has, or the structure of the
        topic: an InfoHandleBasic, InfoVmar, InfoResource, InfoVmo or InfoVcpu. BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED;
        NOT_SUPPORTED for another topic.
    """
    index(topic)
    ask, nothing = _TOPICS.get(topic, (_handle_valid, int))
    try:
        info = ask(handle)
    except ZxError as error:
        return error.status, nothing()
    return (Status.OK if topic in _TOPICS else Status.NOT_SUPPORTED), info


def zx_object_get_property(handle: int, property: int) -> tuple[Status, bytes]:
    """Returns a property of an object.

    Args:
        handle: Needs ZX_RIGHT_GET_PROPERTY, which only that of a VMO has.
        property: ZX_PROP_NAME.

    Returns:
        The status and the value: the name without its NUL, at most 31 bytes, none for an object without a name.
        BAD_HANDLE, ACCESS_DENIED; INVALID_ARGS for another property.
    """
    try:
        obj = handles.find_any(handle, ZX_RIGHT_GET_PROPERTY)
        if property != ZX_PROP_NAME:
            return refused(property), b""
        return Status.OK, obj.name
    except ZxError as error:
        return error.status, b""


def zx_object_set_property(handle: int, property: int, value: bytes | bytearray | memoryview) -> Status:
    """Sets a property of an object.

    Args:
        handle: Needs ZX_RIGHT_SET_PROPERTY, which only that of a VMO has.
        property: ZX_PROP_NAME.
        value: The name, of which the first 31 bytes count, up to a NUL.

    Returns:
        OK; BAD_HANDLE, ACCESS_DENIED; INVALID_ARGS for another property; NOT_SUPPORTED for an object without a name.
    """
    name = bytes(memoryview(value))
    try:
        obj = handles.find_any(handle, ZX_RIGHT_SET_PROPERTY)
        if property != ZX_PROP_NAME:
            return refused(property)
        obj.rename(name)
    except ZxError as error:
        return error.status
    return Status.OK
