"""The tables of zx_object_*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind import zx
from kvmbind.zx import (
    ZX_INFO_HANDLE_BASIC,
    ZX_INFO_HANDLE_COUNT,
    ZX_INFO_HANDLE_VALID,
    ZX_INFO_RESOURCE,
    ZX_INFO_VCPU,
    ZX_INFO_VMAR,
    ZX_INFO_VMO,
    ZX_PROP_NAME,
    ZX_SIGNAL_HANDLE_CLOSED,
    ZX_TIME_INFINITE,
    ZX_USER_SIGNAL_0,
    ZX_USER_SIGNAL_7,
    ZX_VMO_ZERO_CHILDREN,
    ZX_WAIT_ASYNC_EDGE,
    ZX_WAIT_ASYNC_TIMESTAMP,
    InfoHandleBasic,
    InfoResource,
    InfoVcpu,
    InfoVmar,
    InfoVmo,
    Status,
)
from tests.zx.conformance.table import Check, Table, closed, in_order, lacks, lookup, of_another_type, value

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zx.conftest import Maker


def info(topic: int, variant: str, made: Callable[[Maker], int], nothing: object, *checks: Check) -> Table:
    return Table(
        zx.zx_object_get_info,
        lambda make: {"handle": made(make), "topic": topic},
        in_order(closed("handle"), checks),
        nothing=(nothing,),
        variant=variant,
    )


INSPECTED = (of_another_type("handle"), lacks("handle", "INSPECT"))
NO_TOPICS = [value("topic", topic, Status.NOT_SUPPORTED) for topic in (0, 3, 28, 99, 1 << 32, -1)]
GET_INFO = [
    info(ZX_INFO_HANDLE_VALID, "HANDLE_VALID", lambda make: make.port(), 0, *NO_TOPICS),
    info(ZX_INFO_HANDLE_BASIC, "HANDLE_BASIC", lambda make: make.port(), InfoHandleBasic()),
    info(ZX_INFO_HANDLE_COUNT, "HANDLE_COUNT", lambda make: make.port(), 0, lacks("handle", "INSPECT")),
    info(ZX_INFO_VMAR, "VMAR", lambda make: make.guest().vmar, InfoVmar(), *INSPECTED),
    info(ZX_INFO_RESOURCE, "RESOURCE", lambda make: make.resource(), InfoResource(), *INSPECTED),
    info(ZX_INFO_VMO, "VMO", lambda make: make.vmo(1), InfoVmo(), of_another_type("handle")),
    info(ZX_INFO_VCPU, "VCPU", lambda make: make.vcpu(make.guest().guest), InfoVcpu(), *INSPECTED),
]

NO_PROPERTIES = [value("property", number) for number in (0, 1, 2, 4, 0xFFFFFFFF, 1 << 32)]
GET_PROPERTY = Table(
    zx.zx_object_get_property,
    lambda make: {"handle": make.vmo(1), "property": ZX_PROP_NAME},
    in_order(closed("handle"), lacks("handle", "GET_PROPERTY"), NO_PROPERTIES),
    nothing=(b"",),
)
SET_PROPERTY = Table(
    zx.zx_object_set_property,
    lambda make: {"handle": make.vmo(1), "property": ZX_PROP_NAME, "value": b"memory"},
    in_order(closed("handle"), lacks("handle", "SET_PROPERTY"), NO_PROPERTIES),
    also=({"value": b""}, {"value": b"n" * 100}),
)

NO_USER_SIGNALS = (1, ZX_VMO_ZERO_CHILDREN, ZX_SIGNAL_HANDLE_CLOSED, 0xFFFFFFFF, 1 << 32)
SIGNAL = Table(
    zx.zx_object_signal,
    lambda make: {"handle": make.vmo(1), "clear": 0, "set": ZX_USER_SIGNAL_0},
    in_order(
        closed("handle"),
        lacks("handle", "SIGNAL"),
        [value("clear", signals) for signals in NO_USER_SIGNALS],
        [value("set", signals) for signals in NO_USER_SIGNALS],
    ),
    also=({"set": 0}, {"clear": ZX_USER_SIGNAL_7}, {"set": 0xFF000000, "clear": 0xFF000000}),
)


def signaled(make: Maker) -> int:
    vmo = make.vmo(1)
    assert zx.zx_object_signal(vmo, 0, ZX_USER_SIGNAL_0) is Status.OK
    zx.zx_object_wait_one(vmo, 0, 0)  # an object keeps the fd of a wait for the next one
    return vmo


NOT_THERE = value("signals", ZX_USER_SIGNAL_7, Status.TIMED_OUT)
WAIT_ONE = Table(
    zx.zx_object_wait_one,
    lambda make: {"handle": signaled(make), "signals": ZX_USER_SIGNAL_0, "deadline": 0},
    in_order(
        closed("handle"),
        lacks("handle", "WAIT"),
        value("signals", 1 << 32),
        value("deadline", 1 << 63),
        NOT_THERE._replace(results=(ZX_USER_SIGNAL_0 | ZX_VMO_ZERO_CHILDREN,)),  # what was seen, also on failure
    ),
    nothing=(0,),
    also=({"signals": 0xFFFFFFFF}, {"deadline": ZX_TIME_INFINITE}),
)
WAIT_ASYNC = Table(
    zx.zx_object_wait_async,
    lambda make: {
        "handle": signaled(make), "port": make.port(0), "key": 7, "signals": ZX_USER_SIGNAL_0, "options": 0,
    },
    in_order(
        lookup("port", "WRITE", vmo=True),
        closed("handle"),
        lacks("handle", "WAIT"),
        value("key", 1 << 64),
        value("signals", 1 << 32),
        value("options", 4),
        value("options", 0xFFFFFFFF),
    ),
    also=(
        {"options": ZX_WAIT_ASYNC_TIMESTAMP},
        {"options": ZX_WAIT_ASYNC_EDGE},
        {"options": ZX_WAIT_ASYNC_TIMESTAMP | ZX_WAIT_ASYNC_EDGE},
        {"signals": 0},
    ),
)  # fmt: skip

TABLES = [*GET_INFO, GET_PROPERTY, SET_PROPERTY, SIGNAL, WAIT_ONE, WAIT_ASYNC]
