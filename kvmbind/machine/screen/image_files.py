"""Frames as image files: a screenshot as PNG, a recording as GIF. Pillow does the work; it is imported when used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvmbind.machine.screen.frames import Frame, Picture
from kvmbind.machine.screen.render import on_monitor, render

if TYPE_CHECKING:
    import os
    from types import ModuleType

    from PIL.Image import Image

_MISSING = "image files need Pillow: pip install 'kvmbind[images]'"

_NS_PER_TICK = 10_000_000  # GIF counts hundredths of a second
#: Browsers show shorter frames for a tenth of a second.
SHORTEST_TICKS = 2
_LONGEST_TICKS = 0xFFFF
_LOOP_FOR_EVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
_TRAILER = b";"
_CANVAS_AT = 6  # in the file: width and height of the canvas


def save_png(frame: Frame, path: str | os.PathLike[str]) -> None:
    """Writes a screenshot: the frame's pixels as a monitor shows them, in its own colours.

    Raises:
        ImportError: Pillow is not installed.
        OSError: The file cannot be written.
    """
    _pillow()
    _image(on_monitor(render(frame))).save(path, format="PNG", optimize=True)


class Recording:
    """A GIF that is written as it happens: only what differs from one frame to the next, for as long as it was seen.

    It has three frames in memory, however long it goes on. Nothing that changes faster than 50 times a second is in it.

    Threads: one at a time.
    """

    __slots__ = ("_canvas", "_drawn", "_file", "_frame", "_next", "_start_ns", "_ticks")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Makes the file.

        Raises:
            ImportError: Pillow is not installed.
            OSError: The file cannot be made, or is one that cannot be written out of order.
        """
        _pillow()
        self._file = open(path, "wb")  # noqa: SIM115  # `close` closes it
        if not self._file.seekable():
            self._file.close()
            raise OSError(f"{path}: a recording needs a file that can be written out of order")
        self._canvas = (0, 0)
        self._frame: Frame | None = None
        self._drawn: Picture | None = None
        self._next: Picture | None = None
        self._start_ns = 0
        self._ticks = 0

    def add(self, frame: Frame, timestamp_ns: int) -> None:
        """Takes what the screen shows from `timestamp_ns` (monotonic) on; a frame like the last one costs nothing."""
        if frame == self._frame:
            return
        self._frame = frame
        picture = self._on_canvas(on_monitor(render(frame)))
        if self._next is None:
            self._start_ns = timestamp_ns
        elif picture == self._next:
            return
        else:
            self._write_next(timestamp_ns)
        self._next = picture

    def close(self, timestamp_ns: int) -> None:
        """Ends the last frame and the file; a recording without a frame is a black pixel. Again it does nothing."""
        if self._file.closed:
            return
        with self._file:
            if self._next is None:
                self._next = self._on_canvas(Picture(1, 1, b"\0", bytes(3)))
            self._write_next(timestamp_ns, at_end=True)
            self._file.write(_TRAILER)
            self._file.seek(_CANVAS_AT)
            self._file.write(b"".join(side.to_bytes(2, "little") for side in self._canvas))

    def _on_canvas(self, picture: Picture) -> Picture:
        """The picture as large as the largest one yet, so that nothing of a larger one stays to be seen."""
        width, height = (max(pair) for pair in zip(self._canvas, picture[:2], strict=True))
        self._canvas = width, height
        if (picture.width, picture.height) == self._canvas:
            return picture
        rows = b"".join(picture.row(y).ljust(width, b"\0") for y in range(picture.height))
        return Picture(width, height, rows.ljust(width * height, b"\0"), picture.palette)

    def _write_next(self, end_ns: int, *, at_end: bool = False) -> None:
        """Writes the frame that waits, which was seen until `end_ns`; too short a one waits to be replaced."""
        picture = self._next
        assert picture is not None
        ticks = max(0, end_ns - self._start_ns) // _NS_PER_TICK - self._ticks
        if ticks < SHORTEST_TICKS:
            if not at_end:
                return
            ticks = SHORTEST_TICKS
        self._ticks += ticks
        first = min(ticks, _LONGEST_TICKS)
        self._write_frame(picture, first)
        while ticks := ticks - first:  # more of the same, as a pixel that does not change
            first = min(ticks, _LONGEST_TICKS)
            self._write_pixel(picture, first)

    def _write_frame(self, picture: Picture, ticks: int) -> None:
        if self._drawn is None:
            self._file.write(b"GIF89a\0\0\0\0\0\0\0" + _LOOP_FOR_EVER)
        box = _changed(self._drawn, picture) or (0, 0, 1, 1)
        self._write(_image(picture).crop(box), box[:2], ticks)
        self._drawn = picture

    def _write_pixel(self, picture: Picture, ticks: int) -> None:
        self._write(_image(Picture(1, 1, picture.pixels[:1], picture.palette)), (0, 0), ticks)

    def _write(self, image: Image, offset: tuple[int, int], ticks: int) -> None:
        from PIL import GifImagePlugin

        options: dict[str, Any] = {"duration": 10 * ticks, "include_color_table": True, "interlace": 0}
        for part in GifImagePlugin.getdata(image, offset, **options):
            self._file.write(part)


def _changed(old: Picture | None, new: Picture) -> tuple[int, int, int, int] | None:
    """The rectangle in which two pictures differ: left, top, and behind the right and the bottom; None: nowhere."""
    size = new.width, new.height
    if old is None or (old.palette, old.width, old.height) != (new.palette, *size):
        return 0, 0, *size
    from PIL import Image, ImageChops

    before, after = (Image.frombytes("L", size, picture.pixels) for picture in (old, new))
    return ImageChops.difference(before, after).getbbox()


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(_MISSING, name=error.name) from error
    return Image


def _image(picture: Picture) -> Image:
    from PIL import Image

    image = Image.frombytes("P", (picture.width, picture.height), picture.pixels)
    image.putpalette(picture.palette)
    return image
