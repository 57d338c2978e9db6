"""Lines that wait while the terminal shows something else."""

from __future__ import annotations

from io import StringIO

from kvmbind.cli.held_lines import HeldLines


def released(lines: HeldLines) -> str:
    out = StringIO()
    lines.release(out)
    return out.getvalue()


def test_they_come_in_order_and_once() -> None:
    held = HeldLines()
    for line in ("one", 2):
        held.add(line)
    assert released(held) == "one\n2\n"


def test_of_too_many_the_last_are_kept_and_the_others_counted() -> None:
    held = HeldLines(kept=2)
    for number in range(1002):
        held.add(number)
    assert released(held).splitlines() == [
        "(1,000 lines before these were not kept; a file as stderr gets them all)",
        "1000",
        "1001",
    ]
