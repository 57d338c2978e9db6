"""`kvmbind run`, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmbind.cli.run import Irq, build_irq
from kvmbind.machine.gdb.packets import frame
from tests.machine.images.multiboot_images import flat

pytestmark = pytest.mark.kvm

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "examples" / "images"
TIMEOUT_S = 100

#: Sends back by the serial port what it gets, until a full stop.
SERIAL_ECHO = bytes.fromhex("bafd03 ec a801 74fb baf803 ec ee 3c2e 75ef fa f4")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "kvmbind", "run", *map(str, arguments)]


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments), input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False)


def test_it_prints_what_the_program_writes_once() -> None:
    done = run("--headless", IMAGES / "hello.bin")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello from real mode\n", b"")


@pytest.mark.parametrize(
    "prompt",
    ["baf803 b03f ee f4", "b43f b00e 86c4 cd10 f4"],  # OUT 3F8h, AL; INT 10h/0Eh
    ids=["serial port", "console"],
)
def test_who_reads_its_pipe_sees_a_prompt_at_once(prompt: str, tmp_path: Path) -> None:
    image = tmp_path / "prompt.bin"
    image.write_bytes(bytes.fromhex(prompt + "ebfd"))  # and halts for ever, with interrupts enabled
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command("--headless", "--format", "flat", image), stdout=subprocess.PIPE, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"?"
        finally:
            process.kill()


def test_the_image_may_come_by_stdin() -> None:
    done = run("--headless", "-", stdin=(IMAGES / "hello.bin").read_bytes())
    assert (done.returncode, done.stdout) == (0, b"Hello from real mode\n")


def test_json_is_one_document() -> None:
    done = run("--json", IMAGES / "hello.bin")
    document = json.loads(done.stdout)
    assert (document["reason"], document["exit_status"], document["screen"]) == ("halted", 0, "Hello from real mode")
    assert document["bios_calls"] == {"10/0e": 22}
    assert "rip" in document["registers"]


def test_trace_and_stats_go_to_stderr() -> None:
    done = run("--headless", "--trace", "--stats", IMAGES / "hello.bin")
    assert done.stdout == b"Hello from real mode\n"
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("INT 10/0E teletype ax=0e48")
    assert "      22 INT 10/0E teletype" in lines


def test_stats_tell_what_kvm_has_counted() -> None:
    """A KVM that posts interrupts injects none."""
    done = run("--headless", "--stats", "--irq", "40@4", "--until", "00003", IMAGES / "counter.bin")
    lines = [line.strip().split(" ", 1) for line in done.stderr.decode().splitlines()]
    counted = {name: int(count) for count, name in lines}
    assert counted["returns of KVM_RUN"] > 0
    assert counted["interrupts injected by KVM"] >= 0


def test_a_program_that_does_not_end_is_ended_and_told_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "loop.bin"
    path.write_bytes(b"\xeb\xfe")
    done = run("--headless", "--timeout", "0.3", path)
    assert done.returncode == 124
    said = done.stderr.decode()
    assert said.startswith("timeout: after 0.3 s\nat 0000:7c00\n")
    assert "bytes there: eb fe" in said


@pytest.mark.parametrize(("code", "status"), [("b80310 e6f4", 7), ("0f0b", 81), ("cd18", 80), ("b8074c cd21", 7)])
def test_the_exit_status_says_how_it_ended(tmp_path: Path, code: str, status: int) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(bytes.fromhex(code))
    assert run("--headless", "--format", "flat", path).returncode == status


def test_a_multiboot_image_is_told_its_arguments_and_how_many_processors_there_are(tmp_path: Path) -> None:
    """It sends its command line to the serial port, and ends with the number of processors."""
    path = tmp_path / "kernel"
    code = "8b7310 66baf803 ac 84c0 7403 ee ebf8 66ba1005 66b80500 66ef 42 ec e6f4"
    path.write_bytes(flat(code=bytes.fromhex(code)))
    done = run("--headless", "--smp", "3", "--arg", "one", "--arg", "two", path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (7, b"kernel one two", b"")


def test_an_interrupt_from_outside_is_counted_by_the_example() -> None:
    done = run("--headless", "--timeout", "60", "--until", "00003", "--irq", "40@2", IMAGES / "counter.bin")
    assert done.returncode == 0
    assert b"00003" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere.bin",), "nowhere.bin: No such file or directory"),
        (("--format", "com", "--arg", "x" * 200, IMAGES / "hello.bin"), "the arguments are 201 bytes long"),
        (("--load-at", "a0000", "--format", "flat", IMAGES / "hello.bin"), "end above 0xa0000"),
        (("--memory", "1M", IMAGES / "hello.bin"), "memory of 0x100000 bytes is not"),
        (("--keys", "{nokey}", IMAGES / "hello.bin"), "keys, character 1: no key is called 'nokey'"),
        (("--format", "multiboot", IMAGES / "hello.bin"), "no Multiboot header from there on; expected 02 b0 ad 1b"),
        (("--smp", "256", IMAGES / "hello.bin"), "smp of 256 is not 1 to 255"),
        (("--smp", "2", "--gdb", "0", IMAGES / "hello.bin"), "--gdb sees and stops one processor: leave --smp out"),
    ],
)
def test_what_cannot_be_started_is_one_line_and_status_1(arguments: tuple[str | Path, ...], says: str) -> None:
    done = run("--headless", *arguments)
    said = done.stderr.decode()
    assert (done.returncode, done.stdout, said.count("\n")) == (1, b"", 1)
    assert said.startswith("kvmbind run: ")
    assert says in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("--entry", "xyz"),
        ("--irq", "100"),
        ("--irq", "raw:08"),
        ("--irq", "40@0"),
        ("--memory", "lots"),
        ("--smp", "two"),
        ("--gdb", "70000"),
        ("--gdb", "localhost:"),
        ("--timeout", "-1"),
    ],
)
def test_a_wrong_argument_is_status_2(arguments: tuple[str, str]) -> None:
    done = run(*arguments, IMAGES / "hello.bin")
    assert done.returncode == 2
    assert b"error: argument " in done.stderr


def test_keys_are_typed() -> None:
    done = run("--headless", "--keys", "hi{esc}", IMAGES / "echo.bin")
    assert (done.returncode, done.stdout) == (0, b"Type; Escape ends it.\nhi\n")


def test_ctrl_c_ends_it_at_once() -> None:
    with subprocess.Popen(command("--headless", IMAGES / "echo.bin"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"Type; Escape ends it.\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130


def test_the_serial_port_may_be_a_file(tmp_path: Path) -> None:
    path, log = tmp_path / "image.bin", tmp_path / "serial.log"
    path.write_bytes(bytes.fromhex("baf803 b041 ee b042 ee fa f4"))
    assert run("--headless", "--serial", log, path).stdout.strip() == b""
    assert log.read_bytes() == b"AB"
    assert run("--headless", path).stdout.strip() == b"AB"


def test_the_serial_port_may_be_stdio(tmp_path: Path) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(SERIAL_ECHO)
    assert run("--headless", "--serial", "stdio", path, stdin=b"abc.").stdout.strip() == b"abc."


@contextlib.contextmanager
def on_pty(image: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Runs an image with its serial port on a pseudo-terminal; gives the fd of the other side."""
    line = command("--headless", "--serial", "pty", *arguments, image)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert said.startswith("serial port: /dev/pts/")
        fd = os.open(said.split()[-1], os.O_RDWR | os.O_NOCTTY)
        try:
            yield process, fd
        finally:
            os.close(fd)
            process.kill()


def test_the_serial_port_may_be_a_pty(tmp_path: Path) -> None:
    """Bytes of all kinds go both ways, and nothing is echoed but by the program."""
    image = tmp_path / "image.bin"
    image.write_bytes(SERIAL_ECHO)
    sent = bytes(set(range(256)) - {ord(".")}) + b"."
    with on_pty(image) as (process, fd):
        os.write(fd, sent)
        received = b""
        while len(received) < len(sent):
            received += os.read(fd, 4096)
        assert received == sent
        assert process.wait(TIMEOUT_S) == 0


def test_a_pty_that_nobody_reads_stops_no_guest(tmp_path: Path) -> None:
    """It sends 24,576 bytes, which are more than a pty holds, and halts."""
    image = tmp_path / "image.bin"
    image.write_bytes(bytes.fromhex("baf803 b90060 b041 ee e2fd fa f4"))
    with on_pty(image) as (process, _):
        assert process.wait() == 0  # an exit for each byte: on an emulated processor it takes minutes


def waiting_for_gdb(process: subprocess.Popen[bytes]) -> tuple[str, int]:
    """The address that it tells."""
    assert process.stderr is not None
    found = re.fullmatch(rb"waiting for gdb: target remote (127\.0\.0\.1):(\d+)\n", process.stderr.readline())
    assert found
    return found[1].decode(), int(found[2])


def test_it_waits_for_gdb_and_goes_on_when_gdb_says_so() -> None:
    arguments = command("--headless", "--gdb", "0", IMAGES / "hello.bin")
    with (
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        socket.create_connection(waiting_for_gdb(process), TIMEOUT_S) as gdb,
    ):
        gdb.sendall(frame(b"?") + frame(b"c"))
        received = bytearray()
        while data := gdb.recv(1024):
            received += data
        assert frame(b"T05thread:1;") in received
        assert received.endswith(frame(b"W00"))
        gdb.close()
        assert process.communicate(timeout=TIMEOUT_S) == (b"Hello from real mode\n", b"")
        assert process.returncode == 0


def test_ctrl_c_ends_it_while_it_waits_for_gdb() -> None:
    arguments = command("--headless", "--gdb", "127.0.0.1:0", IMAGES / "hello.bin")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        waiting_for_gdb(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130


def test_an_address_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("--headless", "--gdb", str(port), IMAGES / "hello.bin")
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"--gdb 127.0.0.1:{port}: ".encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_an_irq_is_a_vector_and_a_rate() -> None:
    assert build_irq("40@2.5") == Irq(0x40, is_raw=False, hz=2.5)
    assert build_irq("raw:80") == Irq(0x80, is_raw=True, hz=None)
    assert build_irq("0") == Irq(0, is_raw=False, hz=None)


#: What costs more than a short image may: modules that take milliseconds, and what `run` needs only when it is asked.
HEAVY = {
    *("asyncio", "bz2", "dataclasses", "decimal", "inspect", "json", "logging", "lzma", "pathlib", "random", "shutil"),
    *("socket", "ssl", "subprocess", "tempfile", "termios", "tomllib", "unittest", "urllib", "uuid", "zipfile", "zlib"),
    *("PIL", "iced_x86", "rich", "matplotlib", "hdrh"),
}
NOT_ASKED_FOR = {
    *("kvmbind.bench", "kvmbind.doctor", "kvmbind.guests", "kvmbind.pytest_plugin", "kvmbind.zx"),
    *("kvmbind.cli.bench", "kvmbind.cli.doctor", "kvmbind.cli.irq_socket", "kvmbind.cli.live"),
    *("kvmbind.cli.serial_line", "kvmbind.machine.diagnosis", "kvmbind.machine.emulation", "kvmbind.machine.gdb"),
    *("kvmbind.machine.key_input", "kvmbind.machine.key_script", "kvmbind.machine.keys", "kvmbind.machine.typist"),
    *("kvmbind.machine.devices.firmware_configuration", "kvmbind.machine.devices.testdev"),
    *(
        "kvmbind.machine.images.multiboot",
        "kvmbind.machine.watches",
        "kvmbind.machine.bios.clock",
        "kvmbind.machine.bios.disk",
        "kvmbind.machine.bios.dos",
    ),
    *("kvmbind.machine.bios.keyboard", "kvmbind.machine.screen.image_files", "kvmbind.machine.screen.render"),
    *("kvmbind.machine.screen.terminal", "kvmbind.objects.interrupt", "kvmbind.objects.port"),
}


def loaded(*arguments: str) -> set[str]:
    """The modules that a run has loaded, and the packages that they are of."""
    script = (
        "import sys; before = set(sys.modules); from kvmbind.cli import main; main(sys.argv[1:]);"
        "print(*set(sys.modules) - before, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "--headless", *arguments, str(IMAGES / "hello.bin")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    names = [name.split(".") for name in done.stderr.split()]
    return {".".join(name[:parts]) for name in names for parts in range(1, len(name) + 1)}


def test_it_loads_nothing_heavy_and_nothing_that_is_not_asked_for() -> None:
    modules = loaded()
    assert "kvmbind.machine.bios.video" in modules  # which has the service that it calls
    assert (HEAVY | NOT_ASKED_FOR) & modules == set()


def test_it_loads_what_is_asked_for() -> None:
    asked = {"kvmbind.machine.typist", "kvmbind.machine.watches", "kvmbind.objects.interrupt"}
    assert asked <= loaded("--keys", "a", "--timeout", "60", "--irq", "40@1")
