"""Recording a screen while it changes."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from kvmbind.machine.screen.frames import Picture
from kvmbind.machine.screen.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

PALETTE = bytes(range(0, 256, 16)) * 3


def picture(colour: int) -> Picture:
    return Picture(320, 200, bytes([colour % 16]) * 64000, PALETTE)


def frames_of(path: Path) -> int:
    with Image.open(path) as gif:
        return getattr(gif, "n_frames", 1)


def test_what_changes_is_looked_at_on_another_thread_and_kept(tmp_path: Path) -> None:
    path, numbers, seen = tmp_path / "a.gif", count(), threading.Event()
    threads: set[str] = set()

    def look() -> Picture:
        number = next(numbers)
        threads.add(threading.current_thread().name)
        if number == 4:
            seen.set()
        return picture(number)

    recorder = Recorder(str(path), look)
    assert seen.wait(60)
    recorder.close()
    assert "kvmbind-recorder" in threads
    assert frames_of(path) >= 4
    assert not [thread for thread in threading.enumerate() if thread.name == "kvmbind-recorder"]


def test_the_first_and_the_last_look_are_kept_of_a_short_run(tmp_path: Path) -> None:
    path, looks = tmp_path / "a.gif", iter([picture(0)])
    recorder = Recorder(str(path), lambda: next(looks, picture(5)))
    recorder.close()
    with Image.open(path) as gif:
        gif.seek(frames_of(path) - 1)
        assert gif.convert("RGB").getpixel((0, 0)) == tuple(PALETTE[15:18])


def test_what_fails_meanwhile_is_raised_at_the_end(tmp_path: Path) -> None:
    failed = threading.Event()

    def look() -> Picture:
        if threading.current_thread().name != "kvmbind-recorder":
            return picture(0)
        failed.set()
        raise OSError("the disk is full")

    recorder = Recorder(str(tmp_path / "a.gif"), look)
    assert failed.wait(60)
    with pytest.raises(OSError, match="the disk is full"):
        recorder.close()
