"""What a ``*.kvmbind.toml`` file may say, and what it says.

.. code-block:: toml

    image = "hello.img"         # relative to this file
    keys = "abc{enter}"         # options of kvmbind.Machine: format, memory, entry, load_at, keys, args, smp
    expect = ["ready", "abc"]   # texts that must come, on the screen, the console or the serial port
    exit_status = 0             # it must end by itself, so; left out: it may go on
    timeout_s = 10              # for all of it; 10 if left out

    [[interrupts]]              # fired in this order, before the texts are waited for
    vector = 0x40
    after = "ready"             # wait for this text first
    times = 3                   # 1 if left out
    gap_s = 0.01                # between two
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

SUFFIX = ".kvmbind.toml"

T = TypeVar("T")

_TEXT_OPTIONS = ("format", "keys", "args")
_INTEGER_OPTIONS = ("memory", "load_at", "smp")


class BadDocumentError(Exception):
    """A file says what it may not say; the message names the key."""


class Firing(NamedTuple):
    """One of ``[[interrupts]]``: when, how often and how fast to fire which vector."""

    vector: int
    after: str
    times: int
    gap_s: float

    @classmethod
    def parse(cls, table: object) -> Self:
        """Reads a table of TOML."""
        keys = _Keys(table, "interrupts")
        firing = cls(
            vector=keys.take("vector", int),
            after=keys.take("after", str, ""),
            times=keys.take("times", int, 1),
            gap_s=keys.take_number("gap_s", 0.01),
        )
        keys.require_no_more()
        if not 0 <= firing.vector <= 255 or firing.times < 1 or firing.gap_s < 0:
            raise BadDocumentError(
                "interrupts need a vector of 0 to 255, times of at least 1 and a gap_s of at least 0"
            )
        return firing


class Document(NamedTuple):
    """What a file says."""

    image: str
    options: Mapping[str, object]
    interrupts: tuple[Firing, ...]
    expect: tuple[str, ...]
    exit_status: int | None
    timeout_s: float

    @classmethod
    def parse(cls, table: object) -> Self:
        """Reads a document of TOML.

        Raises:
            BadDocumentError: A key is missing, unknown or of the wrong type, or nothing in it could fail.
        """
        keys = _Keys(table)
        document = cls(
            image=keys.take("image", str),
            options=_take_options(keys),
            interrupts=tuple(map(Firing.parse, keys.take("interrupts", list, []))),
            expect=_take_texts(keys, "expect"),
            exit_status=keys.take("exit_status", int) if "exit_status" in keys else None,
            timeout_s=keys.take_number("timeout_s", 10),
        )
        keys.require_no_more()
        if not document.expect and document.exit_status is None:
            raise BadDocumentError("it says neither expect nor exit_status: nothing could fail")
        return document


def _take_options(keys: _Keys) -> dict[str, object]:
    options: dict[str, object] = {}
    options |= {key: keys.take(key, str) for key in _TEXT_OPTIONS if key in keys}
    options |= {key: keys.take(key, int) for key in _INTEGER_OPTIONS if key in keys}
    if "entry" in keys:
        entry = keys.take("entry", object)
        options["entry"] = tuple(entry) if isinstance(entry, list) else entry
    return options


def _take_texts(keys: _Keys, key: str) -> tuple[str, ...]:
    value = keys.take(key, object, [])
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text for text in texts):
        raise BadDocumentError(f"{key} must be a text, or a list of texts")
    return tuple(texts)


class _Keys:
    """Takes the keys of a table one by one, each with its type."""

    def __init__(self, table: object, name: str = "") -> None:
        if not isinstance(table, dict):
            raise BadDocumentError(f"{name} must be a table")
        self._left = dict(table)
        self._prefix = f"{name}." if name else ""

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str, kind: type[T], *default: T) -> T:
        if key not in self._left:
            if default:
                return default[0]
            raise BadDocumentError(f"{self._prefix}{key} is missing")
        value = self._left.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not object):
            raise BadDocumentError(f"{self._prefix}{key} is {value!r}: {_NAMES[kind]} is wanted")
        return value

    def take_number(self, key: str, default: float) -> float:
        value = self.take(key, object, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise BadDocumentError(f"{self._prefix}{key} is {value!r}: a number is wanted")
        return value

    def require_no_more(self) -> None:
        if self._left:
            raise BadDocumentError(f"{self._prefix}{next(iter(self._left))} is no key of a {SUFFIX} file")


_NAMES = {int: "an integer", str: "a text", list: "a list"}
