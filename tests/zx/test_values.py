"""No call raises for a bad value: a status says what is wrong with it, and the results are zero. A bad type raises."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, NamedTuple

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_GUEST_TRAP_IO,
    ZX_INFO_HANDLE_COUNT,
    ZX_INTERRUPT_VIRTUAL,
    ZX_PORT_BIND_TO_INTERRUPT,
    ZX_PROP_NAME,
    ZX_RIGHT_SAME_RIGHTS,
    ZX_RSRC_KIND_IRQ,
    ZX_TIME_INFINITE,
    ZX_TIME_INFINITE_PAST,
    ZX_USER_SIGNAL_0,
    ZX_VCPU_IO,
    ZX_VCPU_STATE,
    InfoHandleBasic,
    InfoResource,
    InfoVcpu,
    InfoVmar,
    InfoVmo,
    PortPacket,
    Status,
    VcpuIo,
    VcpuState,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zx.conftest import Maker

BAD_HANDLE, INVALID_ARGS, OUT_OF_RANGE = Status.BAD_HANDLE, Status.INVALID_ARGS, Status.OUT_OF_RANGE
HUGE = 1 << 200
NO_U32 = [-1, 1 << 32, 1 << 64, HUGE, -HUGE]
NO_U64 = [-1, 1 << 64, HUGE, -HUGE]
NO_I64 = [1 << 63, -(1 << 63) - 1, HUGE, -HUGE]
NO_HANDLE = [-1, 1, 0xFFFFFFFF, 1 << 32, 1 << 64, HUGE, -HUGE]
NO_INTS = [None, "1", b"1", 1.5, [1], object()]


class Bad(NamedTuple):
    """What a parameter does not take, and the status that says so."""

    values: list[int]
    status: Status


HANDLE = Bad(NO_HANDLE, BAD_HANDLE)
U32, U64, I64 = Bad(NO_U32, INVALID_ARGS), Bad(NO_U64, INVALID_ARGS), Bad(NO_I64, INVALID_ARGS)

#: Each call with its integer parameters, in the prototype's order.
CALLS: dict[str, dict[str, Bad]] = {
    "zx_guest_create": {"resource": HANDLE, "options": U32},
    "zx_guest_set_trap": {"guest": HANDLE, "kind": U32, "addr": U64, "size": U64, "port": HANDLE, "key": U64},
    "zx_handle_close": {"handle": HANDLE},
    "zx_handle_close_many": {},
    "zx_handle_duplicate": {"handle": HANDLE, "rights": U32},
    "zx_handle_replace": {"handle": HANDLE, "rights": U32},
    "zx_interrupt_ack": {"interrupt": HANDLE},
    "zx_interrupt_bind": {"interrupt": HANDLE, "port": HANDLE, "key": U64, "options": U32},
    "zx_interrupt_bind_vcpu": {"interrupt": HANDLE, "vcpu": HANDLE, "options": U32},
    "zx_interrupt_create": {"resource": HANDLE, "src_num": U32, "options": U32},
    "zx_interrupt_destroy": {"interrupt": HANDLE},
    "zx_interrupt_trigger": {"interrupt": HANDLE, "options": U32, "timestamp": I64},
    "zx_interrupt_wait": {"interrupt": HANDLE},
    "zx_object_get_info": {"handle": HANDLE, "topic": Bad(NO_U32, Status.NOT_SUPPORTED)},
    "zx_object_get_property": {"handle": HANDLE, "property": U32},
    "zx_object_set_property": {"handle": HANDLE, "property": U32},
    "zx_object_signal": {"handle": HANDLE, "clear": U32, "set": U32},
    "zx_object_wait_async": {"handle": HANDLE, "port": HANDLE, "key": U64, "signals": U32, "options": U32},
    "zx_object_wait_one": {"handle": HANDLE, "signals": U32, "deadline": I64},
    "zx_port_cancel": {"port": HANDLE, "source": HANDLE, "key": U64},
    "zx_port_create": {"options": U32},
    "zx_port_queue": {"port": HANDLE},
    "zx_port_wait": {"port": HANDLE, "deadline": I64},
    "zx_resource_create": {"parent": HANDLE, "options": U32, "base": U64, "size": U64},
    "zx_vcpu_create": {"guest": HANDLE, "options": U32, "entry": U64},
    "zx_vcpu_enter": {"vcpu": HANDLE},
    "zx_vcpu_interrupt": {"vcpu": HANDLE, "vector": Bad(NO_U32, OUT_OF_RANGE)},
    "zx_vcpu_kick": {"vcpu": HANDLE},
    "zx_vcpu_read_state": {"vcpu": HANDLE, "kind": U32},
    "zx_vcpu_resume": {"vcpu": HANDLE},
    "zx_vcpu_write_state": {"vcpu": HANDLE, "kind": U32},
    "zx_vmar_map": {
        "vmar": HANDLE, "options": U32, "vmar_offset": U64, "vmo": HANDLE, "vmo_offset": U64, "length": U64,
    },
    "zx_vmar_protect": {"vmar": HANDLE, "options": U32, "addr": U64, "length": U64},
    "zx_vmar_unmap": {"vmar": HANDLE, "addr": U64, "length": U64},
    "zx_vmo_create": {"size": U64, "options": U32},
    "zx_vmo_get_size": {"vmo": HANDLE},
    "zx_vmo_read": {"vmo": HANDLE, "offset": U64, "length": U64},
    "zx_vmo_set_size": {"vmo": HANDLE, "size": U64},
    "zx_vmo_write": {"vmo": HANDLE, "offset": U64},
}  # fmt: skip
PARAMETERS = [(call, parameter) for call, parameters in CALLS.items() for parameter in parameters]

#: What a call returns beside its status, when it fails.
NOTHING: dict[str, tuple[object, ...]] = {
    "zx_guest_create": (0, 0),
    "zx_handle_duplicate": (0,),
    "zx_handle_replace": (0,),
    "zx_interrupt_create": (0,),
    "zx_interrupt_wait": (0,),
    "zx_object_get_info": (0,),
    "zx_object_get_property": (b"",),
    "zx_object_wait_one": (0,),
    "zx_port_create": (0,),
    "zx_port_wait": (PortPacket(),),
    "zx_resource_create": (0,),
    "zx_vcpu_create": (0,),
    "zx_vcpu_enter": (PortPacket(),),
    "zx_vcpu_read_state": (VcpuState(),),
    "zx_vcpu_resume": (PortPacket(),),
    "zx_vmar_map": (0,),
    "zx_vmo_create": (0,),
    "zx_vmo_get_size": (0,),
    "zx_vmo_read": (b"",),
}


def function(call: str) -> Callable[..., object]:
    made: Callable[..., object] = getattr(zx, call)
    return made


def failure(call: str, status: Status) -> object:
    return (status, *NOTHING[call]) if call in NOTHING else status


@pytest.fixture
def good(make: Maker) -> dict[str, list[object]]:
    """Arguments with which each call would do its work."""
    guest = make.guest()
    interrupt, triggered, port, vmo = make.interrupt(0x40), make.interrupt(), make.port(), make.vmo(4096)
    resizable = make.vmo(4096, zx.ZX_VMO_RESIZABLE)
    vcpu = make.vcpu(guest.guest)
    assert zx.zx_interrupt_trigger(triggered, 0, 1) is Status.OK
    arguments: dict[str, list[object]] = {
        "zx_guest_create": [make.resource(), 0],
        "zx_guest_set_trap": [guest.guest, ZX_GUEST_TRAP_IO, 0x60, 1, 0, 1],
        "zx_handle_close": [make.port()],
        "zx_handle_close_many": [[make.port()]],
        "zx_handle_duplicate": [port, ZX_RIGHT_SAME_RIGHTS],
        "zx_handle_replace": [make.port(), ZX_RIGHT_SAME_RIGHTS],
        "zx_interrupt_ack": [interrupt],
        "zx_interrupt_bind": [interrupt, port, 1, 0],
        "zx_interrupt_bind_vcpu": [interrupt, vcpu, 0],
        "zx_interrupt_create": [make.resource(), 0x40, 0],
        "zx_interrupt_destroy": [interrupt],
        "zx_interrupt_trigger": [interrupt, 0, 1],
        "zx_interrupt_wait": [triggered],
        "zx_object_get_info": [port, ZX_INFO_HANDLE_COUNT],
        "zx_object_get_property": [vmo, ZX_PROP_NAME],
        "zx_object_set_property": [vmo, ZX_PROP_NAME, b"memory"],
        "zx_object_signal": [vmo, 0, ZX_USER_SIGNAL_0],
        "zx_object_wait_async": [vmo, port, 1, ZX_USER_SIGNAL_0, 0],
        "zx_object_wait_one": [vmo, ZX_USER_SIGNAL_0, 0],
        "zx_port_cancel": [port, vmo, 1],
        "zx_port_create": [ZX_PORT_BIND_TO_INTERRUPT],
        "zx_port_queue": [port, PortPacket()],
        "zx_port_wait": [port, 0],
        "zx_resource_create": [make.resource(), ZX_RSRC_KIND_IRQ, 0x40, 1, b"one vector"],
        "zx_vcpu_create": [guest.guest, 0, 0x1000],
        "zx_vcpu_enter": [vcpu],
        "zx_vcpu_interrupt": [vcpu, 0x40],
        "zx_vcpu_kick": [vcpu],
        "zx_vcpu_read_state": [vcpu, ZX_VCPU_STATE],
        "zx_vcpu_resume": [vcpu],
        "zx_vcpu_write_state": [vcpu, ZX_VCPU_STATE, VcpuState()],
        "zx_vmar_map": [guest.vmar, 1, 0, vmo, 0, 4096],
        "zx_vmar_protect": [guest.vmar, 1, 0x9000, 4096],
        "zx_vmar_unmap": [guest.vmar, 0x8000, 4096],
        "zx_vmo_create": [4096, 0],
        "zx_vmo_get_size": [vmo],
        "zx_vmo_read": [vmo, 0, 1],
        "zx_vmo_set_size": [resizable, 4096],
        "zx_vmo_write": [vmo, b"1", 0],
    }
    return arguments


def changed(call: str, parameter: str, arguments: list[object], value: object) -> list[object]:
    place = list(inspect.signature(function(call)).parameters).index(parameter)
    return [*arguments[:place], value, *arguments[place + 1 :]]


def test_every_call_with_a_status_is_in_the_tables_with_its_parameters() -> None:
    no_status = {"zx_clock_get_monotonic", "zx_deadline_after"}
    assert {name for name in dir(zx) if name.startswith("zx_")} - no_status == set(CALLS)
    for call, parameters in CALLS.items():
        integers = [p.name for p in inspect.signature(function(call)).parameters.values() if p.annotation == "int"]
        assert list(parameters) == integers
        annotation = inspect.signature(function(call)).return_annotation
        assert (annotation == "Status") == (call not in NOTHING)


@pytest.mark.kvm
@pytest.mark.parametrize(("call", "parameter"), PARAMETERS)
def test_a_value_outside_the_c_type_is_a_status_and_results_of_zero(
    good: dict[str, list[object]], call: str, parameter: str
) -> None:
    values, status = CALLS[call][parameter]
    for value in values:
        arguments = changed(call, parameter, good[call], value)
        assert function(call)(*arguments) == failure(call, status), value
        if call == "zx_handle_replace" and parameter == "rights":
            break  # the handle is gone now


@pytest.mark.kvm
@pytest.mark.parametrize(("call", "parameter"), PARAMETERS)
def test_a_value_that_is_no_integer_is_a_type_error(good: dict[str, list[object]], call: str, parameter: str) -> None:
    for value in NO_INTS:
        with pytest.raises(TypeError):
            function(call)(*changed(call, parameter, good[call], value))
        if call == "zx_handle_replace" and parameter == "rights":
            break


@pytest.mark.kvm
@pytest.mark.parametrize(
    ("call", "parameter", "values"),
    [
        ("zx_port_queue", "packet", [None, 48, bytes(48), VcpuState()]),
        ("zx_vcpu_write_state", "state", [None, 0, bytes(136), PortPacket(), VcpuIo(access_size=1)]),
        ("zx_object_set_property", "value", [None, 1, "text"]),
        ("zx_resource_create", "name", [None, 1, "text"]),
        ("zx_vmo_write", "data", [None, 1, "text"]),
        ("zx_handle_close_many", "handles_to_close", [None, 3, ["3"], [None]]),
    ],
)
def test_a_wrong_structure_or_buffer_is_a_type_error(
    good: dict[str, list[object]], call: str, parameter: str, values: list[object]
) -> None:
    for value in values:
        with pytest.raises(TypeError):
            function(call)(*changed(call, parameter, good[call], value))


@pytest.mark.kvm
@pytest.mark.parametrize("state", [VcpuState(), PortPacket(), None])
def test_a_structure_of_the_other_kind_is_a_type_error(good: dict[str, list[object]], state: VcpuState) -> None:
    vcpu = good["zx_vcpu_enter"][0]
    assert isinstance(vcpu, int)
    with pytest.raises(TypeError, match="kind 1 does not take a"):
        zx.zx_vcpu_write_state(vcpu, int(ZX_VCPU_IO), state)


@pytest.mark.parametrize(
    ("topic", "nothing"),
    [
        (1, 0),
        (2, InfoHandleBasic()),
        (7, InfoVmar()),
        (18, InfoResource()),
        (19, 0),
        (23, InfoVmo()),
        (32, InfoVcpu()),
        (99, 0),
    ],
)
def test_a_failed_get_info_gives_zeros_of_the_topics_type(topic: int, nothing: object) -> None:
    assert zx.zx_object_get_info(0, topic) == (BAD_HANDLE, nothing)


@pytest.mark.parametrize("handle", NO_HANDLE)
def test_a_handle_outside_its_type_among_others_is_told_and_the_others_are_closed(handle: int, make: Maker) -> None:
    first, last = make.port(), make.port()
    assert zx.zx_handle_close_many([first, handle, last]) is BAD_HANDLE
    assert [zx.zx_handle_close(first), zx.zx_handle_close(last)] == [BAD_HANDLE] * 2


def test_zero_is_never_a_handle_but_may_be_closed() -> None:
    assert zx.zx_handle_close(0) is Status.OK
    assert zx.zx_handle_close_many([0, 0]) is Status.OK
    assert zx.zx_handle_duplicate(0, ZX_RIGHT_SAME_RIGHTS) == (BAD_HANDLE, 0)


@pytest.mark.parametrize(
    ("ns", "low", "high"),
    [
        (HUGE, ZX_TIME_INFINITE, ZX_TIME_INFINITE),
        (ZX_TIME_INFINITE, ZX_TIME_INFINITE, ZX_TIME_INFINITE),
        (-HUGE, ZX_TIME_INFINITE_PAST, ZX_TIME_INFINITE_PAST),
        (0, 1, ZX_TIME_INFINITE - 1),
    ],
)
def test_a_deadline_stays_within_its_type(ns: int, low: int, high: int) -> None:
    assert low <= zx.zx_deadline_after(ns) <= high


def test_the_clock_never_goes_back_and_deadlines_are_on_it() -> None:
    before = zx.zx_clock_get_monotonic()
    deadline = zx.zx_deadline_after(1000)
    assert before + 1000 <= deadline <= zx.zx_clock_get_monotonic() + 1000


def test_a_virtual_interrupt_does_not_look_at_the_resource() -> None:
    for handle in [0, *NO_HANDLE]:
        status, interrupt = zx.zx_interrupt_create(handle, 0x40, ZX_INTERRUPT_VIRTUAL)
        assert status is Status.OK
        assert zx.zx_handle_close(interrupt) is Status.OK
