"""What it costs to run a short image: in this process, by `kvmbind run`, and by QEMU where it is.

A boot sector prints a line by the BIOS; a ROM prints it by the serial port. Both end by the port of QEMU's
isa-debug-exit.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

import kvmbind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXT = b"Hello from real mode\r\n"
SLOW_TURNS = 3  # QEMU's SeaBIOS takes seconds
_LONGEST_S = 60
_QEMU = "qemu-system-x86_64"
_ENDED = 1  # (0 << 1) | 1, of 0 written to the debug exit port
_ROM_BYTES = 0x10000
_END = bytes.fromhex("ba0105 30c0 ee f4 ebfd")  # debug exit with 0; HLT for ever

# Loops over the text: INT 10h/0Eh with DS = 0 and SI = 7C1Fh; OUT to 3F8h with CS:SI = F000:001B.
_BY_BIOS = bytes.fromhex("31c0 8ed8 fc be1f7c ac 84c0 7408 b40e 31db cd10 ebf3")
_BY_SERIAL = bytes.fromhex("fa fc baf803 be1b00 2eac 84c0 7403 ee ebf7")


def boot_sector() -> bytes:
    """Returns 512 bytes that print `TEXT` and end."""
    code = (_BY_BIOS + _END).ljust(0x1F, b"\x90") + TEXT + b"\0"
    return code.ljust(510, b"\0") + b"\x55\xaa"


def rom() -> bytes:
    """Returns 64 KiB that lie below 1 MiB and print `TEXT` and end."""
    code = (_BY_SERIAL + _END).ljust(0x1B, b"\x90") + TEXT + b"\0"
    return code.ljust(_ROM_BYTES - 16, b"\0") + bytes.fromhex("ea000000f0").ljust(16, b"\0")  # JMP F000:0000


class Contestant(NamedTuple):
    """One way to run an image. `run` takes one turn; it is for those that take seconds if `is_slow`."""

    name: str
    run: Callable[[], object]
    is_slow: bool = False


class Times(NamedTuple):
    """The times of one contestant, in ms."""

    name: str
    p50_ms: float
    min_ms: float


def in_process(image: bytes) -> None:
    """Makes a machine, runs it to its end, closes it."""
    ending = kvmbind.Machine(image).run(timeout_s=60)
    if ending.exit_status != _ENDED:
        raise OSError(f"the image has ended with {ending.exit_status}: {ending.reason} {ending.detail}")


def command(*words: str, status: int = 0, says: bytes = b"") -> Callable[[], None]:
    """Returns what runs a command line to its end, and looks at its exit status and its stdout."""

    def run() -> None:
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST_S, check=False)
        except subprocess.TimeoutExpired:
            raise OSError(f"{words[0]} has not ended for {_LONGEST_S} s") from None
        if done.returncode != status or says not in done.stdout:
            said = done.stderr.decode(errors="replace").strip()
            raise OSError(f"{words[0]} has ended with {done.returncode}: {said}")

    return run


def _kvmbind() -> tuple[str, ...]:
    """The command as it is installed beside this Python, or else by its module."""
    script = os.path.join(os.path.dirname(sys.executable), "kvmbind")
    return (script,) if os.access(script, os.X_OK) else (sys.executable, "-m", "kvmbind")


def contestants(folder: str) -> Iterator[Contestant]:
    """Makes the images in a folder, and what runs them; QEMU only if it is installed."""
    sector, rom_file = (os.path.join(folder, name) for name in ("hello.img", "hello.rom"))
    for path, data in ((sector, boot_sector()), (rom_file, rom())):
        with open(path, "wb") as file:
            file.write(data)
    run = (*_kvmbind(), "run", "--headless")
    text = TEXT.strip()
    yield Contestant("python -c pass", command(sys.executable, "-c", "pass"))
    yield Contestant("Machine(image).run()", lambda: in_process(boot_sector()))
    yield Contestant("kvmbind run, boot sector", command(*run, sector, status=_ENDED, says=text))
    yield Contestant("kvmbind run, ROM", command(*run, "--format", "rom", rom_file, status=_ENDED, says=text))
    qemu = shutil.which(_QEMU)
    if qemu is None:
        return
    options = (
        *("-accel", "kvm", "-m", "32", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-device", "isa-debug-exit,iobase=0x501,iosize=2"),
    )
    microvm = (qemu, "-M", "microvm", *options, "-bios", rom_file)
    yield Contestant("QEMU microvm, ROM", command(*microvm, status=_ENDED, says=text))
    pc = (qemu, "-M", "pc", *options, "-drive", f"file={sector},format=raw,if=ide")
    yield Contestant("QEMU pc with SeaBIOS, boot sector", command(*pc, status=_ENDED), is_slow=True)


def measure(turns: int) -> list[Times]:
    """Lets all contestants take turns, so that whatever drifts hits all alike; slow ones take a few.

    Raises:
        OSError: One of them failed; or there is no KVM.
    """
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        all_of_them = list(contestants(folder))
        for turn in range(-1, turns):  # the first is to warm up
            for one in all_of_them:
                if one.is_slow and not 0 <= turn < SLOW_TURNS:
                    continue
                start_ns = time.perf_counter_ns()
                one.run()
                if turn >= 0:
                    times.setdefault(one.name, []).append((time.perf_counter_ns() - start_ns) / 1e6)
    kvmbind.settle()
    return [Times(name, statistics.median(ms), min(ms)) for name, ms in times.items()]


def lines(times: list[Times]) -> Iterator[str]:
    """Says the times as a table: each in ms and as a ratio to a bare Python's start."""
    bare = times[0]
    yield f"{'':<36}{'p50 ms':>10}{'min ms':>10}{'p50 / bare Python':>20}"
    for one in times:
        yield f"{one.name:<36}{one.p50_ms:>10.1f}{one.min_ms:>10.1f}{one.p50_ms / bare.p50_ms:>20.2f}"
    if not any(one.name.startswith("QEMU") for one in times):
        yield f"not measured: {_QEMU} is not installed"
