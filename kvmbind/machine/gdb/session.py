"""One client's conversation: what it sends goes to the stub, and what is answered goes back, acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kvmbind.machine.gdb.packets import ACK, NAK, Decoder, Signal, frame
from kvmbind.machine.gdb.stub import Stub, Target

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_ACKS = b"QStartNoAckMode"


class Debuggee(Target, Protocol):
    """A target that can be stopped while it runs."""

    def interrupt(self) -> None:
        """Stops it, if it runs."""


class Session:
    """A conversation with one client. It belongs to one thread."""

    def __init__(self, target: Debuggee, send: Callable[[bytes], object]) -> None:
        """Talks about `target`; what is to be sent goes to `send`."""
        self._target = target
        self._stub = Stub(target)
        self._decoder = Decoder()
        self._send = send
        self._acknowledges = True
        self._last = b""

    def receive(self, data: bytes) -> None:
        """Takes what the client has sent, in whatever pieces."""
        for item in self._decoder.feed(data):
            if isinstance(item, bytes):
                self._take(item)
            elif item is Signal.INTERRUPT:
                self._target.interrupt()
            elif item is Signal.REPEAT and self._last:
                self._send(self._last)
            elif item is Signal.GARBLED and self._acknowledges:
                self._send(NAK)

    def _take(self, payload: bytes) -> None:
        if self._acknowledges:
            self._send(ACK)
        if payload == _NO_ACKS:
            self._acknowledges = False
            answer: bytes | None = b"OK"
        else:
            answer = self._stub.answer(payload)
        if answer is not None:
            self.reply(answer)

    def reply(self, payload: bytes) -> None:
        """Sends a packet: an answer, or that the target has stopped."""
        self._last = frame(payload)
        self._send(self._last)
