"""Vmo.name: text, which all objects of one VMO share."""

from __future__ import annotations

import pytest

import kvmbind
from kvmbind import Vmo, zx


def test_a_vmo_has_a_name_which_its_duplicates_share() -> None:
    with Vmo.create(4096) as vmo, vmo.duplicate() as other:
        assert vmo.name == ""
        vmo.name = "Gästespeicher"
        assert other.name == "Gästespeicher"
        assert zx.zx_object_get_info(vmo.handle, zx.ZX_INFO_VMO)[1].name == "Gästespeicher".encode()


@pytest.mark.parametrize("name", ["x" * 32, "ü" * 16, "a\0b"])
def test_a_name_that_would_be_cut_is_refused(name: str) -> None:
    with Vmo.create(4096) as vmo:
        vmo.name = "x" * 31
        with pytest.raises(kvmbind.InvalidArgsError, match="31 bytes"):
            vmo.name = name
        assert vmo.name == "x" * 31


def test_a_name_that_is_no_text_is_shown_all_the_same() -> None:
    with Vmo.create(4096) as vmo:
        zx.zx_object_set_property(vmo.handle, zx.ZX_PROP_NAME, b"\xff!")
        assert vmo.name == "\ufffd!"


def test_a_name_needs_its_rights() -> None:
    with Vmo.create(4096) as vmo:
        with vmo.duplicate(vmo.rights & ~zx.ZX_RIGHT_GET_PROPERTY) as less, pytest.raises(kvmbind.AccessDeniedError):
            _ = less.name
        with vmo.duplicate(vmo.rights & ~zx.ZX_RIGHT_SET_PROPERTY) as less, pytest.raises(kvmbind.AccessDeniedError):
            less.name = "x"
