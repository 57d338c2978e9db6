"""How gdb's remote serial protocol frames what it says: checksums, escapes, acknowledgements."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ACK, NAK, INTERRUPT = b"+", b"-", b"\x03"

#: The longest payload that is taken, in bytes, without its frame; qSupported tells it.
PAYLOAD_MAX = 0x4000

_START, _END, _ESCAPE = ord("$"), ord("#"), ord("}")
_ESCAPE_BIT = 0x20
_ESCAPED = b"#$}*"  # "*" begins a run length where gdb reads
_CHECKSUM_DIGITS = 2


class Signal(Enum):
    """What comes between packets."""

    ACKNOWLEDGED = "+"
    REPEAT = "-"
    INTERRUPT = "Ctrl-C"
    GARBLED = "a packet with a wrong checksum, or too long"


def frame(payload: bytes) -> bytes:
    """Makes a packet: $payload#checksum, escaped."""
    body = bytearray()
    for byte in payload:
        body += bytes((_ESCAPE, byte ^ _ESCAPE_BIT)) if byte in _ESCAPED else bytes((byte,))
    return b"$%b#%02x" % (bytes(body), sum(body) & 0xFF)


class Decoder:
    """Takes packets out of a stream, in whatever pieces it comes. What lies between packets is dropped."""

    def __init__(self) -> None:
        """Starts between two packets."""
        self._body: bytearray | None = None
        self._checksum: bytearray | None = None

    def feed(self, data: bytes) -> Iterator[bytes | Signal]:
        """Yields the payload of each packet that is complete, unescaped, and the signals between them."""
        for byte in data:
            found = self._take(byte)
            if found is not None:
                yield found

    def _take(self, byte: int) -> bytes | Signal | None:
        if self._checksum is not None:
            self._checksum.append(byte)
            return self._finish() if len(self._checksum) == _CHECKSUM_DIGITS else None
        if byte == _START:  # also within a packet: its end was lost
            self._body = bytearray()
            return None
        if self._body is None:
            return _SIGNALS.get(byte)
        if byte == _END:
            self._checksum = bytearray()
        elif len(self._body) <= 2 * PAYLOAD_MAX:
            self._body.append(byte)
        return None

    def _finish(self) -> bytes | Signal:
        body, checksum = self._body, self._checksum
        assert body is not None
        assert checksum is not None
        self._body = self._checksum = None
        if b"%02x" % (sum(body) & 0xFF) != bytes(checksum).lower():
            return Signal.GARBLED
        payload = _unescape(body)
        return payload if len(payload) <= PAYLOAD_MAX else Signal.GARBLED


_SIGNALS = {ACK[0]: Signal.ACKNOWLEDGED, NAK[0]: Signal.REPEAT, INTERRUPT[0]: Signal.INTERRUPT}


def _unescape(body: bytes | bytearray) -> bytes:
    first, *others = bytes(body).split(bytes((_ESCAPE,)))
    pieces = [first]
    pieces += [bytes((other[0] ^ _ESCAPE_BIT,)) + other[1:] for other in others if other]
    return b"".join(pieces)
