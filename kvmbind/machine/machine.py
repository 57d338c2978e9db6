"""Machine: runs a real-mode image as on a PC."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from kvmbind.abi.errors import BadStateError, NoResourcesError, NotSupportedError, OutOfRangeError, TimedOutError
from kvmbind.kvm import signals
from kvmbind.kvm.memory import page_up
from kvmbind.machine.bios import rom
from kvmbind.machine.disk import Disk
from kvmbind.machine.ending import Ending, Reason
from kvmbind.machine.images.files import open_image
from kvmbind.machine.images.image import ImageError
from kvmbind.machine.images.load import Options, load
from kvmbind.machine.pc import Pc

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from kvmbind.machine.gdb.server import Server
    from kvmbind.machine.images.image import Format
    from kvmbind.machine.key_script import Sleep
    from kvmbind.machine.keys import Stroke
    from kvmbind.machine.screen.frames import Frame
    from kvmbind.machine.typist import Typist
    from kvmbind.objects.interrupt import Interrupt
    from kvmbind.objects.vcpu import Vcpu

MEMORY = 32 << 20
_MEMORY_MIN, _MEMORY_MAX = 2 << 20, 2 << 30
_SMP_MAX = 255
_POLL_S = 0.01


class Machine:
    """A PC that runs one image, once: `run` in this thread, or `start` on a thread of its own.

    Leaving a `with` block stops and closes it; it closes itself when it has ended.

    Threads: any thread may use it, while it runs too. One lock guards the interrupts and whether it has been started.
    """

    def __init__(
        self,
        image: bytes | bytearray | memoryview | str | os.PathLike[str],
        *,
        format: Format | None = None,
        memory: int = MEMORY,
        entry: int | tuple[int, int] | None = None,
        load_at: int | None = None,
        keys: str = "",
        args: str = "",
        smp: int = 1,
        write: bool = False,
    ) -> None:
        """Loads the image and makes the guest; nothing runs yet.

        Args:
            image: The image's bytes, or its path.
            format: "flat", "boot", "com", "floppy", "disk", "multiboot" or "rom"; None finds it from content and size.
            memory: Bytes, rounded up to pages: 2 MiB to 2 GiB.
            entry: (segment, offset) of the first instruction, or its linear address; None: the format's.
            load_at: Linear address of a flat image or boot sector; None: 7C00h.
            keys: Keys to press, one after the other, as the program takes them: see `kvmbind.machine.key_script`.
            args: Command line of a .COM program or a Multiboot image, behind the image's name.
            smp: Processors, 1 to 255. All but the first wait until it starts them, by INIT and SIPI.
            write: Whether what the program writes to its disk goes to the file; otherwise it stays in a copy.

        Raises:
            ImageError: The image, or an option, is none; it is a ValueError.
            KeyScriptError: `keys` is none; it is a ValueError.
            OSError: The file cannot be read, or there is no KVM.
            ZxError: What KVM answered.
        """
        if not _MEMORY_MIN <= memory <= _MEMORY_MAX:
            raise ImageError(f"memory of {memory:#x} bytes is not {_MEMORY_MIN:#x} to {_MEMORY_MAX:#x}")
        if not 1 <= smp <= _SMP_MAX:
            raise ImageError(f"smp of {smp} is not 1 to {_SMP_MAX}")
        if isinstance(image, bytes | bytearray | memoryview):
            name, data = "", memoryview(bytearray(image))
        else:
            name = os.fspath(image)
            data = open_image(name, write=write)
        memory = page_up(memory)
        loaded = load(
            data,
            Options(format=format, entry=entry, load_at=load_at, args=args, name=name, memory=memory, smp=smp),
        )
        self._disks = {loaded.drive: Disk(loaded.drive, data)} if loaded.disk is not None else {}
        self.format = loaded.format
        self._lock = threading.Lock()
        self._interrupts: dict[tuple[int, bool], Interrupt] = {}
        self._vcpu: Vcpu | None = None
        self._started = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._ending: Ending | None = None
        self._gdb_server: Server | None = None
        strokes = _parse(keys) if keys else []
        self._pc = Pc(loaded, memory, self._disks, smp)
        self._typist: Typist | None = None
        if strokes:
            self._type(strokes)

    # Running

    def run(
        self, timeout_s: float | None = None, *, until: str | None = None, until_still_s: float | None = None
    ) -> Ending:
        """Runs it in this thread until it ends, and closes it.

        Args:
            timeout_s: Seconds; then it ends with Reason.TIMEOUT. None is never.
            until: A text: it ends when that is on the screen, or has come by console or serial port.
            until_still_s: Seconds: it ends when the screen has not changed for so long.

        Returns:
            How it ended.

        Raises:
            BadStateError: It was started before, or closed.
            ZxError: KVM failed.
        """
        self._begin("Machine.run", timeout_s, until, until_still_s)
        return self._run()

    def start(
        self, timeout_s: float | None = None, *, until: str | None = None, until_still_s: float | None = None
    ) -> None:
        """Runs it on a daemon thread of its own; arguments are those of `run`.

        Raises:
            BadStateError: It was started before, or closed.
        """
        self._begin("Machine.start", timeout_s, until, until_still_s)
        self._thread = threading.Thread(target=self._run_thread, name="kvmbind-machine", daemon=True)
        self._thread.start()

    def _begin(self, call: str, timeout_s: float | None, until: str | None, until_still_s: float | None) -> None:
        with self._lock:
            if self._started:
                raise BadStateError(call, "a Machine runs once, and this one has been started or closed")
            self._started = True
        if timeout_s is None and until is None and until_still_s is None:
            return
        from kvmbind.machine import watches

        if timeout_s is not None:
            watches.watch_deadline(self._pc, timeout_s)
        if until is not None:
            watches.watch_text(self._pc, until)
        if until_still_s is not None:
            watches.watch_stillness(self._pc, until_still_s)

    def _run_thread(self) -> None:
        signals.block_all_but_kick()
        try:
            self._run()
        except BaseException as error:
            self._error = error

    def _run(self) -> Ending:
        try:
            self._pc.run(self._bind)
            self._ending = self._describe()
            return self._ending
        finally:
            self._close_parts()
            self._ended.set()

    def _bind(self, vcpu: Vcpu) -> None:
        with self._lock:
            self._vcpu = vcpu
            for interrupt in self._interrupts.values():
                interrupt.bind_vcpu(vcpu)

    def _describe(self) -> Ending:
        pc = self._pc
        assert pc.reason is not None
        return Ending(
            pc.reason,
            pc.status,
            self.screen,
            bytes(pc.serial.sent),
            pc.registers,
            pc.detail,
            self.console,
            pc.registers_are_of,
        )

    def wait(self, timeout_s: float | None = None) -> Ending:
        """Waits until it has ended by itself.

        Args:
            timeout_s: Seconds; None is for ever.

        Raises:
            TimedOutError: It still runs.
            BadStateError: It was never started.
            ZxError: KVM failed.
        """
        if not self._started:
            raise BadStateError("Machine.wait", "it was not started: call start() first")
        if not self._ended.wait(timeout_s):
            raise TimedOutError("Machine.wait", f"the machine still runs after {timeout_s} s")
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        if self._ending is None:
            raise BadStateError("Machine.wait", "it was closed before it ran")
        return self._ending

    def stop(self) -> Ending:
        """Ends it, if it has not ended, with Reason.STOPPED.

        Raises:
            BadStateError: It was never started.
        """
        self._pc.post(lambda: self._pc.end(Reason.STOPPED))
        return self.wait()

    def close(self) -> None:
        """Stops and closes it; again it does nothing. What it showed can still be read."""
        with self._lock:
            never_started, self._started = not self._started, True
        if never_started:
            self._close_parts()
            self._ended.set()
            return
        self._pc.post(lambda: self._pc.end(Reason.STOPPED))
        if self._thread is not threading.current_thread():
            self._ended.wait()

    def _close_parts(self) -> None:
        with self._lock, contextlib.ExitStack() as ends:
            self._vcpu = None
            for disk in self._disks.values():
                ends.callback(disk.close)
            ends.callback(self._pc.close)
            if self._gdb_server is not None:
                ends.callback(self._gdb_server.close)
            for interrupt in self._interrupts.values():
                ends.callback(interrupt.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Looking

    @property
    def screen(self) -> str:
        """The screen as text: rows, blanks at their ends and empty ones at the end left out."""
        return self._pc.video.frame().text()

    def frame(self) -> Frame:
        """Returns what the screen shows, with colours, or as pixels."""
        return self._pc.video.frame()

    @property
    def serial(self) -> bytes:
        """What the program has sent to the serial port so far."""
        return bytes(self._pc.serial.sent)

    @property
    def console(self) -> str:
        """What the program has written as on a teletype so far."""
        return "".join(self._pc.console)

    @property
    def pc(self) -> Pc:
        """The parts of the machine: memory, devices, history."""
        return self._pc

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._started and not self._ended.is_set()

    @property
    def ending(self) -> Ending | None:
        """How it ended, or None."""
        return self._ending

    def expect(self, text: str, timeout_s: float | None = None) -> None:
        """Waits until a text is on the screen, or has come by the console or the serial port.

        Args:
            text: What.
            timeout_s: Seconds; None is until the machine ends.

        Raises:
            TimedOutError: It did not come in time, or the machine ended without it; the message has the screen.
        """
        from kvmbind.machine import watches

        __tracebackhide__ = True  # pytest shows the line that expects it
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not watches.shows(self._pc, text):
            over = self._ended.is_set()
            if over and watches.shows(self._pc, text):
                return
            if over or (deadline is not None and time.monotonic() >= deadline):
                when = "before the machine ended" if over else f"in {timeout_s} s"
                raise TimedOutError("Machine.expect", f"{text!r} did not come {when}; the screen is:\n{self.screen}")
            self._ended.wait(_POLL_S)

    # Acting

    def press(self, keys: str | Iterable[Stroke | Sleep]) -> None:
        """Presses keys, behind those that still wait.

        Args:
            keys: A script such as "abc{enter}{sleep 1}", see `kvmbind.machine.key_script`; or what one is made of.

        Raises:
            KeyScriptError: The script is none; the message says where.
        """
        events = _parse(keys) if isinstance(keys, str) else list(keys)
        self._pc.post(lambda: self._type(events))

    def _type(self, events: Iterable[Stroke | Sleep]) -> None:
        """On the VCPU's thread, or before it runs."""
        from kvmbind.machine.typist import Typist

        if self._typist is None:
            self._typist = Typist(self._pc)
        self._typist.press(events)

    def send(self, data: bytes) -> None:
        """Sends bytes to the program by the serial port."""
        self._pc.post(lambda: self._pc.serial.receive(data))

    def interrupt(self, vector: int, *, raw: bool = False) -> Interrupt:
        """Returns an interrupt that reaches the program as INT `vector` when it is fired, by whoever fires it.

        In real mode any vector may be taken: the interrupt is bound to a vector of the BIOS's own, whose code ends it
        at the local APIC and goes on to the program's handler, which so may end in any way.

        Args:
            vector: 0 to 255.
            raw: Bind it to `vector` itself, 16 to 255: for programs in protected mode, which end it themselves. So it
                is always for a Multiboot image. With several processors it is the first one's.

        Returns:
            The same one for the same vector; the machine closes it.

        Raises:
            OutOfRangeError: No such vector.
            NoResourcesError: 16 vectors have one already.
            BadStateError: The machine has ended.
        """
        call = "Machine.interrupt"
        raw = raw or self.format == "multiboot"
        if not (16 if raw else 0) <= vector <= 255:
            raise OutOfRangeError(call, f"vector {vector} is not {16 if raw else 0} to 255")
        with self._lock:
            if self._ended.is_set():
                raise BadStateError(call, "the machine has ended")
            if (vector, raw) not in self._interrupts:
                self._interrupts[vector, raw] = self._make_interrupt(call, vector, raw)
            return self._interrupts[vector, raw]

    def listen_for_gdb(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Waits, once it has been started, for gdb's `target remote` before the first instruction.

        Args:
            host: Where to listen. Whoever can connect there owns the guest: loopback unless you mean it.
            port: 0 is one that is free.

        Returns:
            The address and port.

        Raises:
            BadStateError: It was started before, or closed; or it listens already.
            NotSupportedError: It has several processors, and gdb would see and stop only one.
            OSError: It cannot listen there.
            ZxError: KVM failed.
        """
        from kvmbind.machine.gdb.server import Server

        call = "Machine.listen_for_gdb"
        if self._pc.processors > 1:
            raise NotSupportedError(call, "gdb sees and stops one processor: make the machine with smp=1")
        with self._lock:
            if self._started or self._gdb_server is not None:
                raise BadStateError(call, "call it once, before the machine is started")
            self._gdb_server = Server(self._pc, host, port)
            return self._gdb_server.address

    def _make_interrupt(self, call: str, vector: int, raw: bool) -> Interrupt:
        from kvmbind.objects.interrupt import Interrupt

        bound_to = vector
        if not raw:
            slot = sum(not is_raw for _, is_raw in self._interrupts)
            if slot == rom.OUTSIDE_COUNT:
                raise NoResourcesError(call, f"{rom.OUTSIDE_COUNT} vectors have an interrupt already")
            self._pc.memory.burn(bytes((vector,)), rom.outside_vector(slot))
            bound_to = rom.OUTSIDE_FIRST + slot
        interrupt = Interrupt.create(bound_to)
        if self._vcpu is not None:
            try:
                interrupt.bind_vcpu(self._vcpu)
            except BaseException:
                interrupt.close()
                raise
        return interrupt

    def __repr__(self) -> str:
        """Says what it runs and how far it is."""
        state = "ended" if self._ended.is_set() else "running" if self._started else "new"
        return f"<kvmbind.Machine format={self.format} {state}>"


def _parse(keys: str) -> list[Stroke | Sleep]:
    from kvmbind.machine.key_script import parse

    return parse(keys)
