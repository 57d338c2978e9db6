"""What a terminal sends, as strokes of a PC's keyboard.

Escape sequences are those of xterm and what follows it, of the Linux console, and of the "CSI u" style. A terminal
cannot tell all keys: `key_input` gives what it tells.
"""

from __future__ import annotations

from kvmbind.machine.keys import Stroke, named, typed

#: How long an escape byte may stand alone before it is the key itself.
ESCAPE_TIMEOUT_S = 0.05
LONGEST_SEQUENCE = 32

_ESC = 0x1B
_LETTERS = {
    **{"A": "up", "B": "down", "C": "right", "D": "left", "E": "kp5", "F": "end", "H": "home"},
    **{"P": "f1", "Q": "f2", "R": "f3", "S": "f4", "Z": "shift+tab"},
}
_SHIFTED_LETTERS = {**_LETTERS, "M": "kpenter", "j": "kp*", "k": "kp+", "m": "kp-", "o": "kp/"}
_LINUX_LETTERS = {"A": "f1", "B": "f2", "C": "f3", "D": "f4", "E": "f5"}
_NUMBERS = {
    **{1: "home", 2: "insert", 3: "delete", 4: "end", 5: "pageup", 6: "pagedown", 7: "home", 8: "end"},
    **{number: f"f{number - 10}" for number in range(11, 16)},
    **{number: f"f{number - 11}" for number in range(17, 22)},
    **{23: "f11", 24: "f12", 25: "shift+f1", 26: "shift+f2", 28: "shift+f3", 29: "shift+f4"},
    **{31: "shift+f5", 32: "shift+f6", 33: "shift+f7", 34: "shift+f8"},
}
_CODES = {9: "tab", 13: "enter", 27: "esc", 32: "space", 127: "backspace"}
_CONTROLS = {
    **{code: f"ctrl+{chr(code | 0x60)}" for code in range(1, 27)},
    **{0x00: "ctrl+2", 0x08: "backspace", 0x09: "tab", 0x0A: "ctrl+enter", 0x0D: "enter", 0x7F: "backspace"},
    **{0x1C: "ctrl+\\", 0x1D: "ctrl+]", 0x1E: "ctrl+6", 0x1F: "ctrl+-"},
}
_MODIFIERS = ((1, "shift+"), (2, "alt+"), (4, "ctrl+"))


class KeyInput:
    """Turns bytes of a terminal into strokes; a sequence may arrive in pieces.

    Threads: it belongs to the one that reads the terminal.
    """

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        """Starts with nothing."""
        self._pending = b""

    @property
    def is_waiting(self) -> bool:
        """Whether it has the beginning of a sequence: call `flush` if nothing more comes in ESCAPE_TIMEOUT_S."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[Stroke]:
        """Takes bytes; returns the strokes that are complete. What is no key is left out."""
        self._pending += data
        return self._take(is_all=False)

    def flush(self) -> list[Stroke]:
        """Takes what has arrived for all there is; returns its strokes: an escape byte is the key Esc."""
        return self._take(is_all=True)

    def _take(self, *, is_all: bool) -> list[Stroke]:
        strokes = []
        while self._pending:
            used, stroke = _first(self._pending, is_all)
            if not used:
                break
            self._pending = self._pending[used:]
            if stroke:
                strokes.append(stroke)
        return strokes


def _first(data: bytes, is_all: bool) -> tuple[int, Stroke | None]:
    """How many bytes the first stroke takes, 0 if more must come, and the stroke, if it is a key."""
    if data[0] != _ESC:
        return _character(data, is_all)
    if len(data) == 1:
        return (1, named("esc")) if is_all else (0, None)
    if data[1] == _ESC:
        return 1, named("esc")
    if data[1] in b"[O":
        used, stroke = (_control_sequence if data[1] == ord("[") else _single_shift)(data)
        if used or not is_all:
            return used, stroke
    used, stroke = _character(data[1:], is_all)
    return (used + 1, _with_alt(stroke) if stroke else None) if used else (0, None)


def _character(data: bytes, is_all: bool) -> tuple[int, Stroke | None]:
    first = data[0]
    if first in _CONTROLS:
        return 1, named(_CONTROLS[first])
    length = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if len(data) < length and not is_all:
        return 0, None
    try:
        return length, typed(data[:length].decode())
    except UnicodeDecodeError:
        return 1, None


def _with_alt(stroke: Stroke) -> Stroke | None:
    try:
        return named(f"alt+{stroke.name}")
    except ValueError:  # a character that is on no key
        return stroke


def _control_sequence(data: bytes) -> tuple[int, Stroke | None]:
    if data[2:3] == b"[":  # the Linux console's function keys
        return (4, _stroke(_LINUX_LETTERS.get(chr(data[3])), 1)) if len(data) > 3 else (0, None)
    for end in range(2, min(len(data), LONGEST_SEQUENCE)):
        if 0x40 <= data[end] <= 0x7E:
            parameters = data[2:end].decode("ascii", "replace")
            return end + 1, _sequence_stroke(parameters, chr(data[end]))
        if not 0x20 <= data[end] <= 0x3F:
            return end, None  # cut off: what comes next stands for itself
    return (LONGEST_SEQUENCE, None) if len(data) >= LONGEST_SEQUENCE else (0, None)


def _single_shift(data: bytes) -> tuple[int, Stroke | None]:
    end = 3 if data[2:3].isdigit() else 2
    if len(data) <= end:
        return 0, None
    modifier = int(data[2:3]) if end == 3 else 1
    return end + 1, _stroke(_SHIFTED_LETTERS.get(chr(data[end])), modifier)


def _sequence_stroke(parameters: str, final: str) -> Stroke | None:
    if parameters.startswith(("<", "=", ">", "?")):
        return None  # a mouse, or an answer of the terminal
    numbers = [int(part) if part.isdigit() and len(part) < 8 else 0 for part in parameters.split(";")]
    modifier = numbers[1] if len(numbers) > 1 else 1
    match final:
        case "~":
            return _stroke(_NUMBERS.get(numbers[0]), modifier)
        case "u" if numbers[0]:
            return _stroke(_CODES.get(numbers[0]) or _printable(numbers[0]), modifier)
        case _:
            return _stroke(_LETTERS.get(final), modifier)


def _printable(code: int) -> str | None:
    return chr(code) if 0x21 <= code < 0x7F else None


def _stroke(name: str | None, modifier: int) -> Stroke | None:
    if name is None:
        return None
    return named("".join(prefix for bit, prefix in _MODIFIERS if modifier - 1 & bit and prefix not in name) + name)
