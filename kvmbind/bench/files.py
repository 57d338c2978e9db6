"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def require_writable(path: str | Path) -> None:
    """Tells early that a file could not be written.

    Raises:
        OSError: Its folder is missing or may not be written, or it is a folder itself.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        raise IsADirectoryError(21, os.strerror(21), path)
    if _is_special(path):
        return
    descriptor, name = _temporary(path)
    os.close(descriptor)
    os.unlink(name)


@contextlib.contextmanager
def replace_whole(path: str | Path) -> Iterator[IO[bytes]]:
    """Gives a file to write, which takes the place of `path` when all of it is on the disk.

    A device or a pipe is written itself.

    Raises:
        OSError: It cannot be written: no space, no right; what was there before stays.
    """
    path = os.fspath(path)
    with _naming(path):
        if _is_special(path):
            with open(path, "wb") as file:
                yield file
            return
        descriptor, name = _temporary(path)
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _temporary(path: str) -> tuple[int, str]:
    with _naming(path):
        return tempfile.mkstemp(prefix=".kvmbind-", dir=os.path.dirname(path) or ".")


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Makes errors name the file that was asked for, not a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
