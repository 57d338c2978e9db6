"""An image's bytes as a drive has them: writable, and apart from the file unless asked otherwise."""

from __future__ import annotations

import mmap
import os
import stat

from kvmbind.machine.images.image import ImageError


def open_image(path: str, *, write: bool = False) -> memoryview:
    """Returns a file's bytes.

    Args:
        path: Of a regular file, or of something that can be read to its end.
        write: Whether changes go to the file; otherwise they stay in memory.

    Raises:
        ImageError: It is a directory, or cannot be changed in place.
        OSError: It cannot be opened.
    """
    with open(path, "r+b" if write else "rb") as file:
        kind = os.fstat(file.fileno())
        if not stat.S_ISREG(kind.st_mode):
            if write:
                raise ImageError(f"{path} is no regular file, so its disk cannot be written in place")
            return memoryview(bytearray(file.read()))
        if not kind.st_size:
            return memoryview(bytearray())
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_COPY))
