"""What every object has: a handle that it owns, and an honest end."""

from __future__ import annotations

import contextlib
import gc
import re
import threading
from typing import TYPE_CHECKING

import pytest

import kvmbind
from kvmbind import Guest, Interrupt, Port, Resource, Vcpu, Vmar, Vmo, zx
from kvmbind.zx import ZX_RIGHT_DUPLICATE, ZX_RIGHT_MANAGE_JOB, ZX_RIGHT_NONE, ZX_RIGHT_TRANSFER, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    Object = Guest | Interrupt | Port | Resource | Vcpu | Vmar | Vmo
    Make = Callable[[], Object]

HANDLES_OF_GUESTS = ("guest", "vcpu", "vmar")
KINDS = [
    "interrupt",
    "port",
    "vmo",
    *(pytest.param(kind, marks=pytest.mark.kvm) for kind in ("resource", *HANDLES_OF_GUESTS)),
]
CLASSES: dict[str, type[Object]] = {
    "guest": Guest,
    "interrupt": Interrupt,
    "port": Port,
    "resource": Resource,
    "vcpu": Vcpu,
    "vmar": Vmar,
    "vmo": Vmo,
}
#: What an open object of each kind says of itself before its handle.
FACTS = {"interrupt": "vector=0x40 ", "vmo": "size=0x2000 ", "vcpu": "apic_id=0 "}


@pytest.fixture
def make(kind: str, opened: contextlib.ExitStack) -> Make:
    """Makes one of the kind; what it needs beside it is closed after the test, and so is it."""

    def make() -> Object:
        match kind:
            case "interrupt":
                return opened.enter_context(Interrupt.create(0x40))
            case "port":
                return opened.enter_context(Port.create())
            case "vmo":
                return opened.enter_context(Vmo.create(8192))
            case "resource":
                return opened.enter_context(Resource.root())
        guest = opened.enter_context(Guest.create())
        if kind == "guest":
            return guest
        return guest.vmar if kind == "vmar" else opened.enter_context(Vcpu.create(guest))

    return make


def is_open(handle: int) -> bool:
    return zx.zx_object_get_info(handle, zx.ZX_INFO_HANDLE_VALID)[0] is Status.OK


def handle_count(obj: Object) -> int:
    return zx.zx_object_get_info(obj.handle, zx.ZX_INFO_HANDLE_COUNT)[1]


pytestmark = pytest.mark.parametrize("kind", KINDS)


def test_its_handle_koid_and_rights_are_those_that_the_calls_see(make: Make) -> None:
    obj = make()
    status, info = zx.zx_object_get_info(obj.handle, zx.ZX_INFO_HANDLE_BASIC)
    assert status is Status.OK
    assert (obj.koid, obj.rights, obj.closed) == (info.koid, info.rights, False)


def test_close_closes_the_handle_and_again_does_nothing(make: Make) -> None:
    obj = make()
    handle = obj.handle
    obj.close()
    obj.close()
    assert (obj.closed, obj.handle, obj.rights, is_open(handle)) == (True, 0, 0, False)


def test_a_with_block_closes_it_also_when_it_raises(make: Make) -> None:
    obj = make()
    handle = obj.handle
    with contextlib.suppress(ZeroDivisionError), obj as same:
        assert same is obj
        raise ZeroDivisionError
    assert obj.closed
    assert not is_open(handle)


def test_a_raw_handle_is_adopted_and_closed_with_the_object(make: Make, kind: str) -> None:
    handle = make().duplicate().release()
    with CLASSES[kind](handle) as obj:
        assert obj.handle == handle
    assert not is_open(handle)


def test_a_borrowed_handle_stays_open(make: Make, kind: str) -> None:
    owner = make()
    with CLASSES[kind].borrow(owner.handle) as obj:
        assert (obj.handle, obj.koid) == (owner.handle, owner.koid)
    assert (obj.closed, obj.handle) == (True, 0)
    assert is_open(owner.handle)


@pytest.mark.filterwarnings("error")
def test_a_borrowed_handle_may_be_forgotten(make: Make, kind: str) -> None:
    owner = make()
    CLASSES[kind].borrow(owner.handle)
    gc.collect()
    assert is_open(owner.handle)


def test_what_is_no_handle_or_one_of_another_kind_is_refused_and_stays_as_it_is(make: Make, kind: str) -> None:
    cls = CLASSES[kind]
    other: Port | Vmo = Vmo.create(4096) if kind == "port" else Port.create()
    with other:
        for use in (cls, cls.borrow):
            with pytest.raises(kvmbind.WrongTypeError):
                use(other.handle)
        assert is_open(other.handle)
    obj = make()
    handle = obj.handle
    obj.close()
    for use in (cls, cls.borrow):
        for bad in (handle, 0, -1, 1 << 40):
            with pytest.raises(kvmbind.BadHandleError):
                use(bad)


def test_a_duplicate_is_another_handle_to_the_same_object(make: Make) -> None:
    obj = make()
    with obj.duplicate() as same, obj.duplicate(ZX_RIGHT_TRANSFER) as less:
        assert len({obj.handle, same.handle, less.handle}) == 3
        assert obj.koid == same.koid == less.koid
        assert (same.rights, less.rights) == (obj.rights, ZX_RIGHT_TRANSFER)
        assert handle_count(obj) >= 3
        obj.close()
        assert not same.closed


def test_a_duplicate_needs_the_right_and_gets_no_more(make: Make) -> None:
    obj = make()
    with pytest.raises(kvmbind.InvalidArgsError, match=r"^zx_handle_duplicate: INVALID_ARGS"):
        obj.duplicate(ZX_RIGHT_MANAGE_JOB)
    with (
        obj.duplicate(obj.rights & ~ZX_RIGHT_DUPLICATE) as less,
        pytest.raises(kvmbind.AccessDeniedError, match=r"^zx_handle_duplicate: ACCESS_DENIED"),
    ):
        less.duplicate()


def test_replace_closes_the_handle_and_gives_another(make: Make) -> None:
    obj = make()
    handle, koid = obj.handle, obj.koid
    with obj.replace(ZX_RIGHT_TRANSFER) as other:
        assert (other.koid, other.rights) == (koid, ZX_RIGHT_TRANSFER)
        assert obj.closed
        assert not is_open(handle)


def test_replace_with_too_many_rights_closes_it_all_the_same(make: Make) -> None:
    obj = make()
    with pytest.raises(kvmbind.InvalidArgsError, match=r"^zx_handle_replace: INVALID_ARGS"):
        obj.replace(ZX_RIGHT_MANAGE_JOB)
    assert obj.closed


def test_release_gives_the_raw_handle_away(make: Make) -> None:
    obj = make()
    handle = obj.release()
    assert (obj.closed, obj.handle) == (True, 0)
    obj.close()
    assert zx.zx_handle_close(handle) is Status.OK


def test_a_handle_that_somebody_closed_makes_the_object_closed(make: Make) -> None:
    obj = make()
    zx.zx_handle_close(obj.handle)
    assert obj.closed
    obj.close()


def test_every_use_of_a_closed_object_is_a_bad_handle_that_names_the_class(make: Make) -> None:
    obj = make()
    obj.close()
    for use in (lambda: obj.koid, obj.duplicate, lambda: obj.replace(ZX_RIGHT_NONE), obj.release):
        with pytest.raises(kvmbind.BadHandleError, match=f"the {type(obj).__name__} is closed"):
            use()


def test_repr_says_what_it_is_and_whether_it_is_closed(make: Make, kind: str) -> None:
    obj = make()
    name = type(obj).__name__
    assert re.fullmatch(rf"<kvmbind\.{name} {FACTS.get(kind, '')}handle=0x[0-9a-f]+>", repr(obj))
    assert f"handle={obj.handle:#x}" in repr(obj)
    obj.close()
    assert repr(obj) == f"<kvmbind.{name} closed>"


def test_an_object_that_is_collected_open_warns_and_its_handle_is_closed_by_the_next_call(make: Make) -> None:
    left = [make().duplicate()]
    handle, name = left[0].handle, type(left[0]).__name__
    with pytest.warns(ResourceWarning, match=rf"unclosed <kvmbind\.{name} "):
        left.clear()
    with Port.create():
        assert not is_open(handle)


def test_of_many_threads_that_close_it_none_fails(make: Make) -> None:
    obj, failures = make(), list[BaseException]()

    def close() -> None:
        try:
            obj.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert obj.closed


def test_it_has_no_attribute_that_nobody_declared(make: Make) -> None:
    obj = make()
    with pytest.raises(AttributeError):
        obj.valu = 1  # type: ignore[union-attr]
