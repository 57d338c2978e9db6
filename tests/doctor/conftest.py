"""Machines made of files: what /etc, /proc and /sys say there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from kvmbind.doctor import Files, Place

if TYPE_CHECKING:
    from pathlib import Path


class MakeFiles(Protocol):
    """Writes files below a root of their own."""

    def __call__(self, **texts: str) -> Files:
        """Each name is a path, with __ for /."""


@pytest.fixture
def make_files(tmp_path: Path) -> MakeFiles:
    """Makes the files of a machine."""

    def make(**texts: str) -> Files:
        for name, text in texts.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Files(str(tmp_path))

    return make


@pytest.fixture
def debian() -> Place:
    """A Debian machine of its own, with an Intel CPU."""
    return Place("6.1.0-26-amd64", "Debian GNU/Linux 12 (bookworm)", "debian", vendor="intel", virtualization=True)
