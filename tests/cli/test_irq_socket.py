"""`kvmbind run --irq-socket`: another process fires."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvmbind.cli.irq_socket import FDS_MAX, IrqSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "examples" / "images"
TIMEOUT_S = 100

#: Sends "r" to the serial port once vectors 40h and 41h send "a" and "b" there; ends with the second.
TWO_HANDLERS = bytes.fromhex(
    "31c0 8ed8 c7060001 217c a30201 c7060401 2a7c a30601"  # xor ax, ax; IVT[40h] and IVT[41h]
    "baf803 b072 ee fb f4 ebfd"  # mov dx, 3f8h; mov al, 'r'; out dx, al; sti; hlt
).ljust(0x21, b"\x90") + bytes.fromhex("baf803 b061 ee cf 909090 baf803 b062 ee fa f4")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "kvmbind", "run", "--headless", *map(str, arguments)]


@contextlib.contextmanager
def running(path: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs an image until the socket listens, and to its end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command("--irq-socket", path, *arguments), stdout=pipe, stderr=pipe) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"eventfds of ")
        try:
            yield process
        finally:
            process.kill()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT_S)
    client.connect(str(path))
    return client


def receive(client: socket.socket) -> tuple[list[str], list[int]]:
    """The names and the eventfds."""
    message, fds, _, _ = socket.recv_fds(client, 4096, FDS_MAX)
    assert message.endswith(b"\n")
    return message.decode().split(), fds


@contextlib.contextmanager
def closing(fds: list[int]) -> Iterator[None]:
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "irq.sock"


@pytest.mark.kvm
def test_who_connects_has_an_eventfd_for_each_irq_in_order(path: Path, tmp_path: Path) -> None:
    image = tmp_path / "two.bin"
    image.write_bytes(TWO_HANDLERS)
    arguments = ("--irq", "40", "--irq", "41", "--format", "flat", image)
    with running(path, *arguments) as process, connect(path) as client:
        names, fds = receive(client)
        with closing(fds):
            assert names == ["40", "41"]
            assert process.stdout is not None
            assert process.stdout.read(1) == b"r"
            os.eventfd_write(fds[0], 1)
            assert process.stdout.read(1) == b"a"
            os.eventfd_write(fds[1], 1)
            assert process.stdout.read(1) == b"b"
            assert process.wait(TIMEOUT_S) == 0


@pytest.mark.kvm
def test_each_fire_of_two_other_processes_is_counted(path: Path) -> None:
    """An --irq without @HZ is fired by them alone."""
    fire = [sys.executable, "-W", "error", "examples/images/fire.py", str(path), "-n", "3", "--hz", "20"]
    with running(path, "--irq", "40", "--until", "00006", IMAGES / "counter.bin") as process:
        for _ in range(2):
            done = subprocess.run(fire, cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"fired 40 3 times\n", b"")
        out, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
        assert b"00006" in out


@pytest.mark.kvm
def test_an_irq_with_a_rate_is_fired_all_the_same(path: Path) -> None:
    with running(path, "--irq", "40@20", "--until", "00003", IMAGES / "counter.bin") as process:
        assert process.wait(TIMEOUT_S) == 0


@pytest.mark.kvm
def test_the_end_of_the_machine_is_the_end_of_the_connection_and_the_file_is_gone(path: Path) -> None:
    with running(path, "--irq", "40", "--timeout", "0.5", IMAGES / "counter.bin") as process, connect(path) as client:
        with closing(receive(client)[1]):
            assert client.recv(1) == b""
        assert process.wait(TIMEOUT_S) == 124
    assert not path.exists()


@pytest.mark.kvm
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + 15), (signal.SIGHUP, 128 + 1)]
)
def test_a_signal_that_ends_it_removes_the_file_too(path: Path, number: signal.Signals, status: int) -> None:
    with running(path, "--irq", "40", IMAGES / "counter.bin") as process:
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == status
    assert not path.exists()


def refused(*arguments: str | Path) -> str:
    """The one line that it is told by."""
    done = subprocess.run(command(*arguments), capture_output=True, timeout=TIMEOUT_S, check=False)
    said = done.stderr.decode()
    assert (done.returncode, done.stdout, said.count("\n")) == (1, b"", 1)
    return said


@pytest.mark.kvm
def test_a_path_where_something_is_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("mine")
    said = refused("--irq", "40", "--irq-socket", path, IMAGES / "counter.bin")
    assert said == f"kvmbind run: --irq-socket {path}: something is there already\n"
    assert path.read_text() == "mine"


@pytest.mark.kvm
def test_a_socket_in_no_folder_or_of_no_irq_is_refused(path: Path) -> None:
    said = refused("--irq", "40", "--irq-socket", path / "below", IMAGES / "counter.bin")
    assert "No such file or directory" in said
    assert "of 1 to 253 --irq; there are 0" in refused("--irq-socket", path, IMAGES / "counter.bin")
    assert "path too long" in refused("--irq", "40", "--irq-socket", "x" * 200, IMAGES / "counter.bin")


@pytest.fixture
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0)
    yield fd
    os.close(fd)


def test_only_the_owner_may_connect(path: Path, eventfd: int) -> None:
    with contextlib.closing(IrqSocket(str(path), [("40", eventfd)])):
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600


def test_253_eventfds_fit(path: Path, eventfd: int) -> None:
    interrupts = [(f"raw:{n % 0x100:02x}", eventfd) for n in range(FDS_MAX)]
    with contextlib.closing(IrqSocket(str(path), interrupts)), connect(path) as client:
        names, fds = receive(client)
        with closing(fds):
            assert names == [name for name, _ in interrupts]
            assert len(fds) == FDS_MAX
            os.eventfd_write(fds[-1], 7)
            assert os.eventfd_read(eventfd) == 7


def test_clients_that_talk_leave_or_read_nothing_disturb_no_other(path: Path, eventfd: int) -> None:
    with contextlib.closing(IrqSocket(str(path), [("40", eventfd)])), contextlib.ExitStack() as clients:
        for _ in range(20):
            clients.enter_context(connect(path))
            with connect(path) as talker:
                talker.sendall(b"hello")
        names, fds = receive(clients.enter_context(connect(path)))
        with closing(fds):
            assert names == ["40"]


def test_it_leaves_no_fd_and_no_file_behind(path: Path, eventfd: int, count_fds: Callable[[], int]) -> None:
    before = count_fds()
    for _ in range(3):
        with contextlib.closing(IrqSocket(str(path), [("40", eventfd)])), connect(path) as client, connect(path):
            for fd in receive(client)[1]:
                os.close(fd)
        assert not path.exists()
    with pytest.raises(OSError, match="No such file"):
        IrqSocket(str(path / "below"), [("40", eventfd)])
    assert count_fds() == before


def test_a_file_that_has_taken_its_place_is_left_alone(path: Path, eventfd: int) -> None:
    with contextlib.closing(IrqSocket(str(path), [("40", eventfd)])):
        other = path.with_suffix(".new")
        other.write_text("mine")
        other.replace(path)
    assert path.read_text() == "mine"
