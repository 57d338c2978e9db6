"""The fonts in the package are what their sheets say, and box drawings meet at the edges of their cells."""

from __future__ import annotations

import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from kvmbind.machine.screen import cp437
from kvmbind.machine.screen import font as fonts

ROOT = Path(__file__).resolve().parents[3]
HEIGHTS = (8, 14, 16)


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "native" / "font" / "build.py"
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


def glyph(character: str, height: int) -> bytes:
    code = cp437.encode(character)
    assert code is not None
    return fonts.font(height)[code * height : (code + 1) * height]


def test_the_committed_fonts_are_those_of_their_sheets() -> None:
    done = build("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_names_the_font_that_differs(tmp_path: Path) -> None:
    for height in (8, 16):
        shutil.copy(Path(fonts.__file__).with_name(f"8x{height}.bin"), tmp_path)
    (tmp_path / "8x16.bin").write_bytes(bytes(4096))
    done = build("--check", "--fonts", str(tmp_path))
    assert done.returncode == 1
    assert "8x16.bin differs from its sheet" in done.stderr
    assert "8x8.bin" not in done.stderr


def test_building_writes_the_fonts(tmp_path: Path) -> None:
    assert build("--fonts", str(tmp_path)).returncode == 0
    assert (tmp_path / "8x8.bin").read_bytes() == fonts.font(8)
    assert (tmp_path / "8x16.bin").read_bytes() == fonts.font(16)


@pytest.mark.parametrize("height", HEIGHTS)
def test_every_character_but_the_blanks_has_a_glyph_of_its_own(height: int) -> None:
    glyphs = [fonts.font(height)[start : start + height] for start in range(0, 256 * height, height)]
    blanks = [code for code, rows in enumerate(glyphs) if not any(rows)]
    assert blanks == [0x00, 0x20, 0xFF]
    inked = [rows for rows in glyphs if any(rows)]
    assert len(set(inked)) == len(inked)


@pytest.mark.parametrize("height", HEIGHTS)
def test_a_box_drawing_reaches_exactly_the_edges_that_its_name_says(height: int) -> None:
    for character in cp437.CHARACTERS:
        name = unicodedata.name(character)
        if not name.startswith("BOX DRAWINGS"):
            continue
        rows = glyph(character, height)
        assert bool(rows[0]) == ("UP" in name or "VERTICAL" in name), name
        assert bool(rows[-1]) == ("DOWN" in name or "VERTICAL" in name), name
        assert any(row & 0x80 for row in rows) == ("LEFT" in name or "HORIZONTAL" in name), name
        assert any(row & 0x01 for row in rows) == ("RIGHT" in name or "HORIZONTAL" in name), name


@pytest.mark.parametrize("height", HEIGHTS)
def test_blocks_fill_their_halves(height: int) -> None:
    half = height // 2
    assert glyph("█", height) == b"\xff" * height
    assert glyph("▌", height) == b"\xf0" * height
    assert glyph("▀", height) == b"\xff" * half + bytes(half)
    assert glyph("▄", height) == bytes(half) + b"\xff" * half


def test_a_font_of_another_height_is_an_error() -> None:
    with pytest.raises(ValueError, match="8, 14 or 16 rows high, not 9"):
        fonts.font(9)


@pytest.mark.parametrize(("height", "own"), [(1, 8), (8, 8), (13, 8), (14, 14), (15, 14), (16, 16), (32, 16)])
def test_cells_take_the_tallest_font_that_fits(height: int, own: int) -> None:
    assert fonts.font_for(height) == fonts.font(own)


def test_the_code_page_is_that_of_pythons_codec_with_pictures_for_control_codes() -> None:
    assert cp437.decode(bytes(range(0x20, 0x7F))) == bytes(range(0x20, 0x7F)).decode("ascii")
    assert cp437.decode(bytes(range(0x80, 0xFF))) == bytes(range(0x80, 0xFF)).decode("cp437").replace("µ", "µ")
    assert cp437.decode(b"\x00\x01\x10\x7f\xff") == " ☺►⌂ "


def test_every_character_is_encoded_as_what_decodes_to_it() -> None:
    for character in cp437.CHARACTERS:
        code = cp437.encode(character)
        assert code is not None
        assert cp437.decode(bytes((code,))) == character
    assert cp437.encode(" ") == 0x20
    assert cp437.encode("€") is None
