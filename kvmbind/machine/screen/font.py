"""kvmbind's own fonts: 256 glyphs of code page 437, 8 pixels wide and 8, 14 or 16 high.

The bytes are made from `native/font` and lie beside this module. A glyph is one byte for each row, top first; bit 7 is
the leftmost pixel. These are also the bytes that a BIOS has in its ROM for INT 10h and INT 43h.
"""

from __future__ import annotations

import os
from functools import cache

HEIGHTS = (8, 14, 16)


@cache
def font(height: int) -> bytes:
    """Returns the font whose glyphs are `height` rows high: glyph n is the `height` bytes from n * `height`.

    Raises:
        ValueError: There is none of that height.
    """
    if height not in HEIGHTS:
        raise ValueError(f"a font is 8, 14 or 16 rows high, not {height}")
    if height == 14:  # no glyph of 16 rows needs both its first and its last one
        tall = font(16)
        return b"".join(tall[start + 1 : start + 15] for start in range(0, len(tall), 16))
    with open(os.path.join(os.path.dirname(__file__), f"8x{height}.bin"), "rb") as file:
        return file.read()


def font_for(height: int) -> bytes:
    """Returns the tallest font that fits in cells of `height` rows, the lowest one if none fits."""
    return font(max((own for own in HEIGHTS if own <= height), default=HEIGHTS[0]))
