"""The tables of zx_interrupt_*."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import kvmbind
from kvmbind import zx
from kvmbind.zx import (
    ZX_INTERRUPT_BIND,
    ZX_INTERRUPT_MODE_EDGE_BOTH,
    ZX_INTERRUPT_MODE_EDGE_HIGH,
    ZX_INTERRUPT_MODE_EDGE_LOW,
    ZX_INTERRUPT_MODE_LEVEL_HIGH,
    ZX_INTERRUPT_MODE_LEVEL_LOW,
    ZX_INTERRUPT_REMAP_IRQ,
    ZX_INTERRUPT_SLOT_USER,
    ZX_INTERRUPT_UNBIND,
    ZX_INTERRUPT_VIRTUAL,
    ZX_RSRC_KIND_HYPERVISOR,
    ZX_RSRC_KIND_IRQ,
    Status,
)
from tests.zx.conformance.table import Check, Scene, Table, in_order, lookup, replaced, state, value

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, BAD_STATE, CANCELED, ALREADY_BOUND = Status.OK, Status.BAD_STATE, Status.CANCELED, Status.ALREADY_BOUND
OUT_OF_RANGE, WRONG_TYPE, NOT_FOUND = Status.OUT_OF_RANGE, Status.WRONG_TYPE, Status.NOT_FOUND
DEADLINE_S = 60

# Creation

CREATE_VIRTUAL = Table(
    zx.zx_interrupt_create,
    lambda make: {"resource": 0, "src_num": 0x40, "options": ZX_INTERRUPT_VIRTUAL},
    in_order(
        [value("options", options) for options in (0x11, 0x12, 0x18, 0x30, 0x50, ZX_INTERRUPT_SLOT_USER)],
        value("src_num", 256),
        value("src_num", 1 << 32),
    ),
    nothing=(0,),
    variant="virtual",
    also=({"src_num": 0}, {"src_num": 255}, {"resource": 0xFFFFFFFF}),
)


def resource(make: Maker, kind: int, base: int = 0, size: int = 0) -> int:
    return make.keep(zx.zx_resource_create(make.resource(), kind, base, size, b""))


CREATE_PHYSICAL = Table(
    zx.zx_interrupt_create,
    lambda make: {
        "resource": resource(make, ZX_RSRC_KIND_IRQ, 0x40, 2), "src_num": 0x40, "options": ZX_INTERRUPT_MODE_EDGE_HIGH,
    },
    in_order(
        value("options", ZX_INTERRUPT_VIRTUAL | 1),
        lookup("resource"),
        value("src_num", 1 << 32),
        replaced(
            "resource",
            "a resource of kind HYPERVISOR",
            WRONG_TYPE,
            lambda scene: resource(scene.make, ZX_RSRC_KIND_HYPERVISOR),
        ),
        value("src_num", 0x3F, OUT_OF_RANGE),
        value("src_num", 0x42, OUT_OF_RANGE),
        value("src_num", 256, OUT_OF_RANGE),
        [value("options", options) for options in (0xC, 0xE, 0x20, 0x100, 1 << 31)],
    ),
    nothing=(0,),
    variant="physical",
    also=(
        {"src_num": 0x41},
        {"options": 0},
        {"options": ZX_INTERRUPT_MODE_EDGE_LOW},
        {"options": ZX_INTERRUPT_MODE_EDGE_BOTH | ZX_INTERRUPT_REMAP_IRQ},
        {"options": ZX_INTERRUPT_MODE_LEVEL_LOW},
        {"options": ZX_INTERRUPT_MODE_LEVEL_HIGH},
    ),
)  # fmt: skip

# States


def bind_to_port(scene: Scene, port: int) -> None:
    assert zx.zx_interrupt_bind(scene.number("interrupt"), port, 0, ZX_INTERRUPT_BIND) is OK


def bind_to_vcpu(scene: Scene, vcpu: int) -> None:
    assert zx.zx_interrupt_bind_vcpu(scene.number("interrupt"), vcpu, 0) is OK


def destroy(scene: Scene) -> None:
    zx.zx_interrupt_destroy(scene.number("interrupt"))


def vcpu(make: Maker) -> int:
    return make.vcpu(make.guest().guest)


def wait_in_thread(scene: Scene) -> None:
    """Puts a thread into zx_interrupt_wait, and returns when it is inside."""
    handle = scene.number("interrupt")
    seen = kvmbind.Interrupt.borrow(handle)

    def wait() -> None:
        while zx.zx_interrupt_wait(handle)[0] is BAD_STATE:  # the other thread has just looked whether this is inside
            pass

    def is_inside() -> bool:
        try:
            seen.wait(timeout_s=0)
        except kvmbind.BadStateError:
            return True
        except kvmbind.TimedOutError:
            return False
        raise AssertionError("nobody has triggered it")

    thread = threading.Thread(target=wait)
    scene.opened.callback(thread.join, DEADLINE_S)
    scene.opened.callback(zx.zx_interrupt_destroy, handle)
    thread.start()
    scene.make.until(is_inside)


def is_destroyed() -> Check:
    return state("the interrupt is destroyed", CANCELED, destroy, {"life"}, turn=1)


def thread_waits() -> Check:
    return state("a thread waits for it", BAD_STATE, wait_in_thread, {"life", "binding"})


def has_port(status: Status) -> Check:
    return state("a port has it", status, lambda scene: bind_to_port(scene, scene.make.port()), {"binding"})


def has_vcpu(status: Status) -> Check:
    return state("a VCPU has it", status, lambda scene: bind_to_vcpu(scene, vcpu(scene.make)), {"binding"})


# Ports

BIND = Table(
    zx.zx_interrupt_bind,
    lambda make: {"interrupt": make.interrupt(0x40), "port": make.port(), "key": 7, "options": ZX_INTERRUPT_BIND},
    in_order(
        value("options", 2),
        value("options", 0xFFFFFFFF),
        lookup("interrupt", "READ"),
        lookup("port", "WRITE", vmo=True),
        value("key", 1 << 64),
        replaced("port", "the port takes no interrupts", WRONG_TYPE, lambda scene: scene.make.port(0)),
        is_destroyed(),
        thread_waits(),
        state("this port has it", ALREADY_BOUND, lambda scene: bind_to_port(scene, scene.number("port")), {"binding"}),
        has_port(ALREADY_BOUND),
        has_vcpu(ALREADY_BOUND),
    ),
    variant="to a port",
    also=({"key": 0}, {"key": (1 << 64) - 1}),
)


def bound(make: Maker) -> dict[str, object]:
    interrupt, port = make.interrupt(), make.port()
    assert zx.zx_interrupt_bind(interrupt, port, 7, ZX_INTERRUPT_BIND) is OK
    return {"interrupt": interrupt, "port": port, "key": 0, "options": ZX_INTERRUPT_UNBIND}


def unbind(scene: Scene) -> None:
    assert zx.zx_interrupt_bind(scene.number("interrupt"), scene.number("port"), 0, ZX_INTERRUPT_UNBIND) is OK


UNBIND = Table(
    zx.zx_interrupt_bind,
    bound,
    in_order(
        lookup("interrupt", "READ"),
        lookup("port", "WRITE", vmo=True),
        replaced("port", "another port", NOT_FOUND, lambda scene: scene.make.port()),
        state("it is bound no more", NOT_FOUND, unbind, {"port.object"}),
        is_destroyed(),
    ),
    variant="no more",
    also=({"key": (1 << 64) - 1},),
)

# VCPUs


def bind_to_this(scene: Scene) -> None:
    bind_to_vcpu(scene, scene.number("vcpu"))


def eventfd_of_another(scene: Scene) -> int:
    taker = scene.make.interrupt(0x40)
    assert zx.zx_interrupt_bind_vcpu(taker, scene.number("vcpu"), 0) is OK
    made = kvmbind.Interrupt.from_eventfd(kvmbind.Interrupt.borrow(taker).fileno(), vector=0x40)
    return scene.make.keep((OK, made.release()))


BIND_VCPU = Table(
    zx.zx_interrupt_bind_vcpu,
    lambda make: {"interrupt": make.interrupt(0x40), "vcpu": vcpu(make), "options": 0},
    in_order(
        value("options", 1),
        value("options", 0xFFFFFFFF),
        value("options", -1),
        lookup("interrupt", "READ"),
        lookup("vcpu", "WRITE"),
        is_destroyed(),
        thread_waits(),
        has_port(ALREADY_BOUND),
        state("this VCPU has it", OK, bind_to_this, {"binding", "bindable"}, lasts=False),
        state(
            "a VCPU of another guest has it",
            Status.INVALID_ARGS,
            lambda scene: bind_to_vcpu(scene, vcpu(scene.make)),
            {"binding", "bindable"},
        ),
        replaced(
            "interrupt",
            "a vector below 16",
            Status.INVALID_ARGS,
            lambda scene: scene.make.interrupt(15),
            takes={"bindable"},
        ),
        replaced("interrupt", "another has its eventfd bound", ALREADY_BOUND, eventfd_of_another, takes={"bindable"}),
    ),
)

# Triggers and their ends


def triggered(make: Maker) -> dict[str, object]:
    interrupt = make.interrupt(0x40)
    assert zx.zx_interrupt_trigger(interrupt, 0, 1) is OK
    return {"interrupt": interrupt}


def trigger_again(scene: Scene) -> None:
    assert zx.zx_interrupt_trigger(scene.number("interrupt"), 0, 2) is OK


def take_and_wait_in_thread(scene: Scene) -> None:
    assert zx.zx_interrupt_wait(scene.number("interrupt"))[0] is OK
    wait_in_thread(scene)


WAIT = Table(
    zx.zx_interrupt_wait,
    triggered,
    in_order(
        lookup("interrupt", "WAIT"),
        has_port(BAD_STATE),
        has_vcpu(BAD_STATE),
        is_destroyed(),
        state("another thread waits for it", BAD_STATE, take_and_wait_in_thread, {"life", "binding"}),
    ),
    nothing=(0,),
)


def packet_was_read(make: Maker) -> dict[str, object]:
    interrupt, port = make.interrupt(), make.port()
    assert zx.zx_interrupt_bind(interrupt, port, 7, ZX_INTERRUPT_BIND) is OK
    assert zx.zx_interrupt_trigger(interrupt, 0, 1) is OK
    assert zx.zx_port_wait(port, 0)[0] is OK
    return {"interrupt": interrupt}


def unbound(scene: Scene) -> int:
    return scene.make.interrupt()


def two_triggers_wait(scene: Scene) -> None:
    assert zx.zx_interrupt_ack(scene.number("interrupt")) is OK
    trigger_again(scene)
    trigger_again(scene)


ACK = Table(
    zx.zx_interrupt_ack,
    packet_was_read,
    in_order(
        lookup("interrupt", "WRITE"),
        replaced("interrupt", "it has no port", BAD_STATE, unbound, takes={"binding"}),
        is_destroyed(),
        state("a second trigger came before the packet was read", BAD_STATE, two_triggers_wait, {"packet", "binding"}),
    ),
)


def physical(scene: Scene) -> int:
    """One that is destroyed, too: what it is comes first."""
    made = scene.make.keep(zx.zx_interrupt_create(scene.make.resource(), 0x40, 0))
    assert zx.zx_interrupt_destroy(made) is OK
    return made


TRIGGER = Table(
    zx.zx_interrupt_trigger,
    lambda make: {"interrupt": make.interrupt(0x40), "options": 0, "timestamp": 1},
    in_order(
        value("options", 1),
        value("options", -1),
        value("timestamp", 1 << 63),
        value("timestamp", -(1 << 63) - 1),
        lookup("interrupt", "SIGNAL"),
        replaced("interrupt", "it is physical", BAD_STATE, physical, takes={"life"}),
        is_destroyed(),
    ),
    also=({"timestamp": 0}, {"timestamp": -(1 << 63)}, {"timestamp": (1 << 63) - 1}),
)

DESTROY = Table(
    zx.zx_interrupt_destroy,
    lambda make: {"interrupt": make.interrupt(0x40)},
    in_order(
        lookup("interrupt"),
        state("it is destroyed", OK, destroy, {"life"}, lasts=False, turn=1),
        replaced(
            "interrupt",
            "its packet was read and not acknowledged",
            NOT_FOUND,
            lambda scene: int(str(packet_was_read(scene.make)["interrupt"])),
            takes={"packet"},
        ),
    ),
)

TABLES = [CREATE_VIRTUAL, CREATE_PHYSICAL, BIND, UNBIND, BIND_VCPU, WAIT, ACK, TRIGGER, DESTROY]
