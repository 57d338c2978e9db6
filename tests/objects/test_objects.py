"""What every object does with its handle, from adopting it to saying that it is closed."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import kvmbind
from kvmbind import Guest, Interrupt, PortPacket, Resource, Status, Vcpu, VcpuIo, VcpuState, Vmar, Vmo, guests, zx
from kvmbind.objects.base import KernelObject

if TYPE_CHECKING:
    from tests.conftest import Boot, MakeInterrupt

Object = KernelObject[Any]


def make_vcpu(others: contextlib.ExitStack) -> Vcpu:
    return Vcpu.create(others.enter_context(Guest.create()))


def make_vmar(others: contextlib.ExitStack) -> Vmar:
    return others.enter_context(Guest.create()).vmar.duplicate()


#: How to make one of each; what else that needs is left open on the stack.
MAKERS: dict[str, Callable[[contextlib.ExitStack], Object]] = {
    "Guest": lambda _: Guest.create(),
    "Interrupt": lambda _: Interrupt.create(0x40),
    "Port": lambda _: kvmbind.Port.create(),
    "Resource": lambda _: Resource.root(),
    "Vcpu": make_vcpu,
    "Vmar": make_vmar,
    "Vmo": lambda _: Vmo.create(4096),
}
NEED_NO_KVM = ("Interrupt", "Port", "Vmo")


def marks(kind: str) -> tuple[pytest.MarkDecorator, ...]:
    return () if kind in NEED_NO_KVM else (pytest.mark.kvm,)


each_kind = pytest.mark.parametrize("kind", [pytest.param(kind, id=kind, marks=marks(kind)) for kind in MAKERS])


@pytest.fixture
def obj(kind: str, opened: contextlib.ExitStack) -> Iterator[Object]:
    """An object of the kind that the test is about."""
    with MAKERS[kind](opened) as made:
        yield made


def is_open(handle: int) -> bool:
    status, _ = zx.zx_object_get_info(handle, zx.ZX_INFO_HANDLE_BASIC)
    assert status in (Status.OK, Status.BAD_HANDLE)
    return status is Status.OK


# Whose the handle is


@each_kind
def test_an_adopted_handle_is_closed_with_its_object_and_no_other_is(obj: Object) -> None:
    raw = obj.duplicate().release()
    adopted = type(obj)(raw)
    assert (adopted.handle, adopted.koid, adopted.rights) == (raw, obj.koid, obj.rights)
    adopted.close()
    assert not is_open(raw)
    assert is_open(obj.handle)


@each_kind
def test_a_borrowed_handle_stays_open(obj: Object) -> None:
    borrowed = type(obj).borrow(obj.handle)
    assert (borrowed.handle, borrowed.koid, borrowed.rights) == (obj.handle, obj.koid, obj.rights)
    borrowed.close()
    assert borrowed.closed
    assert (borrowed.handle, borrowed.rights) == (0, 0)
    assert is_open(obj.handle)


@each_kind
def test_a_borrower_that_is_collected_neither_warns_nor_closes(obj: Object) -> None:
    type(obj).borrow(obj.handle)
    gc.collect()
    Vmo.create(4096).close()  # what is abandoned ends here
    assert is_open(obj.handle)


@each_kind
@pytest.mark.parametrize("way", ["adopt", "borrow"])
def test_a_handle_of_another_kind_is_refused_and_stays_open(
    obj: Object, way: str, opened: contextlib.ExitStack
) -> None:
    other: Object = kvmbind.Port.create() if isinstance(obj, Vmo) else Vmo.create(4096)
    opened.enter_context(other)
    take = type(obj) if way == "adopt" else type(obj).borrow
    with pytest.raises(kvmbind.WrongTypeError, match=f"the handle is of a {type(other).__name__}Dispatcher"):
        take(other.handle)
    assert is_open(other.handle)


@each_kind
@pytest.mark.parametrize("way", ["adopt", "borrow"])
def test_a_closed_handle_is_refused(obj: Object, way: str) -> None:
    take = type(obj) if way == "adopt" else type(obj).borrow
    raw = obj.duplicate().release()
    assert zx.zx_handle_close(raw) is Status.OK
    with pytest.raises(kvmbind.BadHandleError, match=f"{raw:#x} is not an open handle"):
        take(raw)


@each_kind
def test_a_released_handle_is_the_callers_to_close(obj: Object) -> None:
    released = obj.duplicate()
    raw = released.release()
    assert released.closed
    assert released.handle == 0
    released.close()
    assert is_open(raw)
    assert zx.zx_handle_close(raw) is Status.OK


# More handles, and fewer rights


@each_kind
def test_a_duplicate_has_a_handle_of_its_own_to_the_same_object(obj: Object) -> None:
    with obj.duplicate() as other:
        assert type(other) is type(obj)
        assert other.handle != obj.handle
        assert (other.koid, other.rights) == (obj.koid, obj.rights)
    assert is_open(obj.handle)


@each_kind
def test_a_duplicate_has_the_rights_that_were_asked_for(obj: Object) -> None:
    with obj.duplicate(zx.ZX_RIGHT_TRANSFER) as other:
        assert other.rights == zx.ZX_RIGHT_TRANSFER


@each_kind
def test_a_duplicate_never_has_a_right_that_the_handle_lacks(obj: Object) -> None:
    with obj.duplicate(zx.ZX_RIGHT_DUPLICATE) as weak, pytest.raises(kvmbind.InvalidArgsError) as caught:
        weak.duplicate(zx.ZX_RIGHT_TRANSFER)
    assert caught.value.call == "zx_handle_duplicate"
    assert caught.value.hint == "rights 0x2 are not a part of the handle's 0x1"


@each_kind
def test_a_handle_without_the_right_to_be_duplicated_is_not(obj: Object) -> None:
    with obj.duplicate(zx.ZX_RIGHT_TRANSFER) as weak, pytest.raises(kvmbind.AccessDeniedError) as caught:
        weak.duplicate()
    assert caught.value.call == "zx_handle_duplicate"
    assert "ZX_RIGHT_DUPLICATE" in caught.value.hint


@each_kind
def test_a_replaced_handle_is_gone_and_the_new_one_has_the_rights_asked_for(obj: Object) -> None:
    old, koid = obj.handle, obj.koid
    with obj.replace(zx.ZX_RIGHT_TRANSFER) as new:
        assert type(new) is type(obj)
        assert obj.closed
        assert not is_open(old)
        assert (new.koid, new.rights) == (koid, zx.ZX_RIGHT_TRANSFER)


@each_kind
def test_a_replacement_that_is_refused_closes_the_handle_all_the_same(obj: Object) -> None:
    weak = obj.duplicate(zx.ZX_RIGHT_DUPLICATE)
    raw = weak.handle
    with pytest.raises(kvmbind.InvalidArgsError) as caught:
        weak.replace(zx.ZX_RIGHT_TRANSFER)
    assert caught.value.call == "zx_handle_replace"
    assert weak.closed
    assert not is_open(raw)


@each_kind
def test_koid_and_rights_are_those_that_the_kernel_tells(obj: Object) -> None:
    status, info = zx.zx_object_get_info(obj.handle, zx.ZX_INFO_HANDLE_BASIC)
    assert status is Status.OK
    assert isinstance(info, zx.InfoHandleBasic)
    assert (obj.koid, obj.rights) == (info.koid, info.rights)


# Closing


@each_kind
def test_closing_closes_the_handle_and_again_does_nothing(obj: Object) -> None:
    raw = obj.handle
    assert not obj.closed
    obj.close()
    assert obj.closed
    assert not is_open(raw)
    obj.close()


@each_kind
def test_leaving_a_with_block_closes_also_when_it_raises(obj: Object) -> None:
    raw = obj.handle
    with contextlib.suppress(ZeroDivisionError), obj as same:
        assert same is obj
        raise ZeroDivisionError
    assert obj.closed
    assert not is_open(raw)


@each_kind
def test_a_closed_object_has_no_handle_no_rights_and_says_so(kind: str, obj: Object) -> None:
    assert repr(obj).startswith(f"<kvmbind.{kind} ")
    assert f"handle={obj.handle:#x}>" in repr(obj)
    obj.close()
    assert (obj.handle, obj.rights) == (0, 0)
    assert repr(obj) == f"<kvmbind.{kind} closed>"


@each_kind
def test_an_object_whose_handle_somebody_closed_knows_it(kind: str, obj: Object) -> None:
    assert zx.zx_handle_close(obj.handle) is Status.OK
    assert obj.closed
    assert (obj.handle, obj.rights) == (0, 0)
    assert repr(obj) == f"<kvmbind.{kind} closed>"
    obj.close()


@each_kind
@pytest.mark.parametrize("event", ["open", "close"])
def test_an_object_collected_while_open_warns_and_the_next_open_or_close_closes_its_handle(
    kind: str, event: str, opened: contextlib.ExitStack
) -> None:
    spare = opened.enter_context(Vmo.create(4096))
    made = MAKERS[kind](opened)
    raw = made.handle
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del made
        gc.collect()
        said = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
        caught.clear()  # a warning keeps its object, and that its parts
        gc.collect()
    assert len([line for line in said if line.startswith(f"unclosed <kvmbind.{kind} ")]) == 1
    assert is_open(raw)
    if event == "open":
        opened.enter_context(Vmo.create(4096))
    else:
        spare.close()
    assert not is_open(raw)


# What each method says of a handle that is closed, or lacks a right


class Use(NamedTuple):
    """A use of an object, the call that its error names, and the right that it needs."""

    kind: str
    use: Callable[[Any], object]
    call: str
    right: int = 0


def connect_a_bell(guest: Guest) -> None:
    with Interrupt.create() as irq:
        guest.connect_bell(0, irq)


def set_a_bell(guest: Guest) -> None:
    with kvmbind.Port.create() as port:
        guest.set_trap_bell(0, 4096, port, 0)


USES = [
    *(Use(kind, lambda it: it.koid, "koid") for kind in MAKERS),
    *(Use(kind, lambda it: it.duplicate(), "zx_handle_duplicate") for kind in MAKERS),
    *(Use(kind, lambda it: it.replace(zx.ZX_RIGHT_SAME_RIGHTS), "zx_handle_replace") for kind in MAKERS),
    *(Use(kind, lambda it: it.release(), "release") for kind in MAKERS),
    Use("Guest", lambda it: it.read(0, 0), "Guest.read", zx.ZX_RIGHT_INSPECT),
    Use("Guest", lambda it: it.write(b"", 0), "Guest.write", zx.ZX_RIGHT_WRITE),
    Use("Guest", lambda it: it.read_u32(0), "Guest.read_u32", zx.ZX_RIGHT_INSPECT),
    Use("Guest", lambda it: it.wait_u32(0, 0), "Guest.wait_u32", zx.ZX_RIGHT_INSPECT),
    Use("Guest", lambda it: it.set_trap_io(0x80, 1, 0), "zx_guest_set_trap", zx.ZX_RIGHT_WRITE),
    Use("Guest", lambda it: it.set_trap_mem(0, 4096, 0), "zx_guest_set_trap", zx.ZX_RIGHT_WRITE),
    Use("Guest", connect_a_bell, "Guest.connect_bell", zx.ZX_RIGHT_WRITE),
    Use("Guest", set_a_bell, "zx_guest_set_trap", zx.ZX_RIGHT_WRITE),
    Use("Guest", lambda it: it.start_vcpu(), "zx_vcpu_create", zx.ZX_RIGHT_MANAGE_PROCESS),
    Use("Guest", lambda it: Vcpu.create(it), "zx_vcpu_create", zx.ZX_RIGHT_MANAGE_PROCESS),
    Use("Guest", lambda it: it.bind_interrupts([]), "zx_interrupt_bind_vcpu"),
    Use("Interrupt", lambda it: it.trigger(), "zx_interrupt_trigger", zx.ZX_RIGHT_SIGNAL),
    Use("Interrupt", lambda it: it.wait(0), "zx_interrupt_wait", zx.ZX_RIGHT_WAIT),
    Use("Interrupt", lambda it: it.ack(), "zx_interrupt_ack", zx.ZX_RIGHT_WRITE),
    Use("Interrupt", lambda it: it.destroy(), "zx_interrupt_destroy"),
    Use("Interrupt", lambda it: it.fileno(), "fileno"),
    Use("Interrupt", lambda it: it.vector, "vector"),
    Use("Port", lambda it: it.wait(0), "zx_port_wait", zx.ZX_RIGHT_READ),
    Use("Port", lambda it: it.queue(PortPacket()), "zx_port_queue", zx.ZX_RIGHT_WRITE),
    Use("Port", lambda it: it.fileno(), "fileno"),
    Use("Resource", lambda it: Guest.create(resource=it), "zx_guest_create"),
    Use("Vcpu", lambda it: it.enter(0), "zx_vcpu_enter", zx.ZX_RIGHT_EXECUTE),
    Use("Vcpu", lambda it: it.kick(), "zx_vcpu_kick", zx.ZX_RIGHT_EXECUTE),
    Use("Vcpu", lambda it: it.interrupt(0x40), "zx_vcpu_interrupt", zx.ZX_RIGHT_SIGNAL),
    Use("Vcpu", lambda it: it.read_state(), "zx_vcpu_read_state", zx.ZX_RIGHT_READ),
    Use("Vcpu", lambda it: it.write_state(VcpuState()), "zx_vcpu_write_state", zx.ZX_RIGHT_WRITE),
    Use("Vcpu", lambda it: it.write_io(VcpuIo(access_size=1)), "zx_vcpu_write_state", zx.ZX_RIGHT_WRITE),
    Use("Vcpu", lambda it: it.kicked, "kicked", zx.ZX_RIGHT_INSPECT),
    Use("Vcpu", lambda it: it.apic_id, "apic_id"),
    Use("Vcpu", lambda it: it.returns, "returns"),
    Use("Vcpu", lambda it: it.interrupted, "interrupted"),
    Use("Vcpu", lambda it: it.stats(), "stats"),
    Use("Vmar", lambda it: it.unmap(0, 4096), "zx_vmar_unmap"),
    Use("Vmo", lambda it: it.size, "zx_vmo_get_size"),
    Use("Vmo", lambda it: it.read(0, 1), "zx_vmo_read", zx.ZX_RIGHT_READ),
    Use("Vmo", lambda it: it.write(b"", 0), "zx_vmo_write", zx.ZX_RIGHT_WRITE),
    Use("Vmo", lambda it: it.view(), "Vmo.view", zx.ZX_RIGHT_READ),
    Use("Vmo", lambda it: it.view(), "Vmo.view", zx.ZX_RIGHT_WRITE),
    Use("Vmo", lambda it: it.fileno(), "fileno"),
]


def each_use(uses: list[Use]) -> pytest.MarkDecorator:
    values = [pytest.param(*use[:3], use.right, id=f"{use.kind}-{use.call}", marks=marks(use.kind)) for use in uses]
    return pytest.mark.parametrize(("kind", "use", "call", "right"), values)


@each_use(USES)
@pytest.mark.parametrize("by", ["close", "zx_handle_close"])
def test_a_closed_object_refuses_every_use_and_names_it(
    kind: str, use: Callable[[Object], object], call: str, right: int, by: str, obj: Object
) -> None:
    if by == "close":
        obj.close()
    else:
        zx.zx_handle_close(obj.handle)
    with pytest.raises(kvmbind.BadHandleError) as caught:
        use(obj)
    assert (caught.value.call, caught.value.hint) == (call, f"the {kind} is closed")
    assert caught.value.status is Status.BAD_HANDLE


@each_use([use for use in USES if use.right])
def test_a_handle_without_the_right_is_refused_and_told_what_it_has_and_needs(
    kind: str, use: Callable[[Object], object], call: str, right: int, obj: Object
) -> None:
    with obj.duplicate(obj.rights & ~right) as weak, pytest.raises(kvmbind.AccessDeniedError) as caught:
        use(weak)
    assert caught.value.call == call
    assert caught.value.hint.startswith(f"the handle has rights {obj.rights & ~right:#x} and needs 0x")
    assert isinstance(caught.value, PermissionError)


# The short way of a trigger knows all that too


@pytest.mark.kvm
def test_a_bound_interrupt_whose_handle_somebody_closed_does_not_fire_by_it(
    boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    irq.bind_vcpu(running.vcpu)
    with irq.duplicate() as other:
        running.answer(irq.trigger)
        assert zx.zx_handle_close(irq.handle) is Status.OK
        with pytest.raises(kvmbind.BadHandleError, match=r"^zx_interrupt_trigger: .*the Interrupt is closed$"):
            irq.trigger()
        running.answer(other.trigger)
        assert running.count() == 2


@pytest.mark.kvm
@pytest.mark.parametrize("first", ["bind", "duplicate"])
def test_a_bound_interrupt_does_not_fire_by_a_handle_without_the_right(
    first: str, boot: Boot, make_interrupt: MakeInterrupt
) -> None:
    running, irq = boot(guests.COUNTER), make_interrupt()
    if first == "bind":
        irq.bind_vcpu(running.vcpu)
    with irq.duplicate(irq.rights & ~zx.ZX_RIGHT_SIGNAL) as weak:
        if first == "duplicate":
            irq.bind_vcpu(running.vcpu)
        with pytest.raises(kvmbind.AccessDeniedError, match=r"^zx_interrupt_trigger: ACCESS_DENIED"):
            weak.trigger()
    running.answer(irq.trigger)
    assert running.count() == 1


@pytest.mark.kvm
@pytest.mark.parametrize("lacking", ["interrupt", "vcpu"])
def test_a_bind_needs_read_of_the_interrupt_and_write_of_the_vcpu(
    lacking: str, boot: Boot, make_interrupt: MakeInterrupt, opened: contextlib.ExitStack
) -> None:
    vcpu, irq = boot(guests.COUNTER).vcpu, make_interrupt()
    if lacking == "interrupt":
        irq = opened.enter_context(irq.duplicate(irq.rights & ~zx.ZX_RIGHT_READ))
    else:
        vcpu = opened.enter_context(vcpu.duplicate(vcpu.rights & ~zx.ZX_RIGHT_WRITE))
    with pytest.raises(kvmbind.AccessDeniedError, match=r"^zx_interrupt_bind_vcpu: "):
        irq.bind_vcpu(vcpu)
