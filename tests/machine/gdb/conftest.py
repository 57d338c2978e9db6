"""gdb itself, and a client that says what gdb would not."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from kvmbind.machine.gdb.packets import Decoder, frame

if TYPE_CHECKING:
    Debug = Callable[..., str]

DEADLINE_S = 60


@pytest.fixture
def gdb() -> list[str]:
    """The command that starts gdb."""
    return ["gdb", "-nx", "-batch"]


@pytest.fixture
def debug(gdb: list[str]) -> Debug:
    """Connects gdb to an address and has it do commands; returns what it printed."""

    def run(address: tuple[str, int], *commands: str) -> str:
        host, port = address
        wanted = (f"target remote {host}:{port}", *commands)
        arguments = [part for command in wanted for part in ("-ex", command)]
        return subprocess.run(
            [*gdb, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        ).stdout

    return run


class Client:
    """The other end of the protocol, without acknowledgements."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, DEADLINE_S)
        self._decoder = Decoder()
        self._packets: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self.socket.sendall(frame(payload))

    def receive(self) -> bytes:
        """The next packet; b"" when the other side has hung up."""
        while not self._packets:
            data = self.socket.recv(4096)
            if not data:
                return b""
            self._packets += [item for item in self._decoder.feed(data) if isinstance(item, bytes)]
        return self._packets.pop(0)

    def ask(self, payload: bytes) -> bytes:
        self.send(payload)
        return self.receive()


@pytest.fixture
def client() -> Iterator[Callable[[tuple[str, int]], Client]]:
    """Connects clients, which are closed after the test."""
    made: list[Client] = []

    def connect(address: tuple[str, int]) -> Client:
        made.append(Client(address))
        assert made[-1].ask(b"QStartNoAckMode") == b"OK"
        return made[-1]

    yield connect
    for one in made:
        one.socket.close()
