"""Another process that fires into a guest, of which it has an eventfd and the memory.

It is `python -m kvmbind.bench.other_process`, with a socket for its stdin.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from kvmbind._shim import lib
from kvmbind.bench.probe import Pace, Probe, Round, Watched, pack, unpack

if TYPE_CHECKING:
    from io import BufferedRWPair

_FDS_MAX = 32


class OtherProcess:
    """The process, as the one sees it that owns the guest.

    Threads: one at a time.
    """

    def __init__(self, eventfd: int, watched: Watched, pace: Pace) -> None:
        """Starts it and sends it the eventfd and the fds of `watched`."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "kvmbind.bench.other_process"]
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), process_group=0)  # Ctrl-C is for us alone
        self._socket = ours
        bell = [] if watched.bell_fd < 0 else [watched.bell_fd]
        socket.send_fds(ours, [b"f"], [eventfd, watched.memory_fd, *bell, *watched.stats_fds])
        self._stream = ours.makefile("rwb")
        self._send({"watched": watched, "bells": len(bell), "pace": pace})

    def _send(self, message: object) -> None:
        self._stream.write(json.dumps(message).encode() + b"\n")
        self._stream.flush()

    def rounds(self, n: int) -> list[Round]:
        """Lets it fire n times."""
        self._send(n)
        size = int(self._stream.readline() or b"0")
        rounds = unpack(self._stream.read(size))
        if len(rounds) != n:
            raise OSError(f"the other process has ended after {len(rounds)} of {n} triggers")
        return rounds

    def close(self) -> None:
        """Ends the process."""
        self._stream.close()
        self._socket.close()
        self._process.wait()


def serve(connection: socket.socket) -> None:
    """Fires as often as is asked for, until the other side closes."""
    _, fds, _, _ = socket.recv_fds(connection, 1, _FDS_MAX)
    with connection.makefile("rwb") as stream:
        eventfd, probe = _set_up(stream, fds)
        call = partial(lib.kb_rounds_eventfd, probe.struct, eventfd)
        for line in stream:
            probe.arm()
            rounds = pack(probe.run_in_c(call, int(line)))
            stream.write(b"%d\n" % len(rounds) + rounds)
            stream.flush()


def _set_up(stream: BufferedRWPair, fds: list[int]) -> tuple[int, Probe]:
    message = json.loads(stream.readline())
    eventfd, memory_fd, *rest = fds
    bells = message["bells"]
    watched = Watched(*message["watched"])._replace(
        memory_fd=memory_fd, bell_fd=rest[0] if bells else -1, stats_fds=tuple(rest[bells:])
    )
    return eventfd, Probe(watched, Pace(*message["pace"]), "process")


if __name__ == "__main__":
    with socket.socket(fileno=sys.stdin.fileno()) as parent:
        serve(parent)
