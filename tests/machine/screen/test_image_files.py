"""Screenshots and recordings, read again by Pillow: the pixels, the colours and the times are those of the frames."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kvmbind.machine.screen.colours import Colours
from kvmbind.machine.screen.frames import Cursor, Frame, Picture, TextFrame
from kvmbind.machine.screen.image_files import Recording, save_png
from kvmbind.machine.screen.render import on_monitor, render

if TYPE_CHECKING:
    from pathlib import Path

PALETTE = Colours().palette(4)
MS = 1_000_000


def text(characters: str, attribute: int = 0x07) -> TextFrame:
    cells = b"".join(bytes((code, attribute)) for code in characters.ljust(80 * 25).encode("cp437"))
    return TextFrame(80, 25, cells, PALETTE)


@functools.cache
def rgb(frame: Frame) -> bytes:
    """Red, green and blue of each pixel as a monitor shows them."""
    picture = on_monitor(render(frame))
    colours = bytearray(3 * len(picture.pixels))
    for channel in range(3):
        colours[channel::3] = picture.pixels.translate(picture.palette[channel::3].ljust(256, b"\0"))
    return bytes(colours)


def record(path: Path, frames: list[tuple[Frame, int]], end_ms: int) -> list[tuple[bytes, int]]:
    """Records frames, each from its millisecond on; returns what is then to be seen, and for how many ms."""
    recording = Recording(path)
    for frame, at_ms in frames:
        recording.add(frame, at_ms * MS)
    recording.close(end_ms * MS)
    seen: list[tuple[bytes, int]] = []
    with Image.open(path) as gif:
        for number in range(getattr(gif, "n_frames", 1)):
            gif.seek(number)
            shown, duration = gif.convert("RGB").tobytes(), int(gif.info["duration"])
            if seen and seen[-1][0] == shown:
                shown, duration = shown, seen.pop()[1] + duration
            seen.append((shown, duration))
    return seen


def test_a_screenshot_of_text_has_its_glyphs_in_their_colours(tmp_path: Path) -> None:
    frame = text("Hello ═╗", 0x1E)._replace(cursor=Cursor(8, 0, 13, 14))
    save_png(frame, tmp_path / "shot.png")
    with Image.open(tmp_path / "shot.png") as shot:
        assert (shot.format, shot.size) == ("PNG", (640, 400))
        assert shot.convert("RGB").tobytes() == rgb(frame)
        assert shot.convert("RGB").getpixel((0, 0)) == (0x00, 0x00, 0xAA)


@pytest.mark.parametrize(
    ("size", "shown"), [((320, 200), (640, 400)), ((640, 350), (640, 350)), ((640, 480), (640, 480))]
)
def test_a_screenshot_of_a_picture_is_as_large_as_on_a_monitor(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    pixels = bytes(at % 251 for at in range(size[0] * size[1]))
    frame = Picture(*size, pixels, Colours(0x13).palette(8))
    save_png(frame, tmp_path / "shot.png")
    with Image.open(tmp_path / "shot.png") as shot:
        assert shot.size == shown
        assert shot.convert("RGB").tobytes() == rgb(frame)


def test_a_recording_shows_each_frame_for_as_long_as_it_was_seen(tmp_path: Path) -> None:
    one, two, three = text("one"), text("one two"), text("three", 0x4F)
    seen = record(tmp_path / "a.gif", [(one, 1000), (two, 1500), (two, 1600), (three, 2000)], 2250)
    assert seen == [(rgb(one), 500), (rgb(two), 500), (rgb(three), 250)]


def test_rounding_never_adds_up(tmp_path: Path) -> None:
    frames: list[tuple[Frame, int]] = [(text(str(number)), 34 * number) for number in range(10)]
    assert sum(duration for _, duration in record(tmp_path / "a.gif", frames, 340)) == 340


def test_what_changes_too_fast_is_not_recorded_but_the_last_of_it_is(tmp_path: Path) -> None:
    frames: list[tuple[Frame, int]] = [(text(str(number)), number) for number in range(100)]
    seen = record(tmp_path / "a.gif", frames, 1000)
    assert len(seen) <= 6
    assert seen[-1][0] == rgb(frames[-1][0])
    assert sum(duration for _, duration in seen) == 1000


def test_a_still_screen_is_as_long_as_it_was(tmp_path: Path) -> None:
    assert record(tmp_path / "a.gif", [(text("still"), 0)], 2_000_000) == [(rgb(text("still")), 2_000_000)]


def test_a_recording_grows_with_the_screen_and_leaves_nothing_of_a_larger_one(tmp_path: Path) -> None:
    small = text("text")
    large = Picture(640, 480, b"\x04" * 640 * 480, PALETTE)
    seen = record(tmp_path / "a.gif", [(small, 0), (large, 100), (small, 200)], 300)
    below = bytes(3 * 640 * 80)
    assert seen == [(rgb(small) + below, 100), (rgb(large), 100), (rgb(small) + below, 100)]


def test_only_what_differs_is_in_the_file(tmp_path: Path) -> None:
    noise = bytes(at * at % 251 for at in range(2000))
    cells = b"".join(bytes((code, 0x07)) for code in noise)
    frames: list[tuple[Frame, int]] = []
    for number in range(50):
        cells = cells[:-2] + bytes((number + 1, 7))
        frames.append((TextFrame(80, 25, cells, PALETTE), 100 * number))
    record(tmp_path / "one.gif", frames[:1], 100)
    record(tmp_path / "all.gif", frames, 5000)
    one, all_of_them = ((tmp_path / name).stat().st_size for name in ("one.gif", "all.gif"))
    assert all_of_them < one + 49 * 200


def test_a_changed_palette_alone_is_a_change(tmp_path: Path) -> None:
    dark = Picture(320, 200, b"\x01" * 64000, Colours(0x13).palette(8))
    light = dark._replace(palette=dark.palette[:3] + b"\xff\xff\xff" + dark.palette[6:])
    assert [shown for shown, _ in record(tmp_path / "a.gif", [(dark, 0), (light, 100)], 200)] == [rgb(dark), rgb(light)]


def test_a_recording_without_a_frame_is_a_file_all_the_same(tmp_path: Path) -> None:
    assert [shown for shown, _ in record(tmp_path / "a.gif", [], 0)] == [bytes(3)]


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "a.gif")
    recording.add(text("x"), 0)
    recording.close(100 * MS)
    size = (tmp_path / "a.gif").stat().st_size
    recording.close(200 * MS)
    assert (tmp_path / "a.gif").stat().st_size == size


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(20, 400)), min_size=1, max_size=6))
def test_any_frames_are_seen_again_for_their_times(
    tmp_path_factory: pytest.TempPathFactory, shown: list[tuple[str, int]]
) -> None:
    frames, at = list[tuple[Frame, int]](), 0
    expected: list[tuple[bytes, int]] = []
    for character, length in shown:
        length = 10 * (length // 10)
        frames.append((text(character), at))
        at += length
        if expected and expected[-1][0] == rgb(text(character)):
            expected.append((expected[-1][0], expected.pop()[1] + length))
        else:
            expected.append((rgb(text(character)), length))
    assert record(tmp_path_factory.mktemp("gif") / "a.gif", frames, at) == expected


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="out of order"):
        Recording(fifo)
    os.close(reader)


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recording(tmp_path / "none" / "a.gif")
    with pytest.raises(FileNotFoundError):
        save_png(text("x"), tmp_path / "none" / "a.png")


WITHOUT_PILLOW = """
import sys
sys.modules["PIL"] = None
from kvmbind.machine.screen.capture import capture
from kvmbind.machine.screen.painter import Painter
from kvmbind.machine.screen.image_files import Recording
try:
    Recording("/dev/null")
except ImportError as error:
    print(error)
"""


def test_without_pillow_one_line_says_what_to_install_and_text_needs_none() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PILLOW], capture_output=True, text=True, check=True)
    assert done.stdout == "image files need Pillow: pip install 'kvmbind[images]'\n"


def test_nothing_that_shows_text_imports_what_is_slow() -> None:
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"  # an editable installation may itself have imported some
        "from kvmbind.machine import key_input, key_script\n"
        "from kvmbind.machine.screen import capture, colours, painter, render, terminal\n"
        "slow = {'PIL', 'dataclasses', 'inspect', 'pathlib', 'logging', 'unicodedata'}\n"
        "print(*slow & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
