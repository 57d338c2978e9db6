"""What is painted: an interpreter of terminals sees the frame's cells, and only cells that differ are written again."""

from __future__ import annotations

import re

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine.screen.ansi import Shades
from kvmbind.machine.screen.ascii import nearest
from kvmbind.machine.screen.colours import Colours
from kvmbind.machine.screen.cp437 import CHARACTERS
from kvmbind.machine.screen.frames import Cursor, Picture, TextFrame
from kvmbind.machine.screen.painter import Painter
from kvmbind.machine.screen.terminal import EIGHT, SIXTEEN, TRUECOLOUR, XTERM, Look

PALETTE = Colours().palette(4)
#: The interpreter's names of the PC's colours, in the PC's order.
NAMES = ["black", "blue", "green", "cyan", "red", "magenta", "brown", "white"]
NAMES += [f"bright{name}" for name in NAMES]


class Emulator:
    """A terminal that does not wrap, behind bytes."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.stream.feed(b"\x1b[?7l")

    def feed(self, data: bytes) -> None:
        self.stream.feed(data)

    def cell(self, line: int, column: int) -> tuple[str, str, str, bool]:
        char = self.screen.buffer[line][column]
        return char.data, char.fg, char.bg, char.blink


def text_frame(columns: int, rows: int, cells: bytes, cursor: Cursor | None = None) -> TextFrame:
    return TextFrame(columns, rows, cells, PALETTE, 16, cursor)


def shows(emulator: Emulator, frame: TextFrame) -> None:
    """The terminal shows the frame, cell by cell."""
    for row in range(frame.rows):
        for column in range(frame.columns):
            code, attribute = frame.cells[2 * (row * frame.columns + column) :][:2]
            background = attribute >> 4 & 7
            expected = (CHARACTERS[code], NAMES[attribute & 15], NAMES[background], attribute >= 0x80)
            assert emulator.cell(row, column) == expected, (row, column)
    cursor = frame.cursor
    assert emulator.screen.cursor.hidden == (cursor is None)
    if cursor:
        assert (emulator.screen.cursor.y, emulator.screen.cursor.x) == (cursor.row, cursor.column)


def looks(cell: bytes) -> tuple[str, int]:
    """What is to be seen of a cell: several codes are blanks."""
    return CHARACTERS[cell[0]], cell[1]


COLUMNS, ROWS = 7, 3
cursors = st.none() | st.builds(Cursor, st.integers(0, COLUMNS - 1), st.integers(0, ROWS - 1), st.just(6), st.just(7))
cells = st.binary(min_size=2 * COLUMNS * ROWS, max_size=2 * COLUMNS * ROWS)
frames = st.builds(text_frame, st.just(COLUMNS), st.just(ROWS), cells, cursors)


@given(st.lists(frames, min_size=1, max_size=4))
def test_a_terminal_shows_each_frame_cell_by_cell(shown: list[TextFrame]) -> None:
    emulator, painter = Emulator(COLUMNS, ROWS), Painter((COLUMNS, ROWS), Look())
    for frame in shown:
        emulator.feed(painter.paint(frame))
        shows(emulator, frame)


@given(frames)
def test_a_frame_that_is_shown_already_is_not_painted(frame: TextFrame) -> None:
    painter = Painter((COLUMNS, ROWS), Look())
    assert painter.paint(frame)
    assert painter.paint(frame) == b""


@given(frames, st.integers(0, COLUMNS * ROWS - 1), st.binary(min_size=2, max_size=2))
def test_of_a_frame_only_the_cells_that_differ_are_written(frame: TextFrame, at: int, cell: bytes) -> None:
    frame = frame._replace(cursor=None)
    painter = Painter((COLUMNS, ROWS), Look())
    painter.paint(frame)
    changed = frame.cells[: 2 * at] + cell + frame.cells[2 * at + 2 :]
    written = painter.paint(frame._replace(cells=changed)).decode()
    visible = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", written)
    before, after = (
        Painter((COLUMNS, ROWS), Look()).paint(frame._replace(cells=data)) for data in (frame.cells, changed)
    )
    assert visible == ("" if before == after else CHARACTERS[cell[0]])


def test_a_moved_cursor_alone_is_one_sequence() -> None:
    frame = text_frame(COLUMNS, ROWS, bytes(2 * COLUMNS * ROWS), Cursor(0, 0, 6, 7))
    painter = Painter((COLUMNS, ROWS), Look())
    painter.paint(frame)
    assert painter.paint(frame._replace(cursor=Cursor(3, 1, 6, 7))) == b"\x1b[2;4H"
    assert painter.paint(frame._replace(cursor=None)) == b"\x1b[?25l"
    assert painter.paint(frame._replace(cursor=Cursor(3, 1, 6, 7))) == b"\x1b[2;4H\x1b[?25h"


def numbered(columns: int, rows: int, cursor: Cursor | None) -> TextFrame:
    """A frame whose rows are a, b, c ... and whose columns are told apart by case."""
    cells = b"".join(bytes((ord("a") + row - 32 * (column % 2), 7)) for row in range(rows) for column in range(columns))
    return text_frame(columns, rows, cells, cursor)


@given(st.lists(st.tuples(st.integers(0, 79), st.integers(0, 24)), min_size=1, max_size=5))
def test_in_a_terminal_that_is_too_small_the_cursor_stays_in_sight(places: list[tuple[int, int]]) -> None:
    emulator, painter = Emulator(20, 6), Painter((20, 6), Look())
    for column, row in places:
        frame = numbered(80, 25, Cursor(column, row, 6, 7))
        emulator.feed(painter.paint(frame))
        at = emulator.screen.cursor
        assert not at.hidden
        code = frame.cells[2 * (80 * row + column)]
        assert emulator.cell(at.y, at.x)[0] == chr(code)


def test_a_terminal_that_is_larger_shows_the_frame_at_its_top_left() -> None:
    emulator, painter = Emulator(100, 30), Painter((100, 30), Look())
    emulator.feed(painter.paint(numbered(80, 25, None)))
    assert emulator.screen.display[24] == ("yY" * 40).ljust(100)
    assert emulator.screen.display[25].strip() == ""


def test_after_a_resize_all_is_painted_again() -> None:
    painter = Painter((80, 25), Look())
    frame = numbered(80, 25, None)
    painter.paint(frame)
    emulator = Emulator(40, 30)
    emulator.feed(b"\x1b[Hold rubbish")
    painter.resize((40, 30))
    assert painter.size == (40, 30)
    emulator.feed(painter.paint(frame))
    assert emulator.screen.display[0] == "aA" * 20
    assert emulator.screen.display[29].strip() == ""


def test_a_monochrome_screen_is_underlined() -> None:
    frame = text_frame(1, 1, b"x\x01")._replace(underlines=True)
    emulator, painter = Emulator(1, 1), Painter((1, 1), Look())
    emulator.feed(painter.paint(frame))
    assert emulator.screen.buffer[0][0].underscore


@pytest.mark.parametrize(
    ("colours", "style"),
    [
        (EIGHT, "0;1;36;40"),
        (SIXTEEN, "0;96;40"),
        (XTERM, "0;38;5;80;40"),
        (TRUECOLOUR, "0;38;2;70;220;230;40"),
    ],
)
def test_a_colour_that_is_none_of_the_16_is_the_nearest_that_the_terminal_has(colours: int, style: str) -> None:
    assert Shades(colours).style(bytes((70, 220, 230)), bytes(3)) == style


@pytest.mark.parametrize("colours", [SIXTEEN, XTERM, TRUECOLOUR])
def test_the_16_colours_are_the_terminals_own(colours: int) -> None:
    assert Shades(colours).style(PALETTE[42:45], PALETTE[3:6]) == "0;93;44"
    assert Shades(colours).style(PALETTE[12:15], PALETTE[45:48]) == "0;31;107"


def test_a_grey_is_one_of_the_greys() -> None:
    assert Shades(XTERM).style(bytes((100, 101, 100)), bytes(3)) == "0;38;5;241;40"


def test_an_ascii_terminal_gets_ascii_that_looks_alike() -> None:
    assert "".join(map(nearest, "╔═╗│é█░Ñ→☺")) == "+=+|e#.N>?"
    cells = bytes(byte for code in range(256) for byte in (code, 7))
    written = Painter((256, 1), Look(is_unicode=False)).paint(text_frame(256, 1, cells))
    assert written.isascii()


# Pictures


def halves(width: int = 320, height: int = 200) -> Picture:
    """Red above, blue below, and a green right half of the upper part."""
    upper = bytes((4,)) * (width // 2) + bytes((2,)) * (width // 2)
    return Picture(width, height, upper * (height // 2) + b"\x01" * width * (height // 2), PALETTE)


def test_a_picture_is_drawn_in_half_blocks_in_the_middle_in_a_monitors_shape() -> None:
    emulator, painter = Emulator(80, 25), Painter((80, 25), Look())
    emulator.feed(painter.paint(halves()))
    # 66 x 24 cells: two pixels above each other in a cell
    backgrounds = [[emulator.cell(line, column)[2] for column in range(80)] for line in range(25)]
    assert backgrounds[3][:7] == ["default"] * 7
    assert backgrounds[3][7:40] == ["red"] * 33
    assert backgrounds[3][40:73] == ["green"] * 33
    assert backgrounds[3][73:] == ["default"] * 7
    assert backgrounds[20][7:73] == ["blue"] * 66
    assert emulator.screen.cursor.hidden


def test_two_pixels_share_a_cell() -> None:
    stripes = Picture(32, 24, (b"\x04" * 32 + b"\x01" * 32) * 12, PALETTE)
    emulator, painter = Emulator(32, 12), Painter((32, 12), Look())
    emulator.feed(painter.paint(stripes))
    assert {emulator.cell(line, column) for line in range(12) for column in range(32)} == {("▀", "red", "blue", False)}


def test_truecolour_shows_the_mean_of_what_a_pixel_stands_for() -> None:
    dots = Picture(64, 48, (b"\x00\x0f" * 32) * 48, PALETTE)
    emulator, painter = Emulator(32, 12), Painter((32, 12), Look(TRUECOLOUR))
    emulator.feed(painter.paint(dots))
    assert {emulator.cell(line, column)[2] for line in range(12) for column in range(32)} == {"7f7f7f"}


def test_a_picture_after_text_leaves_nothing_of_it() -> None:
    emulator, painter = Emulator(80, 25), Painter((80, 25), Look(TRUECOLOUR))
    emulator.feed(painter.paint(numbered(80, 25, Cursor(1, 1, 6, 7))))
    emulator.feed(painter.paint(halves()))
    assert "".join(emulator.screen.display).strip() == ""
    emulator.feed(painter.paint(numbered(80, 25, None)))
    assert emulator.screen.display[0] == "aA" * 40


def test_a_terminal_too_small_for_a_picture_says_so() -> None:
    emulator, painter = Emulator(31, 12), Painter((31, 12), Look())
    emulator.feed(painter.paint(halves()))
    assert emulator.screen.display[6] == "320 x 200: enlarge the terminal"


def test_a_terminal_without_unicode_shows_pictures_in_whole_cells() -> None:
    written = Painter((80, 25), Look(is_unicode=False)).paint(halves())
    assert written.isascii()


@given(st.integers(1, 120), st.integers(1, 40), st.sampled_from([(320, 200), (640, 480), (640, 350)]))
def test_a_picture_fits_in_a_terminal_of_any_size(columns: int, lines: int, size: tuple[int, int]) -> None:
    emulator, painter = Emulator(columns, lines), Painter((columns, lines), Look(XTERM))
    emulator.feed(painter.paint(halves(*size)))
    assert len(emulator.screen.display) == lines
