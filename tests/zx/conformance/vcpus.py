"""The tables of zx_vcpu_*. What runs in the guest is an OUT to a trapped port, for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind import guests, zx
from kvmbind.zircon import handles
from kvmbind.zircon.guest import GuestDispatcher
from kvmbind.zx import ZX_GUEST_TRAP_IO, ZX_VCPU_IO, ZX_VCPU_STATE, PortPacket, Status, VcpuIo, VcpuState
from tests.zx.conformance.table import Scene, Table, another_thread, in_order, lookup, state, value

if TYPE_CHECKING:
    from tests.zx.conftest import Maker


def no_ids_left(scene: Scene) -> None:
    handles.find(scene.number("guest"), GuestDispatcher)._vcpus_max = 0


CREATE = Table(
    zx.zx_vcpu_create,
    lambda make: {"guest": make.guest().guest, "options": 0, "entry": 0x1000},
    in_order(
        value("options", 1),
        lookup("guest", "MANAGE_PROCESS"),
        value("entry", 1 << 64),
        state("no id is left", Status.NO_RESOURCES, no_ids_left, {"ids"}),
        value("entry", 1 << 20),
        value("entry", (1 << 64) - 1),
    ),
    nothing=(0,),
    also=({"entry": 0}, {"entry": 0xFFFFF}, {"entry": 3}),
)


def vcpu(make: Maker, image: bytes = guests.PORT_LOOP, *, trapped: bool = True) -> int:
    guest = make.guest(image).guest
    if trapped:
        assert zx.zx_guest_set_trap(guest, ZX_GUEST_TRAP_IO, 0x60, 0x21, 0, 7) is Status.OK
    return make.vcpu(guest)


def kick(scene: Scene) -> None:
    assert zx.zx_vcpu_kick(scene.number("vcpu")) is Status.OK


def runs_into_an_untrapped_port(scene: Scene) -> None:
    scene.arguments["vcpu"] = vcpu(scene.make, trapped=False)


ENTER = Table(
    zx.zx_vcpu_enter,
    lambda make: {"vcpu": vcpu(make)},
    in_order(
        lookup("vcpu", "EXECUTE"),
        another_thread(),
        state("it was kicked", Status.CANCELED, kick, {"kick"}, lasts=False),
        state("the port is not trapped", Status.NOT_FOUND, runs_into_an_untrapped_port, {"trap"}, lasts=False),
    ),
    nothing=(PortPacket(),),
)

KICK = Table(zx.zx_vcpu_kick, lambda make: {"vcpu": vcpu(make)}, in_order(lookup("vcpu", "EXECUTE")))

NO_VECTORS = [0, 1, *range(3, 16), 256, 257, 512, 0xFFFFFFFF, 1 << 32, -1, -2, -254]
INTERRUPT = Table(
    zx.zx_vcpu_interrupt,
    lambda make: {"vcpu": vcpu(make), "vector": 0x40},
    in_order(lookup("vcpu", "SIGNAL"), [value("vector", vector, Status.OUT_OF_RANGE) for vector in NO_VECTORS]),
    also=({"vector": 2}, {"vector": 16}, {"vector": 255}),
)

READ_STATE = Table(
    zx.zx_vcpu_read_state,
    lambda make: {"vcpu": vcpu(make), "kind": ZX_VCPU_STATE},
    in_order(lookup("vcpu", "READ"), value("kind", ZX_VCPU_IO), value("kind", 2), another_thread()),
    nothing=(VcpuState(),),
)


def waits_for_an_answer(scene: Scene) -> None:
    scene.arguments["vcpu"] = asking = vcpu(scene.make, guests.ECHO)
    status, packet = zx.zx_vcpu_enter(asking)
    assert (status, packet.guest_io.input) == (Status.OK, 1)


WRITE_STATE = Table(
    zx.zx_vcpu_write_state,
    lambda make: {"vcpu": vcpu(make), "kind": ZX_VCPU_STATE, "state": VcpuState(rax=7)},
    in_order(
        lookup("vcpu", "WRITE"),
        value("kind", 2),
        value("kind", 0xFFFFFFFF),
        another_thread(),
        state("a read waits for its answer", Status.BAD_STATE, waits_for_an_answer, {"read"}, lasts=False),
    ),
    variant="of registers",
)

WRITE_IO = Table(
    zx.zx_vcpu_write_state,
    lambda make: {"vcpu": vcpu(make, guests.ECHO), "kind": ZX_VCPU_IO, "state": VcpuIo(access_size=1, u8=7)},
    in_order(
        lookup("vcpu", "WRITE"),
        value("kind", 2),
        another_thread(),
        [value("state", VcpuIo(access_size=size)) for size in (0, 3, 5, 8)],
    ),
    variant="of an answer",
    also=({"state": VcpuIo(access_size=2)}, {"state": VcpuIo(access_size=4)}),
)

TABLES = [CREATE, ENTER, KICK, INTERRUPT, READ_STATE, WRITE_STATE, WRITE_IO]
