"""The tables of zx_vmo_* and zx_vmar_*."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kvmbind
from kvmbind import zx
from kvmbind.zx import (
    ZX_RIGHT_WRITE,
    ZX_VM_CAN_MAP_EXECUTE,
    ZX_VM_CAN_MAP_READ,
    ZX_VM_CAN_MAP_SPECIFIC,
    ZX_VM_CAN_MAP_WRITE,
    ZX_VM_COMPACT,
    ZX_VM_MAP_RANGE,
    ZX_VM_PERM_EXECUTE,
    ZX_VM_PERM_READ,
    ZX_VM_PERM_WRITE,
    ZX_VM_REQUIRE_NON_RESIZABLE,
    ZX_VM_SPECIFIC,
    ZX_VM_SPECIFIC_OVERWRITE,
    ZX_VMO_RESIZABLE,
    Status,
)
from tests.zx.conformance.table import (
    Check,
    Scene,
    Table,
    flags,
    in_order,
    lacks,
    lookup,
    moved,
    replaced,
    state,
    value,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, ACCESS_DENIED, OUT_OF_RANGE, BAD_STATE = Status.OK, Status.ACCESS_DENIED, Status.OUT_OF_RANGE, Status.BAD_STATE
PAGE, MIB, TOP = 4096, 1 << 20, (1 << 64) - 1
END = 1 << 48  # no guest's address space is larger
ADDR = 8 * MIB  # where nothing is mapped
R, W, X = ZX_VM_PERM_READ, ZX_VM_PERM_WRITE, ZX_VM_PERM_EXECUTE

# VMOs

VMO_CREATE = Table(
    zx.zx_vmo_create,
    lambda make: {"size": PAGE, "options": 0},
    in_order(value("options", 1), value("options", 3), value("size", 1 << 64), value("size", TOP, OUT_OF_RANGE)),
    nothing=(0,),
    also=({"options": ZX_VMO_RESIZABLE}, {"size": 0}, {"size": 1}, {"size": 1 << 40}),
)

READ = Table(
    zx.zx_vmo_read,
    lambda make: {"vmo": make.vmo(PAGE), "offset": 8, "length": 8},
    in_order(
        lookup("vmo", "READ"),
        value("offset", 1 << 64),
        value("length", -1),
        value("offset", PAGE - 7, OUT_OF_RANGE),
        value("offset", TOP, OUT_OF_RANGE),
        value("length", PAGE - 7, OUT_OF_RANGE),
        value("length", TOP, OUT_OF_RANGE),
    ),
    nothing=(b"",),
    also=({"offset": 0, "length": PAGE}, {"offset": PAGE, "length": 0}),
)

WRITE = Table(
    zx.zx_vmo_write,
    lambda make: {"vmo": make.vmo(PAGE), "data": b"8 bytes.", "offset": 8},
    in_order(
        lookup("vmo", "WRITE"),
        value("offset", 1 << 64),
        value("offset", PAGE - 7, OUT_OF_RANGE),
        value("offset", TOP, OUT_OF_RANGE),
        value("data", bytes(PAGE), OUT_OF_RANGE),
    ),
    also=({"offset": 0, "data": bytes(PAGE)}, {"offset": PAGE, "data": b""}),
)

GET_SIZE = Table(zx.zx_vmo_get_size, lambda make: {"vmo": make.vmo(PAGE)}, in_order(lookup("vmo")), nothing=(0,))


def view(scene: Scene) -> None:
    scene.opened.callback(kvmbind.Vmo.borrow(scene.number("vmo")).view().release)


SET_SIZE = Table(
    zx.zx_vmo_set_size,
    lambda make: {"vmo": make.vmo(2 * PAGE, ZX_VMO_RESIZABLE), "size": PAGE},
    in_order(
        lookup("vmo", "WRITE"),
        value("size", 1 << 64),
        replaced("vmo", "of a fixed size", Status.UNAVAILABLE, lambda scene: scene.make.vmo(2 * PAGE)),
        value("size", TOP, OUT_OF_RANGE),
        state("a view reaches behind the size", BAD_STATE, view, {"size", "vmo.object"}),
    ),
    also=({"size": 0}, {"size": 1 << 40}, {"size": 2 * PAGE}),
)

# VMARs


def dead_vmar(scene: Scene) -> int:
    guest = scene.make.guest()
    assert zx.zx_handle_close(guest.guest) is OK
    return guest.vmar


def dead() -> Check:
    return replaced("vmar", "the guest is gone", BAD_STATE, dead_vmar, takes={"vmar.object", "mapping"})


def write_needs_read() -> Check:
    return flags("options", "READ", clear=R)


def map_over_it(scene: Scene) -> None:
    scene.make.map(scene.number("vmar"), scene.make.vmo(PAGE), scene.number("vmar_offset") & -PAGE, PAGE)


CAN_MAP = {"READ": ZX_VM_CAN_MAP_READ, "WRITE": ZX_VM_CAN_MAP_WRITE, "EXECUTE": ZX_VM_CAN_MAP_EXECUTE}

MAP = Table(
    zx.zx_vmar_map,
    lambda make: {
        "vmar": make.guest().vmar, "options": R | W | X | ZX_VM_SPECIFIC, "vmar_offset": ADDR,
        "vmo": make.vmo(3 * PAGE), "vmo_offset": PAGE, "length": 2 * PAGE,
    },
    in_order(
        lookup("vmar"),
        lookup("vmo"),
        value("vmar_offset", 1 << 64),
        value("length", -1),
        lacks("vmo", "MAP"),
        write_needs_read(),
        flags("options", "MAP_RANGE and OVERWRITE", set=ZX_VM_MAP_RANGE | ZX_VM_SPECIFIC_OVERWRITE),
        [flags("options", f"CAN_MAP_{name}", set=bit) for name, bit in CAN_MAP.items()],
        [lacks(argument, "READ", "options.READ") for argument in ("vmo", "vmar")],
        [lacks(argument, right) for argument in ("vmo", "vmar") for right in ("WRITE", "EXECUTE")],
        flags("options", "unknown", set=1 << 31),
        Check(
            "it must not be resizable",
            Status.NOT_SUPPORTED,
            lambda scene: scene.arguments.update(
                options=scene.number("options") | ZX_VM_REQUIRE_NON_RESIZABLE,
                vmo=scene.make.vmo(3 * PAGE, ZX_VMO_RESIZABLE),
            ),
            frozenset({"options.REQUIRE_NON_RESIZABLE", "vmo.object"}),
        ),
        flags("options", "COMPACT", set=ZX_VM_COMPACT),
        flags("options", "CAN_MAP_SPECIFIC", set=ZX_VM_CAN_MAP_SPECIFIC),
        value("vmo_offset", 1),
        value("vmo_offset", (1 << 64) - PAGE)._replace(takes=frozenset({"vmo_offset", "length"})),
        dead(),
        value("length", 0),
        flags("options", "SPECIFIC", clear=ZX_VM_SPECIFIC),
        value("vmar_offset", END),
        value("length", END),
        moved("vmar_offset", 1),
        value("vmar_offset", 0xFEE00000),
        value("vmar_offset", 0xFFFBC000),
        state("something is mapped there", Status.ALREADY_EXISTS, map_over_it, {"mapping"}),
    ),
    nothing=(0,),
    also=(
        {"options": R, "vmar_offset": 0},
        {"options": ZX_VM_SPECIFIC},
        {"options": R | W | ZX_VM_SPECIFIC},
        {"options": R | ZX_VM_SPECIFIC | ZX_VM_MAP_RANGE},
        {"options": R | ZX_VM_SPECIFIC | ZX_VM_REQUIRE_NON_RESIZABLE},
        {"options": R | ZX_VM_SPECIFIC_OVERWRITE, "vmar_offset": 0},
        {"length": 1},
        {"length": 9 * PAGE},
    ),
)  # fmt: skip


def mapped(make: Maker) -> int:
    """A guest with two pages at ADDR, and none behind them."""
    vmar = make.guest().vmar
    make.map(vmar, make.vmo(2 * PAGE), ADDR, 2 * PAGE)
    return vmar


UNMAP = Table(
    zx.zx_vmar_unmap,
    lambda make: {"vmar": mapped(make), "addr": ADDR, "length": 2 * PAGE},
    in_order(
        lookup("vmar"),
        value("addr", 1 << 64),
        value("length", -1),
        moved("addr", 1),
        value("length", 0),
        dead(),
        value("addr", END),
        value("addr", (1 << 64) - PAGE),
        value("length", END),
    ),
    also=({"length": 1}, {"addr": 2 * ADDR}, {"addr": 0, "length": 4 * ADDR}),
)


def maps_less(scene: Scene) -> None:
    vmar, vmo = scene.number("vmar"), scene.make.vmo(2 * PAGE)
    assert zx.zx_vmar_unmap(vmar, ADDR, 2 * PAGE) is OK
    scene.make.map(vmar, scene.make.without(vmo, ZX_RIGHT_WRITE), ADDR, 2 * PAGE, R)


PROTECT = Table(
    zx.zx_vmar_protect,
    lambda make: {"vmar": mapped(make), "options": R | W, "addr": ADDR, "length": 2 * PAGE},
    in_order(
        lookup("vmar"),
        lacks("vmar", "READ", "options.READ"),
        lacks("vmar", "WRITE"),
        value("addr", 1 << 64),
        write_needs_read(),
        flags("options", "SPECIFIC", set=ZX_VM_SPECIFIC),
        moved("addr", 1),
        value("length", 0),
        dead(),
        value("addr", END),
        value("addr", (1 << 64) - PAGE),
        value("length", END),
        value("length", 3 * PAGE, Status.NOT_FOUND),
        moved("addr", PAGE, Status.NOT_FOUND),
        state("it was mapped with fewer rights", ACCESS_DENIED, maps_less, {"mapping"}),
    ),
    also=({"options": R}, {"options": 0}, {"options": R | X}, {"length": 1}),
)

TABLES = [VMO_CREATE, READ, WRITE, GET_SIZE, SET_SIZE, MAP, UNMAP, PROTECT]
