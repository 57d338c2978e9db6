"""What ends a run from outside: a deadline, a text, a screen that stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.ending import Reason

if TYPE_CHECKING:
    from kvmbind.machine.pc import Pc
    from kvmbind.machine.screen.frames import Frame

_PERIOD_NS = 50_000_000


def watch_deadline(pc: Pc, timeout_s: float) -> None:
    """Ends the run when the time is over."""
    detail = f"after {timeout_s:g} s"
    pc.call_at(pc.now_ns() + max(0, int(timeout_s * 1e9)), lambda: pc.end(Reason.TIMEOUT, detail=detail))


def watch_text(pc: Pc, text: str) -> None:
    """Ends the run when a text is on the screen, or has come by the console or the serial port."""

    def look() -> None:
        if shows(pc, text):
            pc.end(Reason.FOUND, detail=repr(text))
        else:
            pc.call_at(pc.now_ns() + _PERIOD_NS, look)

    pc.call_at(pc.now_ns(), look)


def shows(pc: Pc, text: str) -> bool:
    """Tells whether a text is on the screen, or has come by the console or the serial port. Any thread may ask."""
    if text.encode("utf-8") in pc.serial.sent or text.encode("cp437", "replace") in pc.serial.sent:
        return True
    return text in "".join(pc.console) or text in pc.video.frame().text()


def watch_stillness(pc: Pc, still_s: float) -> None:
    """Ends the run when the screen has not changed for that long, from the start on."""
    last: tuple[Frame, int] = (pc.video.frame(), pc.now_ns())

    def look() -> None:
        nonlocal last
        frame, now_ns = pc.video.frame(), pc.now_ns()
        if frame != last[0]:
            last = frame, now_ns
        if now_ns - last[1] >= still_s * 1e9:
            pc.end(Reason.STILL, detail=f"for {still_s:g} s")
        else:
            pc.call_at(now_ns + _PERIOD_NS, look)

    pc.call_at(pc.now_ns() + _PERIOD_NS, look)
