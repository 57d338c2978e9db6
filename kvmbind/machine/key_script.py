"""Scripts of keys, as `--keys` takes them: "dir{enter}{sleep 1}{ctrl+c}".

- A character types itself; a line end is Enter. `{{` and `}}` are braces.
- `{NAME}` is a key, by one of the names in `kvmbind.machine.keys`, with `shift+`, `ctrl+` and `alt+` before it.
- `{NAME 5}` is the key 5 times.
- `{hold NAME}` presses a key and `{release NAME}` releases it: `{hold shift}`.
- `{sleep SECONDS}` waits.
"""

from __future__ import annotations

from typing import NamedTuple

from kvmbind.machine.keys import Stroke, named, typed

MOST_REPEATS = 10_000
LONGEST_SLEEP_S = 86_400.0


class Sleep(NamedTuple):
    """A wait between two keys."""

    duration_s: float


class KeyScriptError(ValueError):
    """A script that is none. The message says what is wrong and at which character, counted from 1."""


def parse(script: str) -> list[Stroke | Sleep]:
    """Returns the strokes and waits of a script.

    Raises:
        KeyScriptError: It has an unknown key, a brace without its other one, or a number that is none.
    """
    items: list[Stroke | Sleep] = []
    at = 0
    while at < len(script):
        character = script[at]
        if script[at : at + 2] in ("{{", "}}"):
            items.append(_typed(character, at))
            at += 2
        elif character == "{":
            # the name of a key may itself be the closing brace
            end = script.find("}", at + 2)
            if end < 0:
                raise _error(at, "this brace is never closed; for the character write {{")
            items += _command(script[at + 1 : end], at)
            at = end + 1
        elif character == "}":
            raise _error(at, "this brace was never opened; for the character write }}")
        else:
            items.append(_typed(character, at))
            at += 1
    return items


def _typed(character: str, at: int) -> Stroke:
    stroke = typed(character)
    if stroke is None:
        raise _error(at, f"no key types {character!r}: it is not in code page 437")
    return stroke


def _command(command: str, at: int) -> list[Stroke | Sleep]:
    word, _, argument = command.strip().partition(" ")
    argument = argument.strip()
    match word:
        case "sleep":
            return [Sleep(_seconds(argument, at))]
        case "hold":
            return [_named(argument, at)._replace(release=b"")]
        case "release":
            return [_named(argument, at)._replace(key=None, make=b"")]
        case _:
            return [_named(word, at)] * _repeats(argument, at)


def _named(name: str, at: int) -> Stroke:
    try:
        return named(name)
    except ValueError as error:
        raise _error(at, f"{error}; keys are written like {{enter}}, {{f1}}, {{ctrl+c}}, {{down 3}}") from None


def _seconds(text: str, at: int) -> float:
    try:
        duration_s = float(text)
    except ValueError:
        duration_s = -1.0
    if not 0 <= duration_s <= LONGEST_SLEEP_S:
        raise _error(at, f"sleep needs seconds, 0 to {LONGEST_SLEEP_S:.0f}, not {text!r}")
    return duration_s


def _repeats(text: str, at: int) -> int:
    if not text:
        return 1
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 1 <= int(text) <= MOST_REPEATS:
        raise _error(at, f"a key can be repeated 1 to {MOST_REPEATS} times, not {text!r}")
    return int(text)


def _error(at: int, what: str) -> KeyScriptError:
    return KeyScriptError(f"keys, character {at + 1}: {what}")
