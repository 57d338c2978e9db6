"""zx_handle_*: closing, duplicating and replacing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind import zx
from kvmbind.zx import (
    ZX_INFO_HANDLE_BASIC,
    ZX_INFO_HANDLE_COUNT,
    ZX_INFO_HANDLE_VALID,
    ZX_RIGHT_DUPLICATE,
    ZX_RIGHT_MANAGE_JOB,
    ZX_RIGHT_NONE,
    ZX_RIGHT_READ,
    ZX_RIGHT_SAME_RIGHTS,
    ZX_RIGHT_WRITE,
    Status,
)

if TYPE_CHECKING:
    from tests.zx.conftest import Maker


def rights_of(handle: int) -> int:
    status, info = zx.zx_object_get_info(handle, ZX_INFO_HANDLE_BASIC)
    assert status is Status.OK
    return info.rights


def is_open(handle: int) -> bool:
    return zx.zx_object_get_info(handle, ZX_INFO_HANDLE_VALID) == (Status.OK, 0)


def test_closing_needs_no_right_and_works_once(make: Maker) -> None:
    handle = make.with_rights(make.port(), ZX_RIGHT_NONE)
    assert zx.zx_handle_close(handle) is Status.OK
    assert zx.zx_handle_close(handle) is Status.BAD_HANDLE


def test_close_many_passes_over_zeros_and_closes_all_it_can(make: Maker) -> None:
    first, second, third = make.port(), make.port(), make.port()
    assert zx.zx_handle_close_many([0, first, 0, second]) is Status.OK
    assert zx.zx_handle_close_many([first, third]) is Status.BAD_HANDLE
    assert not is_open(third)


def test_close_many_of_the_same_handle_twice_closes_it_and_says_so(make: Maker) -> None:
    first, last = make.port(), make.port()
    assert zx.zx_handle_close_many([first, first, last]) is Status.BAD_HANDLE
    assert not is_open(last)


@pytest.mark.parametrize("rights", [ZX_RIGHT_SAME_RIGHTS, 0, ZX_RIGHT_READ, ZX_RIGHT_READ | ZX_RIGHT_WRITE])
def test_a_duplicate_is_another_handle_to_the_same_object_with_the_rights_asked_for(make: Maker, rights: int) -> None:
    port = make.port()
    status, made = zx.zx_handle_duplicate(port, rights)
    assert make.keep((status, made)) != port
    assert rights_of(made) == (rights_of(port) if rights == ZX_RIGHT_SAME_RIGHTS else rights)
    assert zx.zx_object_get_info(port, ZX_INFO_HANDLE_COUNT) == (Status.OK, 2)


def test_replace_gives_a_new_handle_and_closes_the_old_without_a_right(make: Maker) -> None:
    port = make.without(make.port(), ZX_RIGHT_DUPLICATE)
    made = make.keep(zx.zx_handle_replace(port, ZX_RIGHT_READ))
    assert not is_open(port)
    assert rights_of(made) == ZX_RIGHT_READ
    same = make.keep(zx.zx_handle_replace(made, ZX_RIGHT_SAME_RIGHTS))
    assert rights_of(same) == ZX_RIGHT_READ


def test_replace_with_a_right_that_the_handle_lacks_is_refused_and_closes_it_all_the_same(make: Maker) -> None:
    port = make.port()
    assert zx.zx_handle_replace(port, ZX_RIGHT_MANAGE_JOB) == (Status.INVALID_ARGS, 0)
    assert zx.zx_handle_replace(port, ZX_RIGHT_MANAGE_JOB) == (Status.BAD_HANDLE, 0)


def test_rights_only_shrink_along_a_chain_of_handles(make: Maker) -> None:
    reader = make.with_rights(make.port(), ZX_RIGHT_READ | ZX_RIGHT_DUPLICATE)
    assert zx.zx_handle_duplicate(reader, ZX_RIGHT_WRITE) == (Status.INVALID_ARGS, 0)
    assert zx.zx_port_queue(reader, zx.PortPacket()) is Status.ACCESS_DENIED


def test_an_object_lives_until_its_last_handle_is_closed(make: Maker) -> None:
    vmo = make.vmo(4096)
    other = make.with_rights(vmo, ZX_RIGHT_SAME_RIGHTS)
    assert zx.zx_vmo_write(vmo, b"kept", 0) is Status.OK
    assert zx.zx_handle_close(vmo) is Status.OK
    assert zx.zx_vmo_read(other, 0, 4) == (Status.OK, b"kept")
    assert zx.zx_object_get_info(other, ZX_INFO_HANDLE_COUNT) == (Status.OK, 1)
