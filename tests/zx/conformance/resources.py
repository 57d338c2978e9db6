"""The tables of zx_resource_create."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind import zx
from kvmbind.zx import (
    ZX_RSRC_FLAG_EXCLUSIVE,
    ZX_RSRC_KIND_COUNT,
    ZX_RSRC_KIND_HYPERVISOR,
    ZX_RSRC_KIND_IOPORT,
    ZX_RSRC_KIND_IRQ,
    ZX_RSRC_KIND_ROOT,
    ZX_RSRC_KIND_SMC,
    ZX_RSRC_KIND_VMEX,
    Status,
)
from tests.zx.conformance.table import Check, Scene, Table, in_order, lookup, replaced, state, value

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

TOP = (1 << 64) - 1
NOT_FOUND = Status.NOT_FOUND


def child(make: Maker, parent: int, options: int, base: int = 0, size: int = 0) -> int:
    return make.keep(zx.zx_resource_create(parent, options, base, size, b""))


def before_the_range() -> list[Check]:
    return [
        *lookup("parent", "WRITE"),
        value("options", 1 << 32),
        value("base", 1 << 64),
        value("size", -1),
        replaced(
            "parent",
            "a parent of kind IRQ",
            Status.ACCESS_DENIED,
            lambda scene: child(scene.make, scene.number("parent"), ZX_RSRC_KIND_IRQ, 0x80, 1),
        ),
        value("options", ZX_RSRC_KIND_COUNT),
        value("options", ZX_RSRC_KIND_IRQ | 0x20000),
    ]


def is_anothers(scene: Scene) -> None:
    child(scene.make, scene.number("parent"), ZX_RSRC_KIND_IRQ | ZX_RSRC_FLAG_EXCLUSIVE, 0x40, 1)


RANGED = Table(
    zx.zx_resource_create,
    lambda make: {
        "parent": make.resource(), "options": ZX_RSRC_KIND_IRQ, "base": 0x40, "size": 4, "name": b"four vectors",
    },
    in_order(
        before_the_range(),
        value("size", 0),
        value("size", TOP),
        value("options", ZX_RSRC_KIND_SMC, NOT_FOUND),
        value("base", 256, NOT_FOUND),
        value("size", 256, NOT_FOUND),
        state("a part is another's, exclusively", NOT_FOUND, is_anothers, {"exclusive"}),
    ),
    nothing=(0,),
    variant="with a range",
    also=(
        {"base": 0, "size": 256},
        {"options": ZX_RSRC_KIND_IRQ | ZX_RSRC_FLAG_EXCLUSIVE},
        {"options": ZX_RSRC_KIND_IOPORT, "base": 0xFFFF, "size": 1},
        {"name": b""},
        {"name": bytes(100)},
    ),
)  # fmt: skip

WHOLE = Table(
    zx.zx_resource_create,
    lambda make: {
        "parent": make.resource(), "options": ZX_RSRC_KIND_HYPERVISOR, "base": 0, "size": 0, "name": b"guests",
    },
    in_order(before_the_range(), value("base", 1), value("size", 1)),
    nothing=(0,),
    variant="without a range",
    also=({"options": ZX_RSRC_KIND_ROOT}, {"options": ZX_RSRC_KIND_VMEX}),
)  # fmt: skip

TABLES = [RANGED, WHOLE]
