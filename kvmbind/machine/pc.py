"""A PC: guest, memory, devices and BIOS, and the loop that runs its boot processor."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Literal, Protocol

from kvmbind.abi.errors import BadHandleError
from kvmbind.machine.alarms import Alarms
from kvmbind.machine.application_processors import ApplicationProcessors
from kvmbind.machine.bios import rom
from kvmbind.machine.bios.bios import Bios
from kvmbind.machine.bios.data_area import TICKS_A_DAY, DataArea
from kvmbind.machine.devices import board, cmos, keyboard, serial, vga
from kvmbind.machine.devices.bus import Bus
from kvmbind.machine.devices.keyboard import KeyboardController
from kvmbind.machine.devices.memory_bus import MemoryBus
from kvmbind.machine.devices.serial import SerialPort
from kvmbind.machine.disk import Disk
from kvmbind.machine.ending import STATUSES, Reason
from kvmbind.machine.history import History
from kvmbind.machine.memory import PhysicalMemory
from kvmbind.machine.processor import Processor
from kvmbind.machine.screen.cp437 import CHARACTERS
from kvmbind.machine.video import Video
from kvmbind.objects.guest import Guest
from kvmbind.objects.vcpu import Vcpu
from kvmbind.objects.vmo import Vmo

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.kvm.exits import Exit
    from kvmbind.machine.images.image import Image

    ApicMode = Literal["x2apic", "xapic"]

APERTURE, APERTURE_BYTES = 0xA0000, 0x10000
_MEGABYTE = 1 << 20
_ALL_PORTS = 0xFFFF  # but the last one, which no trap may cover
_IO_KEY = 0
_CLOCK_LINE = 8
_LONGEST_WAIT_NS = 3600 * 1_000_000_000
_CONTROLS = {0x07: "", 0x08: "\b", 0x0A: "\n", 0x0D: ""}


class Supervisor(Protocol):
    """Who says when the boot processor runs: a debugger. All of it belongs to that one's thread."""

    def started(self, vcpu: Vcpu) -> None:
        """Tells which VCPU, before its first instruction."""

    def may_enter(self) -> bool:
        """Asks whether the VCPU may run now; it is asked again when something was posted, or an alarm was due."""

    def takes(self, exit: Exit) -> bool:
        """Tells that the VCPU stopped with an exit that is no access; returns whether that was for the supervisor."""

    def ended(self, status: int) -> None:
        """Tells that the run is over."""


class Pc:
    """The machine around its processors. It is what services and devices know as their Host.

    Threads: making it, `post`, `wake` and reading may be done by any thread. `run` makes the calling thread that of the
    boot processor, and one for each other processor; whichever has `lock` may use everything here. Closing it while
    another thread runs it is the caller's error.

    Attributes:
        lock: Who holds it serves an exit, or does what was posted or is due. No guest runs under it.
        processors: How many it has.
        guest: The guest.
        memory: Its memory.
        video: Its display.
        keyboard: Its keyboard.
        serial: Its serial port.
        bus: Its ports.
        memory_bus: Its devices at addresses.
        bios: Its BIOS.
        history: What it did.
        console: What programs have written as on a teletype.
        reason: Why it ended, or None.
        status: The exit status of that.
        detail: One sentence more about it.
        registers: Those of that moment.
        registers_are_of: See Ending.
        steps: How often the boot processor was entered.
        supervisor: Who says when the boot processor runs, or None.
        vcpu: The boot processor's VCPU while it runs, else None.
        kvm_counts: What KVM has counted for its processors by its end, by name; None, unless it is set before, asks for
            none of that.
    """

    def __init__(self, image: Image, memory_bytes: int, disks: dict[int, Disk], processors: int = 1) -> None:
        """Makes the guest and puts the image and the BIOS into its memory.

        Args:
            image: What to run.
            memory_bytes: A multiple of 4096, more than 1 MiB.
            disks: The drives by their numbers.
            processors: How many it has, 1 to 255.
        """
        self.lock = threading.Lock()
        self._alarms = Alarms()
        self._posted: deque[Callable[[], object]] = deque()
        self._woken = threading.Event()
        self.processors = processors
        self._apic: ApicMode = "xapic" if processors > 1 or image.is_multiboot else "x2apic"  # as firmware leaves it
        self.vcpu: Vcpu | None = None
        self.kvm_counts: dict[str, int] | None = None
        self._thread_id = 0
        self._ended_on: Processor | None = None
        self.on_wants_key: Callable[[], object] | None = None
        self.on_character: Callable[[str], object] | None = None
        self.history = History()
        self.console: list[str] = []
        self.reason: Reason | None = None
        self.status = 0
        self.detail = ""
        self.registers: dict[str, int] = {}
        self.registers_are_of: Literal["end", "last exit"] = "end"
        self.steps = 0
        self.supervisor: Supervisor | None = None
        self.guest = Guest.create(irqchip="pc", pit=True)
        try:
            self._vmo = Vmo.create(memory_bytes)
            self._map_memory(memory_bytes)
            self.guest.set_trap_io(0, _ALL_PORTS, _IO_KEY)
            self.memory = PhysicalMemory(self._vmo.view())
            self._make_devices(memory_bytes, disks)
            if image.is_multiboot:
                self._make_test_devices(memory_bytes)
            self._entry = self._load(image)
        except BaseException:
            self.close()
            raise

    def _map_memory(self, size: int) -> None:
        for start, end in ((0, rom.BASE), (_MEGABYTE, size)):
            self.guest.vmar.map(self._vmo, start, vmo_offset=start, length=end - start)
        self.guest.vmar.map(self._vmo, rom.BASE, vmo_offset=rom.BASE, length=rom.SIZE, write=False)

    def _set_aperture(self, is_trapped: bool) -> None:
        if is_trapped:
            self.guest.vmar.unmap(APERTURE, APERTURE_BYTES)
        else:
            self.guest.vmar.map(self._vmo, APERTURE, vmo_offset=APERTURE, length=APERTURE_BYTES)

    def _make_devices(self, memory_bytes: int, disks: dict[int, Disk]) -> None:
        data = DataArea(self.memory)
        self.video = Video(self.memory, data, self._set_aperture, self.print_character)
        self.keyboard = KeyboardController(self)
        self.serial = SerialPort(self)
        self.bios = Bios(self.memory, self.video, self.keyboard, self.serial, disks, self)
        self.memory_bus = MemoryBus()
        self.memory_bus.attach(self.video.planes, APERTURE, APERTURE_BYTES)
        self.bus = bus = Bus()
        bus.attach(self.keyboard, (keyboard.DATA, keyboard.COMMAND))
        bus.attach(self.serial, range(serial.FIRST_PORT, serial.FIRST_PORT + serial.PORTS))
        bus.attach(cmos.Cmos(self, memory_bytes), cmos.PORTS)
        bus.attach(vga.Vga(self.video, data), vga.PORTS)
        for plain in (board.SpeakerPort, board.Latch):
            bus.attach(plain(), plain.PORTS)
        for ending in (board.SystemControlPort, board.DebugExit, board.ShutdownPort, board.ResetPort):
            bus.attach(ending(self), ending.PORTS)
        bus.attach(board.DebugConsole(self), board.DebugConsole.PORTS)

    def _make_test_devices(self, memory_bytes: int) -> None:
        """Those that kvm-unit-tests, for one, look for; other programs are not to find them by chance."""
        from kvmbind.machine.devices import firmware_configuration, testdev

        configuration = firmware_configuration.FirmwareConfiguration(memory_bytes, self.processors)
        self.bus.attach(configuration, firmware_configuration.PORTS)
        self.bus.attach(testdev.PcTestdev(self), testdev.PORTS)
        self.memory_bus.attach(testdev.PcTestdevMemory(), testdev.MEMORY_ADDR, testdev.MEMORY_BYTES)

    def _load(self, image: Image) -> int:
        entry = self.bios.power_on(image.start)
        for piece in image.pieces:
            self.memory.burn(piece.data, piece.addr)
        return entry if image.reset_addr is None else image.reset_addr

    @property
    def memory_fd(self) -> int:
        """The memfd of its memory, which begins at address 0."""
        return self._vmo.fileno()

    # Being a Host

    def end(self, reason: Reason, status: int | None = None, detail: str = "") -> None:
        """See Host; the first end counts."""
        if self.reason is None:
            self.reason, self.detail = reason, detail
            self.status = STATUSES[reason] if status is None else status

    def now_ns(self) -> int:
        """See Host."""
        return time.monotonic_ns()

    def call_at(self, when_ns: int, action: Callable[[], object]) -> None:
        """See Host."""
        self._alarms.set(when_ns, action)
        if threading.get_ident() != self._thread_id:
            self.wake()

    def wake_at(self, when_ns: int) -> None:
        """See Host: the clock's interrupt wakes it."""
        self.call_at(when_ns, lambda: self.raise_line(_CLOCK_LINE))

    def raise_line(self, line: int) -> None:
        """See Host."""
        self.set_line(line, True)
        self.set_line(line, False)

    def set_line(self, line: int, is_high: bool) -> None:
        """See Host."""
        self.guest.set_irq_line(line, is_high)

    def ticks_since_midnight(self) -> int:
        """See Host."""
        _, _, _, hour, minute, second, _ = self.local_time()
        return (hour * 3600 + minute * 60 + second) * TICKS_A_DAY // 86400

    def local_time(self) -> tuple[int, int, int, int, int, int, int]:
        """See Host."""
        now = time.localtime()
        return now.tm_year, now.tm_mon, now.tm_mday, now.tm_hour, now.tm_min, now.tm_sec, (now.tm_wday + 1) % 7

    def wants_key(self) -> None:
        """See Host."""
        if self.on_wants_key is not None:
            self.on_wants_key()

    def print_character(self, character: int) -> None:
        """See Host."""
        text = _CONTROLS.get(character)
        if text is None:
            text = CHARACTERS[character]
        if text:
            self.console.append(text)
            if self.on_character is not None:
                self.on_character(text)

    # Running

    def post(self, action: Callable[[], object]) -> None:
        """Calls `action` on the boot processor's thread soon. Any thread may do this."""
        self._posted.append(action)
        self.wake()

    def wake(self) -> None:
        """Makes the boot processor's thread look at what was posted, what is due and whether it is over."""
        self._woken.set()
        vcpu = self.vcpu
        if vcpu is not None:
            with contextlib.suppress(BadHandleError):  # it has ended in this moment
                vcpu.kick()

    def run(self, on_start: Callable[[Vcpu], object]) -> None:
        """Runs the machine until it ends, on a boot processor that the calling thread owns.

        Args:
            on_start: Called with its VCPU before its first instruction.
        """
        with Vcpu.create(self.guest, self._entry, apic=self._apic) as vcpu:
            on_start(vcpu)
            self.vcpu = vcpu
            self._thread_id = threading.get_ident()
            boot = Processor(self, vcpu)
            if self.supervisor is not None:
                self.supervisor.started(vcpu)
            try:
                with ApplicationProcessors(self, self.processors - 1) as others:
                    while self.reason is None and not others.has_failed:
                        self._step(boot, others)
                with self.lock:
                    self.ended_on(boot)
                    boot.add_counts()
                if self.supervisor is not None:
                    self.supervisor.ended(self.status)
            finally:
                self.vcpu = None

    def ended_on(self, processor: Processor) -> None:
        """Keeps the registers of the processor that has ended the run; the first one counts."""
        if self._ended_on is not None:
            return
        self._ended_on = processor
        self.registers = processor.registers()
        if self.reason is Reason.SHUTDOWN:  # on AMD the processor has been reset by now
            if last := processor.last_registers():
                self.registers, self.registers_are_of = last, "last exit"
            else:
                self.detail += "; the registers may be those of a reset processor"

    def _step(self, boot: Processor, others: ApplicationProcessors) -> None:
        self.steps += 1
        with self.lock:
            while self._posted:
                self._posted.popleft()()
            now_ns = time.monotonic_ns()
            self._alarms.ring(now_ns)
            if self.reason is not None:
                return
            may_enter = self.supervisor is None or self.supervisor.may_enter()
            until_ns = self._alarms.next_ns(now_ns + boot.look_ns)
        if not may_enter:
            self._wait(now_ns)
        elif boot.step(until_ns - now_ns):
            self._look(boot, others)

    def _wait(self, now_ns: int) -> None:
        """Sleeps until something is posted, or an alarm is due."""
        self._woken.clear()
        until_ns = self._alarms.next_ns(now_ns + _LONGEST_WAIT_NS)
        if not self._posted:
            self._woken.wait((until_ns - now_ns) / 1e9)

    def _look(self, processor: Processor, others: ApplicationProcessors) -> None:
        """The guest has run, or slept, without an exit: does it sleep for ever?"""
        if processor.is_done() and others.are_done_beside(processor):
            with self.lock:
                self.end(Reason.HALTED)

    def close(self) -> None:
        """Closes the guest. Its memory can still be looked at."""
        self.guest.close()
        vmo = getattr(self, "_vmo", None)
        if vmo is not None:
            vmo.close()
