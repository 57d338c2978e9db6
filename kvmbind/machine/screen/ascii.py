"""Code page 437 for terminals that show ASCII alone."""

from __future__ import annotations

import unicodedata

_LIKE = dict(
    zip(
        "│║─═█▄▌▐▀■░▒▓•·∙○►◄▲▼↑↓→←«»≡≈÷±≤≥§¶°ß¢£¥ƒ¡¿",
        "||-=######.:%*..o><^v^v><<>==/+<>SP.BcLYf!?",
        strict=True,
    )
)


def nearest(character: str) -> str:
    """Returns an ASCII character that looks a little like one of code page 437; a question mark if none does."""
    if character in _LIKE:
        return _LIKE[character]
    letter = unicodedata.normalize("NFD", character)[0]
    if letter.isascii():
        return letter
    return "+" if unicodedata.name(character).startswith("BOX DRAWINGS") else "?"
