"""A BIOS without a guest, to call its services; and programs that are assembled for a test."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvmbind.machine.bios.bios import Bios
from kvmbind.machine.bios.call import ASK_AGAIN, RETURN, SLEEP, Call
from kvmbind.machine.bios.data_area import DataArea
from kvmbind.machine.devices.keyboard import KeyboardController
from kvmbind.machine.devices.serial import SerialPort
from kvmbind.machine.disk import Disk
from kvmbind.machine.images.image import Start
from kvmbind.machine.memory import PhysicalMemory
from kvmbind.machine.video import Video

if TYPE_CHECKING:
    from kvmbind import Machine
    from kvmbind.machine.ending import Reason

MIB = 1 << 20
STACK_SS, STACK_SP = 0x0000, 0x7000


class FakeHost:
    """A Host whose time stands still until a test moves it.

    Attributes:
        look_ns: How long it takes to look at the time.
    """

    def __init__(self) -> None:
        """Starts in 2026, at 13:14:15 of a Saturday."""
        self.time_ns = 5_000_000_000
        self.look_ns = 0
        self.alarms: list[tuple[int, Callable[[], object]]] = []
        self.lines: list[int] = []
        self.levels: list[tuple[int, bool]] = []
        self.ends: list[tuple[Reason, int | None, str]] = []
        self.printed = bytearray()
        self.key_requests = 0

    def end(self, reason: Reason, status: int | None = None, detail: str = "") -> None:
        """Keeps it."""
        self.ends.append((reason, status, detail))

    def now_ns(self) -> int:
        """The time that the test has set."""
        self.time_ns += self.look_ns
        return self.time_ns

    def call_at(self, when_ns: int, action: Callable[[], object]) -> None:
        """Keeps it for `pass_time`."""
        self.alarms.append((when_ns, action))

    def wake_at(self, when_ns: int) -> None:
        """Keeps it for `pass_time`."""
        self.call_at(when_ns, lambda: self.lines.append(8))

    def pass_time(self, ns: int) -> None:
        """Moves the time on and calls what is due."""
        self.time_ns += ns
        due = sorted((alarm for alarm in self.alarms if alarm[0] <= self.time_ns), key=lambda alarm: alarm[0])
        self.alarms = [alarm for alarm in self.alarms if alarm not in due]
        for _, action in due:
            action()

    def raise_line(self, line: int) -> None:
        """Keeps it."""
        self.lines.append(line)

    def set_line(self, line: int, is_high: bool) -> None:
        """Keeps it."""
        self.levels.append((line, is_high))

    def ticks_since_midnight(self) -> int:
        """Some."""
        return 1000

    def local_time(self) -> tuple[int, int, int, int, int, int, int]:
        """A Saturday."""
        return 2026, 11, 28, 13, 14, 15, 6

    def wants_key(self) -> None:
        """Counts it."""
        self.key_requests += 1

    def print_character(self, character: int) -> None:
        """Keeps it."""
        self.printed.append(character)


class Bench:
    """A BIOS over plain memory, with a floppy A: and a disk 80h.

    Attributes:
        apertures: What A0000h-AFFFFh was made, each time that changed.
        unfinished: The last call, if it sleeps or has more to do.
    """

    def __init__(self, floppy: bytes = bytes(1440 * 1024), disk: bytes = bytes(10 * MIB)) -> None:
        """Powers it on."""
        self.host = FakeHost()
        self.memory = PhysicalMemory(memoryview(bytearray(2 * MIB)))
        self.data = DataArea(self.memory)
        self.apertures: list[bool] = []
        self.video = Video(self.memory, self.data, self.apertures.append, self.host.print_character)
        self.keyboard = KeyboardController(self.host)
        self.serial = SerialPort(self.host)
        self.disks = {0: Disk(0, bytearray(floppy)), 0x80: Disk(0x80, bytearray(disk))}
        self.bios = Bios(self.memory, self.video, self.keyboard, self.serial, self.disks, self.host)
        self.unfinished: Call | None = None
        self.bios.power_on(Start(0, 0x7C00))

    def call(self, vector: int, **registers: int) -> Call:
        """Calls a service with these registers, the others zero.

        Returns:
            The registers afterwards, as the stub will load them.
        """
        call = self.frame(vector, **registers)
        call.store()
        return self.again()

    def again(self) -> Call:
        """Calls again, as the stub does after a sleep."""
        self.unfinished = self.bios.trap(STACK_SS << 16 | STACK_SP)
        return self.frame_there()

    @property
    def wants_more(self) -> bool:
        """Whether the last call has more to do and is to be asked again at once."""
        return self.unfinished is not None and self.unfinished.action == ASK_AGAIN

    def frame(self, vector: int, **registers: int) -> Call:
        """Returns registers for a call, all zero but for those named."""
        self.memory.write(bytes(64), (STACK_SS << 4) + STACK_SP)
        call = Call(self.memory, STACK_SS, STACK_SP)
        call.vector = vector
        for name, value in registers.items():
            setattr(call, name, value)
        return call

    def frame_there(self) -> Call:
        """Returns the registers that are on the stack."""
        call = Call(self.memory, STACK_SS, STACK_SP)
        call.action = SLEEP if call.is_resumed else RETURN
        return call

    def print(self, text: bytes) -> None:
        """Writes as on a teletype."""
        for character in text:
            self.call(0x10, ah=0x0E, al=character)

    @property
    def screen(self) -> str:
        """The screen as text."""
        return self.video.frame().text()


@pytest.fixture
def bench() -> Bench:
    """A BIOS without a guest."""
    return Bench()


@cache
def _assemble(source: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        unlinked, linked, flat = (f"{scratch}/program.{suffix}" for suffix in ("o", "elf", "bin"))
        text = f".code16\n.text\n{source}\n"
        for command in (
            ["gcc", "-m32", "-c", "-x", "assembler", "-o", unlinked, "-"],
            ["ld", "-m", "elf_i386", "--build-id=none", "-Ttext=0x7c00", "-e", "0", "-o", linked, unlinked],
            ["objcopy", "-O", "binary", "-j", ".text", linked, flat],
        ):
            subprocess.run(command, check=True, input=text.encode(), stdout=subprocess.DEVNULL)
        return Path(flat).read_bytes()


class Assemble:
    """Assembles programs that are loaded at 0000:7C00."""

    def __call__(self, source: str) -> bytes:
        """Returns the flat bytes of AT&T syntax."""
        return _assemble(source)

    def boot_sector(self, source: str) -> bytes:
        """Returns them as a sector with a signature."""
        return _assemble(source).ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture
def assemble() -> Assemble:
    """Assembles programs."""
    return Assemble()


@pytest.fixture
def machine() -> Iterator[Callable[..., Machine]]:
    """Makes machines, which are closed after the test."""
    import kvmbind

    made: list[Machine] = []

    def make(image: bytes, **options: object) -> Machine:
        made.append(kvmbind.Machine(image, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()
    kvmbind.settle()
