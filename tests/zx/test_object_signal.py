"""zx_object_signal: who may set which signals of what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_RIGHT_SIGNAL,
    ZX_SIGNAL_HANDLE_CLOSED,
    ZX_USER_SIGNAL_0,
    ZX_USER_SIGNAL_7,
    ZX_USER_SIGNAL_ALL,
    ZX_VIRTUAL_INTERRUPT_UNTRIGGERED,
    ZX_VMO_ZERO_CHILDREN,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker

OK, INVALID_ARGS, ACCESS_DENIED = Status.OK, Status.INVALID_ARGS, Status.ACCESS_DENIED


def user_signals(handle: int) -> int:
    """The user signals that are set now."""
    status, observed = zx.zx_object_wait_one(handle, 0, 0)
    assert status is Status.TIMED_OUT
    return observed & ZX_USER_SIGNAL_ALL


def one(make: Maker, kind: str) -> int:
    match kind:
        case "interrupt":
            return make.interrupt()
        case "vmo":
            return make.vmo(4096)
    return make.vcpu(make.guest().guest)


@pytest.mark.parametrize("kind", ["interrupt", "vmo", pytest.param("vcpu", marks=pytest.mark.kvm)])
def test_user_signals_are_cleared_and_then_set(make: Maker, kind: str) -> None:
    handle, seen = one(make, kind), []
    for clear, set_ in [
        (0, ZX_USER_SIGNAL_ALL),
        (ZX_USER_SIGNAL_0, 0),
        (ZX_USER_SIGNAL_7, ZX_USER_SIGNAL_0 | ZX_USER_SIGNAL_7),
        (ZX_USER_SIGNAL_ALL, ZX_USER_SIGNAL_0),
        (ZX_USER_SIGNAL_7, 0),
        (ZX_USER_SIGNAL_ALL, 0),
    ]:
        assert zx.zx_object_signal(handle, clear, set_) is OK
        seen.append(user_signals(handle))
    without_0 = ZX_USER_SIGNAL_ALL & ~ZX_USER_SIGNAL_0
    assert seen == [ZX_USER_SIGNAL_ALL, without_0, ZX_USER_SIGNAL_ALL, ZX_USER_SIGNAL_0, ZX_USER_SIGNAL_0, 0]


@pytest.mark.parametrize(
    "signals", [1, ZX_VMO_ZERO_CHILDREN, ZX_VIRTUAL_INTERRUPT_UNTRIGGERED, ZX_SIGNAL_HANDLE_CLOSED, 0xFFFFFFFF]
)
def test_signals_that_are_not_a_users_are_refused_in_either_mask_and_nothing_changes(make: Maker, signals: int) -> None:
    interrupt = make.interrupt()
    assert zx.zx_object_signal(interrupt, 0, ZX_USER_SIGNAL_7) is OK
    assert zx.zx_object_signal(interrupt, signals, 0) is INVALID_ARGS
    assert zx.zx_object_signal(interrupt, ZX_USER_SIGNAL_7, signals | ZX_USER_SIGNAL_0) is INVALID_ARGS
    assert user_signals(interrupt) == ZX_USER_SIGNAL_7


def test_handles_to_one_object_share_its_signals(make: Maker) -> None:
    interrupt = make.interrupt()
    other = make.with_rights(interrupt, ZX_RIGHT_SIGNAL)
    assert zx.zx_object_signal(other, 0, ZX_USER_SIGNAL_0) is OK
    assert user_signals(interrupt) == ZX_USER_SIGNAL_0


def test_a_destroyed_interrupt_still_has_them(make: Maker) -> None:
    interrupt = make.interrupt()
    assert zx.zx_interrupt_destroy(interrupt) is OK
    assert zx.zx_object_signal(interrupt, 0, ZX_USER_SIGNAL_0) is OK
    assert user_signals(interrupt) == ZX_USER_SIGNAL_0


@pytest.mark.kvm
def test_guests_vmars_ports_and_resources_have_no_signals_to_set(make: Maker) -> None:
    guest = make.guest()
    for handle in (guest.guest, guest.vmar, make.port(), make.resource()):
        assert zx.zx_object_signal(handle, 0, ZX_USER_SIGNAL_0) is ACCESS_DENIED
