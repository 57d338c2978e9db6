"""The framing of gdb's remote serial protocol."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmbind.machine.gdb.packets import PAYLOAD_MAX, Decoder, Signal, frame


def decode(*pieces: bytes) -> list[bytes | Signal]:
    decoder = Decoder()
    return [item for piece in pieces for item in decoder.feed(piece)]


def test_a_packet_has_a_start_an_end_and_a_checksum_of_what_lies_between() -> None:
    assert frame(b"") == b"$#00"
    assert frame(b"OK") == b"$OK#9a"


def test_what_frames_packets_is_escaped_within_one() -> None:
    assert frame(b"#$}*") == b"$}\x03}\x04}]}\x0a#" + b"%02x" % (sum(b"}\x03}\x04}]}\x0a") & 0xFF)


@given(st.lists(st.binary(max_size=100), max_size=5), st.integers(1, 50))
def test_packets_come_out_as_they_went_in_however_the_stream_is_cut(payloads: list[bytes], size: int) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    assert decode(*(stream[at : at + size] for at in range(0, len(stream), size))) == payloads


@given(st.binary(max_size=200))
def test_a_packet_behind_any_bytes_is_taken(noise: bytes) -> None:
    """An end that the noise lacks costs at most the packet in front."""
    assert decode(noise, frame(b"lost"), frame(b"?"))[-1] == b"?"


@given(st.binary(min_size=1, max_size=40), st.integers(1, 255))
def test_a_wrong_checksum_is_garbled(payload: bytes, difference: int) -> None:
    packet = frame(payload)
    wrong = b"%02x" % (int(packet[-2:], 16) ^ difference)
    assert decode(packet[:-2] + wrong) == [Signal.GARBLED]


def test_signals_come_between_packets_and_not_within() -> None:
    assert decode(b"+-\x03") == [Signal.ACKNOWLEDGED, Signal.REPEAT, Signal.INTERRUPT]
    assert decode(frame(b"X0,1:\x03+-")) == [b"X0,1:\x03+-"]


def test_a_payload_as_long_as_is_allowed_is_taken_and_a_longer_one_is_garbled() -> None:
    assert decode(frame(bytes(PAYLOAD_MAX))) == [bytes(PAYLOAD_MAX)]
    assert decode(frame(b"}" * PAYLOAD_MAX)) == [b"}" * PAYLOAD_MAX]
    assert decode(frame(bytes(PAYLOAD_MAX + 1))) == [Signal.GARBLED]
    assert decode(frame(bytes(10 * PAYLOAD_MAX)), frame(b"?")) == [Signal.GARBLED, b"?"]
