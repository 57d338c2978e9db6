"""The keys of a PC's US keyboard: what each sends to port 60h, and what INT 16h then returns.

`named` takes a key by its name, upper or lower case, after any of the modifiers `shift+`, `ctrl+` and `alt+`; `typed`
takes the key that types a character. Any single character is the name of its key, so `ctrl+c` and `alt+1` are names.

| name | also | key |
|---|---|---|
| `esc` | `escape` | |
| `enter` | `return` | |
| `backspace` | `bs` | |
| `tab`, `space` | | |
| `f1` .. `f12` | | |
| `up`, `down`, `left`, `right` | | the arrows |
| `home`, `end` | | |
| `pageup`, `pagedown` | `pgup`, `pgdn` | |
| `insert`, `delete` | `ins`, `del` | |
| `kp0` .. `kp9`, `kp.` | | of the keypad, with Num Lock off: the cursor keys of the first PCs |
| `kp+`, `kp-`, `kp*`, `kp/`, `kpenter` | | of the keypad |
| `shift`, `rshift`, `ctrl`, `rctrl`, `alt`, `ralt` | `lshift`, `lctrl`, `lalt` | alone |
| `capslock`, `numlock`, `scrolllock` | | |
"""

from __future__ import annotations

from typing import NamedTuple

from kvmbind.machine.screen import cp437

EXTENDED = 0xE0
RELEASED = 0x80
MODIFIERS = ("shift", "ctrl", "alt")


class Key(NamedTuple):
    """What INT 16h/10h returns in AH and AL: for the keys that the first PCs lacked, AL is E0h, or AH is."""

    scancode: int
    ascii: int


class Stroke(NamedTuple):
    """A key that is pressed and released, with the modifiers that it needs.

    Attributes:
        name: For people.
        key: What the BIOS puts into its ring with the last byte of `make`; None: nothing.
        make: The bytes at port 60h while it goes down, modifiers first.
        release: The bytes at port 60h while it goes up.
    """

    name: str
    key: Key | None
    make: bytes
    release: bytes


class _Cap(NamedTuple):
    """A key of the keyboard: its code, and the pairs that it has alone and with each modifier."""

    make: int
    plain: Key | None = None
    shift: Key | None = None
    ctrl: Key | None = None
    alt: Key | None = None
    is_extended: bool = False


def named(name: str) -> Stroke:
    """Returns the stroke of a key by its name; see above.

    Raises:
        ValueError: No key has that name.
    """
    *modifiers, key = _parts(name.lower() if len(name) > 1 else name)
    if unknown := [modifier for modifier in modifiers if modifier not in MODIFIERS]:
        raise ValueError(f"no modifier is called {unknown[0]!r}: there are shift, ctrl and alt")
    if key in _CAPS or key in _ALIASES:
        return _stroke(name, _CAPS[_ALIASES.get(key, key)], modifiers)
    if len(key) == 1 and key in _TYPED:
        cap, is_shifted = _TYPED[key]
        return _stroke(name, cap, [*modifiers, "shift"] if is_shifted else modifiers)
    raise ValueError(f"no key is called {key!r}")


def typed(character: str) -> Stroke | None:
    """Returns the stroke that types a character of code page 437; None if there is none.

    Characters that are on no key are entered as on a PC: Alt held, the number of the code on the keypad, Alt released.
    """
    if character in _TYPED:
        cap, is_shifted = _TYPED[character]
        return _stroke(character, cap, ["shift"] if is_shifted else [])
    code = cp437.encode(character)
    if code is None:
        return None
    make = bytearray((_CAPS["alt"].make,))
    for digit in str(code):
        key = _CAPS[f"kp{digit}"].make
        make += bytes((key, key | RELEASED))
    return Stroke(character, Key(0, code), bytes((*make, _CAPS["alt"].make | RELEASED)), b"")


def standard(key: Key) -> Key:
    """Returns what INT 16h/00h has for a key of 10h: no E0h, as for the keys that the first PCs had."""
    if key.scancode == EXTENDED:
        return Key(0x1C if key.ascii in b"\r\n" else 0x35, key.ascii)
    return Key(key.scancode, 0) if key.ascii == EXTENDED and key.scancode else key


def _parts(name: str) -> list[str]:
    """The modifiers and the key: `+` is a key too."""
    if name.endswith("+"):
        head = name[:-1]
        if not head or head.endswith("+"):
            return [*filter(None, head.split("+")), "+"]
        if head.endswith("kp"):
            return [*head.split("+")[:-1], "kp+"]
    return name.split("+")


def _stroke(name: str, cap: _Cap, modifiers: list[str]) -> Stroke:
    key = next((getattr(cap, modifier) for modifier in ("alt", "ctrl", "shift") if modifier in modifiers), cap.plain)
    held = [_CAPS[modifier].make for modifier in MODIFIERS if modifier in modifiers]
    prefix = (EXTENDED,) if cap.is_extended else ()
    make = bytes((*held, *prefix, cap.make))
    release = bytes((*prefix, cap.make | RELEASED, *(code | RELEASED for code in reversed(held))))
    return Stroke(name, key, make, release)


def _characters() -> dict[str, tuple[_Cap, bool]]:
    """For each character on a key, that key, and whether it is typed with Shift."""
    rows = (
        (0x02, "1234567890-=", "!@#$%^&*()_+"),
        (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
        (0x1E, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
        (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    )
    with_ctrl = {"2": 0x00, "6": 0x1E, "-": 0x1F, "[": 0x1B, "]": 0x1D, "\\": 0x1C}
    with_ctrl |= {chr(code): code & 0x1F for code in range(ord("a"), ord("z") + 1)}
    typed = {}
    for first, lower, upper in rows:
        for make, (plain, shifted) in enumerate(zip(lower, upper, strict=True), first):
            ctrl = with_ctrl.get(plain)
            cap = _Cap(
                make,
                Key(make, ord(plain)),
                Key(make, ord(shifted)),
                None if ctrl is None else Key(0x03 if plain == "2" else make, ctrl),
                Key(make + 0x76 if make <= 0x0D else make, 0),
            )
            typed[plain], typed[shifted] = (cap, False), (cap, True)
    return typed


def _always(make: int, ascii: int) -> _Cap:
    key = Key(make, ascii)
    return _Cap(make, key, key, key, key)


def _function(number: int) -> _Cap:
    if number > 10:
        late = number - 11
        plain, shift, ctrl, alt = (Key(first + late, 0) for first in (0x85, 0x87, 0x89, 0x8B))
        return _Cap(0x57 + late, plain, shift, ctrl, alt)
    plain, shift, ctrl, alt = (Key(first + number, 0) for first in (0x3A, 0x53, 0x5D, 0x67))
    return _Cap(0x3A + number, plain, shift, ctrl, alt)


#: Keys that the keypad and the grey block both have: their codes, alone, with Ctrl and (the grey ones) with Alt.
_CURSOR_KEYS = {
    "home": (0x47, 0x77, 0x97),
    "up": (0x48, 0x8D, 0x98),
    "pageup": (0x49, 0x84, 0x99),
    "left": (0x4B, 0x73, 0x9B),
    "right": (0x4D, 0x74, 0x9D),
    "end": (0x4F, 0x75, 0x9F),
    "down": (0x50, 0x91, 0xA0),
    "pagedown": (0x51, 0x76, 0xA1),
    "insert": (0x52, 0x92, 0xA2),
    "delete": (0x53, 0x93, 0xA3),
}
_KEYPAD = {
    **{"kp7": "home", "kp8": "up", "kp9": "pageup", "kp4": "left", "kp6": "right", "kp1": "end"},
    **{"kp2": "down", "kp3": "pagedown", "kp0": "insert", "kp.": "delete"},
}


def _grey(make: int, ctrl: int, alt: int) -> _Cap:
    plain = Key(make, EXTENDED)
    return _Cap(make, plain, plain, Key(ctrl, EXTENDED), Key(alt, 0), is_extended=True)


def _keypad(name: str) -> _Cap:
    make, ctrl, _ = _CURSOR_KEYS[_KEYPAD[name]]
    return _Cap(make, Key(make, 0), Key(make, ord(name[-1])), Key(ctrl, 0))


_CAPS = {
    "esc": _always(0x01, 0x1B)._replace(alt=Key(0x01, 0)),
    "backspace": _Cap(0x0E, Key(0x0E, 0x08), Key(0x0E, 0x08), Key(0x0E, 0x7F), Key(0x0E, 0)),
    "tab": _Cap(0x0F, Key(0x0F, 0x09), Key(0x0F, 0), Key(0x94, 0), Key(0xA5, 0)),
    "enter": _Cap(0x1C, Key(0x1C, 0x0D), Key(0x1C, 0x0D), Key(0x1C, 0x0A), Key(0x1C, 0)),
    "space": _always(0x39, 0x20),
    **{f"f{number}": _function(number) for number in range(1, 13)},
    **{name: _grey(*codes) for name, codes in _CURSOR_KEYS.items()},
    **{name: _keypad(name) for name in _KEYPAD},
    "kp5": _Cap(0x4C, Key(0x4C, 0), Key(0x4C, ord("5")), Key(0x8F, 0)),
    "kp*": _Cap(0x37, Key(0x37, ord("*")), Key(0x37, ord("*")), Key(0x96, 0), Key(0x37, 0)),
    "kp-": _Cap(0x4A, Key(0x4A, ord("-")), Key(0x4A, ord("-")), Key(0x8E, 0), Key(0x4A, 0)),
    "kp+": _Cap(0x4E, Key(0x4E, ord("+")), Key(0x4E, ord("+")), Key(0x90, 0), Key(0x4E, 0)),
    "kp/": _Cap(0x35, Key(EXTENDED, 0x2F), Key(EXTENDED, 0x2F), Key(0x95, 0), Key(0xA4, 0), is_extended=True),
    "kpenter": _Cap(
        0x1C, Key(EXTENDED, 0x0D), Key(EXTENDED, 0x0D), Key(EXTENDED, 0x0A), Key(0xA6, 0), is_extended=True
    ),
    **{"shift": _Cap(0x2A), "rshift": _Cap(0x36), "ctrl": _Cap(0x1D), "alt": _Cap(0x38)},
    **{"rctrl": _Cap(0x1D, is_extended=True), "ralt": _Cap(0x38, is_extended=True)},
    **{"capslock": _Cap(0x3A), "numlock": _Cap(0x45), "scrolllock": _Cap(0x46)},
}
_ALIASES = {
    **{"escape": "esc", "return": "enter", "bs": "backspace", "pgup": "pageup", "pgdn": "pagedown"},
    **{"ins": "insert", "del": "delete", "lshift": "shift", "lctrl": "ctrl", "lalt": "alt"},
}
_TYPED = {
    **_characters(),
    **{" ": (_CAPS["space"], False), "\r": (_CAPS["enter"], False), "\n": (_CAPS["enter"], False)},
    **{"\t": (_CAPS["tab"], False), "\b": (_CAPS["backspace"], False), "\x1b": (_CAPS["esc"], False)},
}
