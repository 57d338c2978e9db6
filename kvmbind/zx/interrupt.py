"""zx_interrupt_*: interrupts, and binding them to VCPUs."""

from __future__ import annotations

from kvmbind._shim import lib
from kvmbind.abi.constants import (
    ZX_HANDLE_INVALID,
    ZX_INTERRUPT_BIND,
    ZX_INTERRUPT_MODE_LEVEL_HIGH,
    ZX_INTERRUPT_MODE_LEVEL_LOW,
    ZX_INTERRUPT_MODE_MASK,
    ZX_INTERRUPT_REMAP_IRQ,
    ZX_INTERRUPT_UNBIND,
    ZX_INTERRUPT_VIRTUAL,
    ZX_RIGHT_READ,
    ZX_RIGHT_SIGNAL,
    ZX_RIGHT_WAIT,
    ZX_RIGHT_WRITE,
)
from kvmbind.abi.errors import ZxError
from kvmbind.abi.status import Status
from kvmbind.zircon.handles import add, entry_of, find
from kvmbind.zircon.interrupt import InterruptDispatcher
from kvmbind.zircon.port import PortDispatcher
from kvmbind.zircon.resource import ResourceDispatcher
from kvmbind.zircon.vcpu import VcpuDispatcher
from kvmbind.zx._values import refused, unsigned

_fire = lib.kb_trigger_fire
_MODES = range(0, 0xC, 2)
_LEVEL = (ZX_INTERRUPT_MODE_LEVEL_LOW, ZX_INTERRUPT_MODE_LEVEL_HIGH)
_TIME_MIN, _TIME_MAX = -(1 << 63), (1 << 63) - 1


def zx_interrupt_create(resource: int, src_num: int, options: int) -> tuple[Status, int]:
    """Makes an interrupt.

    Args:
        resource: For a physical interrupt a resource of kind IRQ or ROOT; not looked at for a virtual one.
        src_num: The vector that guests see, 0 to 255; only those from 16 on can be bound to a VCPU.
        options: ZX_INTERRUPT_VIRTUAL: fired by zx_interrupt_trigger, and by writes to its eventfd. Otherwise it is
            physical: fired by its eventfd only, with a ZX_INTERRUPT_MODE_*. All edges mean the same, and both levels:
            each end of interrupt is told by a second eventfd (`kvmbind.Interrupt.eoi_fileno`).

    Returns:
        The status and the interrupt. INVALID_ARGS for options or src_num; BAD_HANDLE; WRONG_TYPE for the resource;
        OUT_OF_RANGE for a src_num outside the resource's range, before INVALID_ARGS for a physical one's options;
        NO_RESOURCES without fds.
    """
    virtual = options == ZX_INTERRUPT_VIRTUAL
    try:
        if not virtual:
            if options & ZX_INTERRUPT_VIRTUAL:
                return Status.INVALID_ARGS, ZX_HANDLE_INVALID
            root = find(resource, ResourceDispatcher)
            if not unsigned(32, src_num):
                return Status.INVALID_ARGS, ZX_HANDLE_INVALID
            root.require_irq("zx_interrupt_create", src_num)
            mode = options & ZX_INTERRUPT_MODE_MASK
            if options & ~(ZX_INTERRUPT_MODE_MASK | ZX_INTERRUPT_REMAP_IRQ) or mode not in _MODES:
                return Status.INVALID_ARGS, ZX_HANDLE_INVALID
        level = not virtual and options & ZX_INTERRUPT_MODE_MASK in _LEVEL
        interrupt = InterruptDispatcher(src_num, virtual=virtual, level=level)
    except ZxError as error:
        return error.status, ZX_HANDLE_INVALID
    return Status.OK, add(interrupt, interrupt.DEFAULT_RIGHTS)


def zx_interrupt_bind(interrupt: int, port: int, key: int, options: int) -> Status:
    """Makes triggers come to a port as packets, or ends that.

    Args:
        interrupt: Needs ZX_RIGHT_READ.
        port: Needs ZX_RIGHT_WRITE; made with ZX_PORT_BIND_TO_INTERRUPT.
        key: 64 bits, given back in each packet.
        options: ZX_INTERRUPT_BIND or ZX_INTERRUPT_UNBIND.

    Returns:
        OK; INVALID_ARGS for options; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; CANCELED once destroyed. Bind: BAD_STATE
        while a thread waits, ALREADY_BOUND to a port or VCPU. Unbind: NOT_FOUND if it is not bound to this port.
    """
    if options not in (ZX_INTERRUPT_BIND, ZX_INTERRUPT_UNBIND):
        return refused(options)
    try:
        source = find(interrupt, InterruptDispatcher, ZX_RIGHT_READ)
        queue = find(port, PortDispatcher, ZX_RIGHT_WRITE)
        if options == ZX_INTERRUPT_UNBIND:
            source.unbind(queue)
        elif unsigned(64, key):
            source.bind(queue, key)
        else:
            return Status.INVALID_ARGS
    except ZxError as error:
        return error.status
    return Status.OK


def zx_interrupt_bind_vcpu(interrupt: int, vcpu: int, options: int) -> Status:
    """Binds an interrupt to a VCPU: from now on each trigger raises its vector in the VCPU's local APIC, with no exit.

    The kernel does it: an irqfd on the interrupt's eventfd, and an MSI route. Bind it to several VCPUs of one guest,
    one after the other, and each of them gets every trigger. A trigger that came before is delivered by the bind. There
    is no unbind; zx_interrupt_destroy ends it. From any thread.

    Args:
        interrupt: Needs ZX_RIGHT_READ.
        vcpu: Needs ZX_RIGHT_WRITE.
        options: 0.

    Returns:
        OK, also if it is bound to this VCPU already. In this order: INVALID_ARGS for options; BAD_HANDLE, WRONG_TYPE,
        ACCESS_DENIED, for the interrupt and then for the VCPU; CANCELED once destroyed; BAD_STATE while a thread waits;
        ALREADY_BOUND to a port, or if another interrupt's irqfd has the eventfd; INVALID_ARGS for a VCPU of another
        guest or a vector below 16; NOT_SUPPORTED for a physical interrupt's second cluster of 16 VCPUs; NO_RESOURCES
        without GSIs or fds. For a level interrupt also NOT_SUPPORTED for a guest without IOAPIC or a second VCPU,
        BAD_STATE once a VCPU of the guest has been entered, NO_RESOURCES for the ninth. Nothing has changed then.
    """
    if options != 0:
        return refused(options)
    try:
        source = find(interrupt, InterruptDispatcher, ZX_RIGHT_READ)
        source.bind_vcpu(find(vcpu, VcpuDispatcher, ZX_RIGHT_WRITE))
    except ZxError as error:
        return error.status
    return Status.OK


def zx_interrupt_wait(interrupt: int) -> tuple[Status, int]:
    """Sleeps until the interrupt is triggered.

    Args:
        interrupt: Needs ZX_RIGHT_WAIT.

    Returns:
        The status and the time of the first trigger in ns: what zx_interrupt_trigger said, or when an outside write was
        seen. BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; BAD_STATE if it is bound or another thread waits; CANCELED once it
        is destroyed or its last handle closed, also meanwhile.
    """
    try:
        return Status.OK, find(interrupt, InterruptDispatcher, ZX_RIGHT_WAIT).wait()
    except ZxError as error:
        return error.status, 0


def zx_interrupt_ack(interrupt: int) -> Status:
    """Lets the next trigger make a packet; a trigger that came meanwhile makes it now.

    Args:
        interrupt: Needs ZX_RIGHT_WRITE.

    Returns:
        OK; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; BAD_STATE without a port, or if a second trigger came before the
        first packet was read; CANCELED once destroyed.
    """
    try:
        find(interrupt, InterruptDispatcher, ZX_RIGHT_WRITE).ack()
    except ZxError as error:
        return error.status
    return Status.OK


def zx_interrupt_trigger(interrupt: int, options: int, timestamp: int) -> Status:
    """Fires a virtual interrupt.

    Args:
        interrupt: Needs ZX_RIGHT_SIGNAL.
        options: 0.
        timestamp: ns, given to zx_interrupt_wait or into the packet; of no meaning when bound to a VCPU.

    Returns:
        OK; INVALID_ARGS for options; BAD_HANDLE, WRONG_TYPE, ACCESS_DENIED; BAD_STATE for a physical one; CANCELED once
        destroyed.
    """
    if options != 0 or not _TIME_MIN <= timestamp <= _TIME_MAX:
        return refused(options)
    try:
        if _fire(entry_of(interrupt).trigger):
            find(interrupt, InterruptDispatcher, ZX_RIGHT_SIGNAL).trigger(timestamp)
    except ZxError as error:
        return error.status
    return _OK


def zx_interrupt_destroy(interrupt: int) -> Status:
    """Ends an interrupt: it fires no more, and who waits for it is CANCELED. When it returns nothing is on its way.

    Args:
        interrupt: Needs no right.

    Returns:
        OK, also again; NOT_FOUND if its packet was read but not acknowledged: it is destroyed all the same; BAD_HANDLE,
        WRONG_TYPE.
    """
    try:
        find(interrupt, InterruptDispatcher).destroy()
    except ZxError as error:
        return error.status
    return Status.OK


_OK = Status.OK  # an attribute of an enum costs a look-up more than a global: the trigger is a hot path
