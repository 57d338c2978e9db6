"""Make the fonts of `kvmbind.machine.screen.font` from the glyph sheets beside this script.

`python native/font/build.py` writes the fonts; `--check` compares them with fresh ones instead. The sheets have the
letters and signs, drawn by hand; computed here are the accented letters, the box drawings, the blocks and what is
another glyph turned round or inverted.
"""

import argparse
import sys
import unicodedata
from pathlib import Path

SHEETS = Path(__file__).resolve().parent
ROOT = SHEETS.parents[1]
FONTS = ROOT / "kvmbind" / "machine" / "screen"
WIDTH = 8

sys.path.insert(0, str(ROOT))  # the package's table of characters, whether or not the package is installed

from kvmbind.machine.screen.cp437 import CHARACTERS  # noqa: E402

#: The rows of a glyph, top first; bit 7 of a row is its leftmost pixel.
Glyph = list[int]

#: What a letter is "with", and the character that names that accent in the sheets.
ACCENTS = {
    "GRAVE": "\N{MODIFIER LETTER GRAVE ACCENT}",
    "ACUTE": "\N{MODIFIER LETTER ACUTE ACCENT}",
    "CIRCUMFLEX": "\N{MODIFIER LETTER CIRCUMFLEX ACCENT}",
    "DIAERESIS": "\N{DIAERESIS}",
    "TILDE": "\N{SMALL TILDE}",
    "RING ABOVE": "\N{RING ABOVE}",
    "CEDILLA": "\N{CEDILLA}",
}
DOTLESS_I = "\N{LATIN SMALL LETTER DOTLESS I}"
TURNED = {"¡": "!", "¿": "?"}
INVERTED = {"◘": "•", "◙": "○"}
BLOCKS = {"█": 0xFF, "▌": 0xF0, "▐": 0x0F}
SHADES = {"░": (0x22, 0x88), "▒": (0x55, 0xAA), "▓": (0xDD, 0x77)}

#: A box drawing is made of 5 x 5 fields: edge, first line of a double, single line, second line, edge.
BOX_COLUMNS = (0x80, 0x60, 0x18, 0x06, 0x01)
BOX_ROWS = {8: (2, 1, 2, 1, 2), 16: (5, 2, 2, 2, 5)}
FIRST, SINGLE, SECOND = 1, 2, 3


def read_sheet(text: str, height: int) -> dict[str, Glyph]:
    """Return the glyphs of a sheet by character: bands of a line of names and `height` lines of rows."""
    lines = [line for line in text.splitlines() if line and not line.startswith("% ")]
    glyphs = {}
    for top in range(0, len(lines), height + 1):
        names, *rows = lines[top : top + height + 1]
        for column in range(0, len(names), WIDTH + 1):
            art = [row[column : column + WIDTH] for row in rows]
            glyphs[names[column]] = [int(row.replace("#", "1").replace(".", "0"), 2) for row in art]
    return glyphs


def fit_below(glyph: Glyph, rows: int) -> Glyph:
    """Return a capital with `rows` rows free above it: rows that repeat the one above go first, then middle ones."""
    inked = [number for number, row in enumerate(glyph) if row]
    letter = glyph[inked[0] : inked[-1] + 1]
    while inked[-1] + 1 - len(letter) < rows:
        repeated = [number for number in range(1, len(letter)) if letter[number] == letter[number - 1]]
        del letter[repeated[len(repeated) // 2] if repeated else len(letter) // 2]
    below = glyph[inked[-1] + 1 :]
    return [0] * (len(glyph) - len(letter) - len(below)) + letter + below


def accented(character: str, drawn: dict[str, Glyph]) -> Glyph | None:
    """Return a letter with an accent, put together as its Unicode name says; None if that is no such letter."""
    letter = unicodedata.normalize("NFD", character)[0]
    _, _, name = unicodedata.name(character, "").partition(" WITH ")
    if name not in ACCENTS:
        return None
    accent = drawn[ACCENTS[name]]
    base = drawn[DOTLESS_I if letter == "i" else letter]
    if letter.isupper() and name != "CEDILLA":
        base = fit_below(base, 2 if len(base) == 8 else 4)
    return [above | below for above, below in zip(accent, base, strict=True)]


def arm(own: int, opposite: int, before: int, after: int) -> set[tuple[int, int]]:
    """Return the fields (line, place) of one arm of a box drawing, from its edge to where it meets the others.

    Each argument is the number of lines of an arm: of this one, of the one across, and of the two at its sides.
    """
    if own == 1:
        if before == after == 2:
            stop = SINGLE if opposite else FIRST
        else:
            stop = SECOND if 2 in (before, after) and not opposite else SINGLE
        return {(SINGLE, place) for place in range(stop + 1)}
    fields = set()
    for line, near, far in ((FIRST, before, after), (SECOND, after, before)) if own else ():
        stop = FIRST if near == 2 else SECOND if far == 2 else SINGLE
        fields |= {(line, place) for place in range(stop + 1)}
    return fields


def box_arms(character: str) -> tuple[int, int, int, int] | None:
    """Return the number of lines to the left, right, top and bottom, as the Unicode name says; None if not a box."""
    _, is_box, description = unicodedata.name(character, "").partition("BOX DRAWINGS ")
    if not is_box:
        return None
    lines = dict.fromkeys(("LEFT", "RIGHT", "UP", "DOWN"), 0)
    both = {"HORIZONTAL": ("LEFT", "RIGHT"), "VERTICAL": ("UP", "DOWN")}
    count = {"LIGHT": 1, "SINGLE": 1, "DOUBLE": 2}
    parts = [part.split() for part in description.split(" AND ")]
    for part in parts:
        # "LIGHT VERTICAL AND LEFT": the weight stands before all; "VERTICAL SINGLE AND LEFT DOUBLE": after each
        weight = next(word for word in (*part, *parts[0]) if word in count)
        for direction in part:
            for name in both.get(direction, (direction,)):
                if name in lines:
                    lines[name] = count[weight]
    return lines["LEFT"], lines["RIGHT"], lines["UP"], lines["DOWN"]


def box(character: str, height: int) -> Glyph | None:
    """Return a box drawing, or None if `character` is none."""
    arms = box_arms(character)
    if arms is None:
        return None
    left, right, up, down = arms
    fields = arm(left, right, up, down)
    fields |= {(line, 4 - place) for line, place in arm(right, left, up, down)}
    fields |= {(place, line) for line, place in arm(up, down, left, right)}
    fields |= {(4 - place, line) for line, place in arm(down, up, left, right)}
    glyph = []
    for field, rows in enumerate(BOX_ROWS[height]):
        glyph += [sum(bits for column, bits in enumerate(BOX_COLUMNS) if (field, column) in fields)] * rows
    return glyph


def block(character: str, height: int) -> Glyph | None:
    """Return a block or a shade, or None if `character` is none."""
    if character in BLOCKS:
        return [BLOCKS[character]] * height
    if character in SHADES:
        return list(SHADES[character]) * (height // 2)
    if character in "▀▄":
        upper = character == "▀"
        return [0xFF if (row < height // 2) == upper else 0 for row in range(height)]
    return None


def turned(glyph: Glyph) -> Glyph:
    """Return a glyph turned by half a circle, in its own columns and rows."""
    inked = [number for number, row in enumerate(glyph) if row]
    columns = [column for column in range(WIDTH) if any(row & 0x80 >> column for row in glyph)]
    shift = columns[0] + columns[-1] - (WIDTH - 1)  # to the right, of what is mirrored about the middle
    letter = [int(f"{row:08b}"[::-1], 2) for row in glyph[inked[0] : inked[-1] + 1]]
    letter = [row >> shift if shift > 0 else row << -shift for row in letter]
    return glyph[: inked[0]] + letter[::-1] + glyph[inked[-1] + 1 :]


def glyph_of(character: str, drawn: dict[str, Glyph], height: int) -> Glyph:
    """Return the glyph of one character of code page 437."""
    if character == " ":
        return [0] * height
    if character in TURNED:
        return turned(drawn[TURNED[character]])
    if character in INVERTED:
        return [row ^ 0xFF for row in drawn[INVERTED[character]]]
    if character in drawn:
        return drawn[character]
    glyph = box(character, height) or block(character, height) or accented(character, drawn)
    if glyph is None:
        raise ValueError(f"8x{height}.txt lacks {character}")
    return glyph


def font(height: int) -> bytes:
    """Return the 256 glyphs of the font of 8 x `height` pixels."""
    drawn = read_sheet((SHEETS / f"8x{height}.txt").read_text(encoding="utf-8"), height)
    return b"".join(bytes(glyph_of(character, drawn, height)) for character in CHARACTERS)


def main() -> int:
    """Write or check the fonts; return the exit status."""
    parser = argparse.ArgumentParser(description="Make the fonts of kvmbind.machine.screen.font.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a font is stale")
    parser.add_argument("--fonts", type=Path, default=FONTS, metavar="DIR", help="where the .bin files are")
    arguments = parser.parse_args()

    status = 0
    for height in BOX_ROWS:
        path = arguments.fonts / f"8x{height}.bin"
        fresh = font(height)
        if not arguments.check:
            path.write_bytes(fresh)
        elif not path.exists() or path.read_bytes() != fresh:
            print(f"build.py: {path.name} differs from its sheet: run python native/font/build.py", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
