"""A screen on a pseudo-terminal, looked at by an interpreter of terminals."""

from __future__ import annotations

import os
import select
import termios
from typing import TYPE_CHECKING

import pyte
import pytest

from kvmbind.machine.screen.colours import Colours
from kvmbind.machine.screen.frames import Cursor, TextFrame
from kvmbind.machine.screen.live import LiveView
from kvmbind.machine.screen.terminal import Look, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

PALETTE = Colours().palette(4)


class Person:
    """Sits before a terminal, and sees what it shows."""

    def __init__(self, columns: int, lines: int) -> None:
        self.fd, self.program = os.openpty()
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        termios.tcsetwinsize(self.program, (lines, columns))
        self.screen.resize(lines, columns)

    def look(self) -> list[str]:
        while select.select([self.fd], [], [], 0.2)[0]:
            self.stream.feed(os.read(self.fd, 65536))
        return [line.rstrip() for line in self.screen.display]

    def written(self) -> int:
        """How many bytes wait to be seen."""
        return len(os.read(self.fd, 65536)) if select.select([self.fd], [], [], 0.2)[0] else 0

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.program)


@pytest.fixture
def person() -> Iterator[Person]:
    made = Person(80, 25)
    yield made
    made.close()


def frame(*lines: str, cursor: Cursor | None = None) -> TextFrame:
    text = "".join(line.ljust(80) for line in lines).ljust(80 * 25)
    return TextFrame(80, 25, b"".join(bytes((code, 7)) for code in text.encode("cp437")), PALETTE, 16, cursor)


def test_a_person_sees_each_frame_and_in_the_end_a_clean_terminal(person: Person) -> None:
    with Terminal(person.program, person.program) as terminal:
        view = LiveView(terminal, Look())
        view.show(frame("C:\\>", cursor=Cursor(4, 0, 6, 7)))
        assert person.look()[:2] == ["C:\\>", ""]
        assert (person.screen.cursor.x, person.screen.cursor.y) == (4, 0)
        view.show(frame("C:\\>dir", "╔══╗", cursor=Cursor(0, 2, 6, 7)))
        assert person.look()[:2] == ["C:\\>dir", "╔══╗"]
    assert person.look() == [""] * 25
    assert not person.screen.cursor.hidden


def test_a_still_screen_writes_nothing(person: Person) -> None:
    with Terminal(person.program, person.program) as terminal:
        view = LiveView(terminal, Look())
        view.show(frame("still"))
        person.look()
        view.show(frame("still"))
        assert person.written() == 0
        view.show(frame("stall"))
        assert 0 < person.written() < 20


def test_after_a_resize_the_screen_is_whole_again(person: Person) -> None:
    with Terminal(person.program, person.program) as terminal:
        view = LiveView(terminal, Look())
        view.show(frame("0123456789" * 8, "second"))
        person.look()
        person.resize(40, 10)
        view.show(frame("0123456789" * 8, "second"))
        assert person.look()[:2] == ["0123456789" * 4, "second"]
        person.resize(100, 30)
        view.show(frame("0123456789" * 8, "second"))
        assert person.look() == ["0123456789" * 8, "second"] + [""] * 28
