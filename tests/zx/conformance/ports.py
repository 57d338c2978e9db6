"""The tables of zx_port_*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind import zx
from kvmbind.zx import ZX_PORT_BIND_TO_INTERRUPT, ZX_TIME_INFINITE, ZX_TIME_INFINITE_PAST, PortPacket, Status
from tests.zx.conformance.table import Scene, Table, closed, in_order, lacks, lookup, state, value

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

KEY = 7

CREATE = Table(
    zx.zx_port_create,
    lambda make: {"options": 0},
    in_order(value("options", 2), value("options", 0xFFFFFFFF), value("options", -1)),
    nothing=(0,),
    also=({"options": ZX_PORT_BIND_TO_INTERRUPT},),
)


def fill(scene: Scene) -> None:
    for _ in range(2049):
        assert zx.zx_port_queue(scene.number("port"), PortPacket()) is Status.OK


QUEUE = Table(
    zx.zx_port_queue,
    lambda make: {"port": make.port(0), "packet": PortPacket(key=KEY)},
    in_order(lookup("port", "WRITE", vmo=True), state("it is full", Status.SHOULD_WAIT, fill, {"room"})),
)


def with_packet(make: Maker) -> dict[str, object]:
    port = make.port(0)
    for _ in range(2):
        assert zx.zx_port_queue(port, PortPacket(key=KEY)) is Status.OK
    return {"port": port, "deadline": 0}


def take_all(scene: Scene) -> None:
    while zx.zx_port_wait(scene.number("port"), 0)[0] is Status.OK:
        pass


WAIT = Table(
    zx.zx_port_wait,
    with_packet,
    in_order(
        lookup("port", "READ", vmo=True),
        value("deadline", 1 << 63),
        state("no packet is there", Status.TIMED_OUT, take_all, {"packet"}),
    ),
    nothing=(PortPacket(),),
    also=({"deadline": ZX_TIME_INFINITE}, {"deadline": ZX_TIME_INFINITE_PAST}),
)


def waited_for(make: Maker) -> dict[str, object]:
    port, vmo = make.port(0), make.vmo(1)
    assert zx.zx_object_wait_async(vmo, port, KEY, zx.ZX_USER_SIGNAL_0, 0) is Status.OK
    return {"port": port, "source": vmo, "key": KEY}


CANCEL = Table(
    zx.zx_port_cancel,
    waited_for,
    in_order(
        lookup("port", "WRITE", vmo=True),
        closed("source"),
        lacks("source", "WAIT"),
        value("key", 1 << 64),
        value("key", KEY + 1, Status.NOT_FOUND),
        state(
            "another handle waits",
            Status.NOT_FOUND,
            lambda scene: scene.arguments.update(source=scene.make.vmo(1)),
            {"source.object"},
            lasts=False,
        ),
    ),
)

TABLES = [CREATE, QUEUE, WAIT, CANCEL]
