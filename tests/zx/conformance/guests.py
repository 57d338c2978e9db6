"""The tables of zx_guest_create and zx_guest_set_trap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind import zx
from kvmbind.zx import ZX_GUEST_TRAP_BELL, ZX_GUEST_TRAP_IO, ZX_GUEST_TRAP_MEM, ZX_RSRC_KIND_IRQ, Status
from tests.zx.conformance.table import Check, Scene, Table, in_order, lookup, moved, replaced, state, value

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

PAGE = 0x1000
END = 1 << 48  # no guest's address space is larger
TOP = (1 << 64) - 1
ALREADY_EXISTS, OUT_OF_RANGE = Status.ALREADY_EXISTS, Status.OUT_OF_RANGE


def irq_resource(scene: Scene) -> int:
    return scene.make.keep(zx.zx_resource_create(scene.make.resource(), ZX_RSRC_KIND_IRQ, 0, 256, b""))


CREATE = Table(
    zx.zx_guest_create,
    lambda make: {"resource": make.resource(), "options": 0},
    in_order(
        value("options", 1),
        value("options", 0xFFFFFFFF),
        lookup("resource"),
        replaced("resource", "a resource of kind IRQ", Status.WRONG_TYPE, irq_resource),
    ),
    nothing=(0, 0),
)


def trap(make: Maker, kind: int, addr: int, size: int, port: int = 0) -> dict[str, object]:
    return {"guest": make.guest().guest, "kind": kind, "addr": addr, "size": size, "port": port, "key": 7}


def port_lookup(*, bell: bool) -> list[Check]:
    """0 is no port, so that a handle of 0 is no fault of the look-up."""

    def denied(scene: Scene) -> int:
        return scene.make.without(scene.make.port(), zx.ZX_RIGHT_WRITE)

    checks = [
        replaced("port", "port is closed", Status.BAD_HANDLE, lambda scene: scene.make.closed(), takes={"port"}),
        replaced("port", "port is of another type", Status.WRONG_TYPE, lambda scene: scene.make.vmo(1), takes={"port"}),
        replaced("port", "port lacks WRITE", Status.ACCESS_DENIED, denied, takes={"port"}),
    ]
    return checks if bell else checks[:2]


def overlap(place: str, *, offset: int = 0, size: int = PAGE) -> Check:
    """Another trap at a part of the range."""

    def spoil(scene: Scene) -> None:
        arguments = scene.number("guest"), scene.number("kind"), scene.number("addr") + offset, size
        assert zx.zx_guest_set_trap(*arguments, scene.number("port"), 0) is Status.OK

    return state(f"a trap {place}", ALREADY_EXISTS, spoil, {"overlap"})


def no_numbers() -> list[Check]:
    return [value("kind", 1 << 32), value("addr", -1), value("size", 1 << 64), value("key", 1 << 64)]


def of_every_kind(*, bell: bool) -> list[Check]:
    """What is looked at first, whatever is trapped."""
    return [
        *lookup("guest", "WRITE"),
        *port_lookup(bell=bell),
        *no_numbers(),
        value("size", 0),
        value("size", TOP, OUT_OF_RANGE),
        value("addr", TOP, OUT_OF_RANGE),
        value("kind", 77),
    ]


def takes_no_port() -> Check:
    return replaced("port", "it takes no port", Status.INVALID_ARGS, lambda scene: scene.make.port(0), takes={"port"})


def whole_pages() -> list[Check]:
    return [
        moved("addr", PAGE // 2),
        moved("size", -PAGE // 2),
        value("addr", END),
        value("size", END),
    ]


TRAP_MEM = Table(
    zx.zx_guest_set_trap,
    lambda make: trap(make, ZX_GUEST_TRAP_MEM, 0x80000, 3 * PAGE),
    in_order(
        of_every_kind(bell=False),
        takes_no_port(),
        whole_pages(),
        overlap("where it begins"),
        overlap("where it ends", offset=2 * PAGE),
        overlap("amid it", offset=PAGE),
        overlap("around it", offset=-PAGE, size=8 * PAGE),
    ),
    variant="of memory",
    also=({"addr": 0}, {"addr": 1 << 30}, {"addr": 0xFF000}, {"key": TOP}, {"key": 0}),
)

TRAP_BELL = Table(
    zx.zx_guest_set_trap,
    lambda make: trap(make, ZX_GUEST_TRAP_BELL, 0x80000, 3 * PAGE, make.port(0)),
    in_order(
        of_every_kind(bell=True),
        value("port", 0),
        whole_pages(),
        overlap("where it begins"),
        overlap("where it ends", offset=2 * PAGE),
        overlap("amid it", offset=PAGE),
    ),
    variant="of a bell",
    also=({"addr": 0}, {"addr": 1 << 30}, {"addr": 0xFF000}),
)

TRAP_IO = Table(
    zx.zx_guest_set_trap,
    lambda make: trap(make, ZX_GUEST_TRAP_IO, 0x40, 4),
    in_order(
        of_every_kind(bell=False),
        takes_no_port(),
        value("addr", 0xFFFF, OUT_OF_RANGE),
        value("size", 0xFFFF, OUT_OF_RANGE),
        overlap("where it begins", size=1),
        overlap("where it ends", offset=3, size=9),
        overlap("around it", offset=-4, size=64),
    ),
    variant="of ports",
    also=({"addr": 0xFFFB}, {"addr": 0xFFFE, "size": 1}, {"addr": 0, "size": 0xFFFF}),
)

TABLES = [CREATE, TRAP_MEM, TRAP_BELL, TRAP_IO]
