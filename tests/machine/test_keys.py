"""Keys: what a BIOS and port 60h have for each, by name, by character, by script and by a terminal's bytes."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine import keys
from kvmbind.machine.key_input import KeyInput
from kvmbind.machine.key_script import KeyScriptError, Sleep, parse
from kvmbind.machine.keys import Key, Stroke, named, standard, typed
from kvmbind.machine.screen.cp437 import CHARACTERS

NAMES = [
    *("esc", "enter", "backspace", "tab", "space", "up", "down", "left", "right", "home", "end", "pageup", "pagedown"),
    *("insert", "delete", "kp5", "kp.", "kp+", "kp-", "kp*", "kp/", "kpenter", "capslock", "numlock", "scrolllock"),
    *(f"f{number}" for number in range(1, 13)),
    *(f"kp{number}" for number in range(10)),
    *("shift", "rshift", "ctrl", "rctrl", "alt", "ralt"),
]


def word(name: str) -> int | None:
    key = named(name).key
    return None if key is None else key.scancode << 8 | key.ascii


@pytest.mark.parametrize(
    ("name", "plain", "shift", "ctrl", "alt"),
    [
        ("a", 0x1E61, 0x1E41, 0x1E01, 0x1E00),
        ("z", 0x2C7A, 0x2C5A, 0x2C1A, 0x2C00),
        ("1", 0x0231, 0x0221, None, 0x7800),
        ("2", 0x0332, 0x0340, 0x0300, 0x7900),
        ("6", 0x0736, 0x075E, 0x071E, 0x7D00),
        ("0", 0x0B30, 0x0B29, None, 0x8100),
        ("-", 0x0C2D, 0x0C5F, 0x0C1F, 0x8200),
        ("=", 0x0D3D, 0x0D2B, None, 0x8300),
        ("[", 0x1A5B, 0x1A7B, 0x1A1B, 0x1A00),
        ("\\", 0x2B5C, 0x2B7C, 0x2B1C, 0x2B00),
        ("/", 0x352F, 0x353F, None, 0x3500),
        ("`", 0x2960, 0x297E, None, 0x2900),
        ("esc", 0x011B, 0x011B, 0x011B, 0x0100),
        ("backspace", 0x0E08, 0x0E08, 0x0E7F, 0x0E00),
        ("tab", 0x0F09, 0x0F00, 0x9400, 0xA500),
        ("enter", 0x1C0D, 0x1C0D, 0x1C0A, 0x1C00),
        ("space", 0x3920, 0x3920, 0x3920, 0x3920),
        ("f1", 0x3B00, 0x5400, 0x5E00, 0x6800),
        ("f10", 0x4400, 0x5D00, 0x6700, 0x7100),
        ("f11", 0x8500, 0x8700, 0x8900, 0x8B00),
        ("f12", 0x8600, 0x8800, 0x8A00, 0x8C00),
        ("up", 0x48E0, 0x48E0, 0x8DE0, 0x9800),
        ("left", 0x4BE0, 0x4BE0, 0x73E0, 0x9B00),
        ("delete", 0x53E0, 0x53E0, 0x93E0, 0xA300),
        ("kp8", 0x4800, 0x4838, 0x8D00, None),
        ("kp5", 0x4C00, 0x4C35, 0x8F00, None),
        ("kp+", 0x4E2B, 0x4E2B, 0x9000, 0x4E00),
        ("kpenter", 0xE00D, 0xE00D, 0xE00A, 0xA600),
        ("kp/", 0xE02F, 0xE02F, 0x9500, 0xA400),
        ("capslock", None, None, None, None),
    ],
)
def test_a_key_has_the_pairs_of_a_pcs_bios(
    name: str, plain: int | None, shift: int | None, ctrl: int | None, alt: int | None
) -> None:
    assert (word(name), word(f"shift+{name}"), word(f"ctrl+{name}"), word(f"alt+{name}")) == (plain, shift, ctrl, alt)


@pytest.mark.parametrize(
    ("name", "make", "release"),
    [
        ("a", "1e", "9e"),
        ("A", "2a1e", "9eaa"),
        ("up", "e048", "e0c8"),
        ("ctrl+alt+del", "1d38e053", "e0d3b89d"),
        ("f11", "57", "d7"),
        ("f12", "58", "d8"),
        ("kpenter", "e01c", "e09c"),
        ("ralt", "e038", "e0b8"),
    ],
)
def test_a_key_goes_down_after_its_modifiers_and_up_before_them(name: str, make: str, release: str) -> None:
    assert (named(name).make.hex(), named(name).release.hex()) == (make, release)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Return", "enter"),
        ("PGUP", "pageup"),
        ("lshift", "shift"),
        ("CTRL+C", "ctrl+c"),
        ("shift+a", "A"),
        ("ctrl++", "ctrl+shift+="),
        ("ctrl+kp+", "ctrl+kp+"),
        ("+", "shift+="),
    ],
)
def test_a_key_has_several_names(name: str, same: str) -> None:
    assert named(name)[1:] == named(same)[1:]


@pytest.mark.parametrize("name", ["", "foo", "f13", "hyper+a", "ctrl+", "shift+", "é", "a+b"])
def test_an_unknown_name_is_an_error_that_says_which_part(name: str) -> None:
    with pytest.raises(ValueError, match=r"^no (key|modifier) is called '"):
        named(name)


def test_the_names_of_the_documentation_are_those_that_exist() -> None:
    table = [line for line in (keys.__doc__ or "").splitlines() if line.startswith("| `")]
    documented = {name for line in table for name in re.findall(r"`([^`]+)`", line)}
    documented |= {f"f{number}" for number in range(1, 13)} | {f"kp{number}" for number in range(10)}
    assert documented >= set(NAMES)
    for name in documented:
        named(name)


@pytest.mark.parametrize("modifier", ["", "shift+", "ctrl+", "alt+", "ctrl+alt+shift+"])
def test_each_key_goes_up_as_often_as_down(modifier: str) -> None:
    for name in NAMES:
        stroke = named(modifier + name)
        down = sorted(code for code in stroke.make if code != keys.EXTENDED)
        up = sorted(code & 0x7F for code in stroke.release if code != keys.EXTENDED)
        assert down == up, stroke
        assert all(code < 0x80 for code in down), stroke


def test_each_character_is_typed_by_what_the_bios_then_has_as_its_code() -> None:
    codes = {character: code for code, character in enumerate(CHARACTERS) if character != " "}
    codes |= {" ": 0x20, "\n": 0x0D, "\t": 0x09, "\b": 0x08, "\x1b": 0x1B}
    for character, code in codes.items():
        stroke = typed(character)
        assert stroke is not None, character
        assert stroke.key is not None, character
        assert stroke.key.ascii == code, character


def test_a_character_that_is_on_no_key_is_its_number_on_the_keypad_with_alt_held() -> None:
    stroke = typed("é")
    assert stroke is not None
    assert stroke == Stroke("é", Key(0, 130), bytes.fromhex("38 4fcf 51d1 52d2 b8"), b"")
    assert typed("€") is None


@pytest.mark.parametrize(
    ("key", "old"),
    [
        (Key(0x48, 0xE0), Key(0x48, 0)),
        (Key(0xE0, 0x0D), Key(0x1C, 0x0D)),
        (Key(0xE0, 0x2F), Key(0x35, 0x2F)),
        (Key(0x1E, 0x61), Key(0x1E, 0x61)),
        (Key(0x00, 0xE0), Key(0x00, 0xE0)),
    ],
)
def test_old_programs_get_the_pairs_of_the_first_keyboards(key: Key, old: Key) -> None:
    assert standard(key) == old


# Scripts


def names(script: str) -> list[str]:
    return [f"sleep {item.duration_s:g}" if isinstance(item, Sleep) else item.name for item in parse(script)]


def test_a_script_is_characters_keys_repeats_and_waits_in_their_order() -> None:
    assert names("aB {enter}{down 3}{sleep 1.5}{ctrl+c}{{x}}\n") == [
        *("a", "B", " ", "enter", "down", "down", "down", "sleep 1.5", "ctrl+c", "{", "x", "}", "\n"),
    ]
    assert parse("") == []


def test_a_held_key_goes_down_and_a_released_one_up() -> None:
    assert parse("{hold right}{release right}") == [
        Stroke("right", Key(0x4D, 0xE0), b"\xe0\x4d", b""),
        Stroke("right", None, b"", b"\xe0\xcd"),
    ]


def test_braces_can_be_written_by_name_too() -> None:
    assert names("{}}") == ["}"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("ab{foo}", "keys, character 3: no key is called 'foo'"),
        ("{meta+x}", "keys, character 1: no modifier is called 'meta'"),
        ("abc{enter", "keys, character 4: this brace is never closed; for the character write {{"),
        ("a}", "keys, character 2: this brace was never opened; for the character write }}"),
        ("{sleep}", "keys, character 1: sleep needs seconds, 0 to 86400, not ''"),
        ("{sleep -1}", "keys, character 1: sleep needs seconds, 0 to 86400, not '-1'"),
        ("{sleep nan}", "keys, character 1: sleep needs seconds, 0 to 86400, not 'nan'"),
        ("{down 0}", "keys, character 1: a key can be repeated 1 to 10000 times, not '0'"),
        ("{down x}", "keys, character 1: a key can be repeated 1 to 10000 times, not 'x'"),
        ("a€", "keys, character 2: no key types '€': it is not in code page 437"),
        ("{hold}", "keys, character 1: no key is called ''"),
    ],
)
def test_a_wrong_script_is_one_line_with_the_place(script: str, message: str) -> None:
    with pytest.raises(KeyScriptError) as raised:
        parse(script)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@given(st.text(alphabet=st.sampled_from("ab{} 1sleepholddown+\n€")))
def test_any_text_is_a_script_or_a_script_error(script: str) -> None:
    with contextlib.suppress(KeyScriptError):
        parse(script)


@given(st.text(alphabet=st.sampled_from(CHARACTERS[1:-1])))
def test_a_text_with_its_braces_doubled_types_itself(text: str) -> None:
    assert "".join(names(text.replace("{", "{{").replace("}", "}}"))) == text


# A terminal's bytes


def strokes(data: bytes) -> list[str]:
    decoder = KeyInput()
    return [stroke.name for stroke in decoder.feed(data) + decoder.flush()]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"aB1 ", ["a", "B", "1", " "]),
        (b"\r\n\t\x7f\x08", ["enter", "ctrl+enter", "tab", "backspace", "backspace"]),
        (b"\x01\x1a\x1c\x1f\x00", ["ctrl+a", "ctrl+z", "ctrl+\\", "ctrl+-", "ctrl+2"]),
        ("é█€ü".encode(), ["é", "█", "ü"]),
        (b"\x1b", ["esc"]),
        (b"\x1b\x1b", ["esc", "esc"]),
        (b"\x1bx\x1b1\x1b\r", ["alt+x", "alt+1", "alt+enter"]),
        (b"\x1b[A\x1b[B\x1b[C\x1b[D\x1b[H\x1b[F", ["up", "down", "right", "left", "home", "end"]),
        (b"\x1bOA\x1bOP\x1bOS\x1bOM", ["up", "f1", "f4", "kpenter"]),
        (b"\x1b[2~\x1b[3~\x1b[5~\x1b[6~", ["insert", "delete", "pageup", "pagedown"]),
        (b"\x1b[11~\x1b[15~\x1b[17~\x1b[21~\x1b[24~", ["f1", "f5", "f6", "f10", "f12"]),
        (b"\x1b[[A\x1b[[E", ["f1", "f5"]),
        (b"\x1b[1;5A\x1b[1;3D\x1b[1;2P\x1b[3;5~\x1bO5P", ["ctrl+up", "alt+left", "shift+f1", "ctrl+delete", "ctrl+f1"]),
        (b"\x1b[Z\x1b[25~", ["shift+tab", "shift+f1"]),
        (b"\x1b[99;5u\x1b[13;5u\x1b[97u", ["ctrl+c", "ctrl+enter", "a"]),
        (b"\x1b[", ["alt+["]),
        (b"\x1bO", ["alt+O"]),
        (b"\x1b[I\x1b[200~\x1b[<0;1;1M\x1b[?1;2ca", ["a"]),
        (b"\x1b[" + b";1" * 14 + b"A", ["up"]),
        (b"\xff\xfea\xc3", ["a"]),
        (b"\x1b[3\xc3\xa9", ["é"]),
    ],
)
def test_a_terminals_bytes_are_strokes(data: bytes, expected: list[str]) -> None:
    assert strokes(data) == expected


def test_a_sequence_that_never_ends_is_given_up() -> None:
    assert strokes(b"\x1b[" + b"1" * 30 + b"z") == ["z"]


@pytest.mark.parametrize("data", [b"\x1b[1;5A", b"\x1bOP", b"\x1b[[B", "é".encode(), "█".encode(), b"\x1bx"])
def test_a_sequence_may_come_in_pieces(data: bytes) -> None:
    decoder = KeyInput()
    for at in range(len(data) - 1):
        assert decoder.feed(data[at : at + 1]) == []
        assert decoder.is_waiting
    assert [stroke.name for stroke in decoder.feed(data[-1:])] == strokes(data)
    assert not decoder.is_waiting


def test_an_escape_byte_alone_is_the_key_only_when_nothing_follows() -> None:
    decoder = KeyInput()
    assert decoder.feed(b"\x1b") == []
    assert decoder.is_waiting
    assert [stroke.name for stroke in decoder.flush()] == ["esc"]
    assert not decoder.is_waiting


@given(st.binary())
def test_whatever_a_terminal_sends_is_taken_without_an_error(data: bytes) -> None:
    decoder = KeyInput()
    decoder.feed(data)
    decoder.flush()
    assert not decoder.is_waiting
    assert [stroke.name for stroke in decoder.feed(b"a")] == ["a"]


@given(st.binary(), st.data())
def test_how_the_bytes_are_cut_makes_no_difference(data: bytes, cuts: st.DataObject) -> None:
    at = cuts.draw(st.integers(0, len(data)))
    decoder = KeyInput()
    pieces = decoder.feed(data[:at]) + decoder.feed(data[at:]) + decoder.flush()
    assert [stroke.name for stroke in pieces] == strokes(data)
