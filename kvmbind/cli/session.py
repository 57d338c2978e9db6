"""One run of `kvmbind run`: the machine, what goes in and out of it, and how it is told how that ended."""

from __future__ import annotations

import contextlib
import errno
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from kvmbind.abi.errors import NotSupportedError
from kvmbind.cli.failures import CommandError, require_extra
from kvmbind.machine.ending import TROUBLE, Ending, Reason
from kvmbind.machine.images.image import ImageError
from kvmbind.machine.machine import MEMORY, Machine

if TYPE_CHECKING:
    import argparse
    from types import TracebackType
    from typing import Self

    from kvmbind.cli.run import Irq
    from kvmbind.machine.pc import Pc
    from kvmbind.objects.interrupt import Interrupt

_HZ = 1.0


class Session:
    """Runs one image as the arguments of `kvmbind run` say.

    Threads: it belongs to one thread. Threads that read input or fire interrupts are daemons and end with the machine.
    """

    def __init__(self, args: argparse.Namespace, out: TextIO, errors: TextIO) -> None:
        """Makes the machine.

        Raises:
            CommandError: The image or an argument is none.
            OSError, ZxError: As of Machine.
        """
        self._args = args
        self._out = out
        self._errors = errors
        self._parts = contextlib.ExitStack()
        self._done = threading.Event()
        self._is_live = not (args.headless or args.json or args.serial == "stdio") and _is_on_terminal()
        if args.screenshot or args.record:
            require_extra("images", "PIL")
        try:
            self.machine = self._parts.enter_context(self._make())
            self._connect()
        except BaseException:
            self._parts.close()
            raise

    def _make(self) -> Machine:
        args = self._args
        image = sys.stdin.buffer.read() if args.image == "-" else args.image
        try:
            return Machine(
                image,
                format=args.format,
                memory=MEMORY if args.memory is None else args.memory,
                entry=args.entry,
                load_at=args.load_at,
                keys=args.keys,
                args=" ".join(args.arg),
                smp=args.smp,
                write=args.write,
            )
        except ImageError as error:
            raise CommandError(f"{args.image}: {error}") from error
        except ValueError as error:
            from kvmbind.machine.key_script import KeyScriptError

            if not isinstance(error, KeyScriptError):
                raise
            raise CommandError(str(error)) from error

    def _connect(self) -> None:
        pc = self.machine.pc
        if not (self._args.json or self._is_live):
            pc.on_character = self._print
        if self._args.record:
            self._record(self._args.record)
        self._connect_serial(pc, self._args.serial)
        if self._args.stats or self._args.json:
            pc.kvm_counts = {}
        if self._args.trace:
            self._trace(pc)
        self._connect_interrupts(self._args.irq, self._args.irq_socket)
        if self._args.gdb is not None:
            self._listen_for_gdb(*self._args.gdb)

    def _listen_for_gdb(self, host: str, port: int) -> None:
        try:
            found_host, found_port = self.machine.listen_for_gdb(host, port)
        except OSError as error:
            raise CommandError(f"--gdb {host}:{port}: {error}") from error
        except NotSupportedError as error:
            raise CommandError("--gdb sees and stops one processor: leave --smp out") from error
        shown = f"[{found_host}]" if ":" in found_host else found_host
        print(f"waiting for gdb: target remote {shown}:{found_port}", file=self._errors, flush=True)

    def _connect_serial(self, pc: Pc, where: str) -> None:
        if not where:
            if not (self._args.json or self._is_live):
                pc.serial.on_send = self._print_byte
            return
        from kvmbind.cli import serial_line

        if where == "stdio":
            pc.serial.on_send = self._print_byte
            serial_line.read_from(sys.stdin.fileno(), self.machine.send)
        elif where == "pty":
            terminal = serial_line.PseudoTerminal(self.machine.send)
            self._parts.callback(terminal.close)
            print(f"serial port: {terminal.name}", file=self._errors, flush=True)
            pc.serial.on_send = terminal.send
        else:
            log = serial_line.LogFile(where)
            self._parts.callback(log.close)
            pc.serial.on_send = log.send

    def _record(self, path: str) -> None:
        from kvmbind.machine.screen.recorder import Recorder

        self._parts.callback(Recorder(path, self.machine.frame).close)

    def _trace(self, pc: Pc) -> None:
        if not (self._is_live and self._errors.isatty()):
            pc.history.on_event = lambda event: print(event, file=self._errors)
            return
        from kvmbind.cli.held_lines import HeldLines

        held = HeldLines()
        pc.history.on_event = held.add
        self._parts.callback(held.release, self._errors)
        self._parts.callback(setattr, pc.history, "on_event", None)

    def _connect_interrupts(self, irqs: list[Irq], socket_path: str | None) -> None:
        interrupts = [(irq, self.machine.interrupt(irq.vector, raw=irq.is_raw)) for irq in irqs]
        if socket_path is not None:
            self._give_away(socket_path, [(irq.name, interrupt.fileno()) for irq, interrupt in interrupts])
        for irq, interrupt in interrupts:
            hz = (_HZ if socket_path is None else None) if irq.hz is None else irq.hz
            if hz is not None:
                self._fire(irq.name, interrupt, hz)

    def _give_away(self, path: str, fds: list[tuple[str, int]]) -> None:
        from kvmbind.cli.irq_socket import FDS_MAX, IrqSocket

        if not 1 <= len(fds) <= FDS_MAX:
            raise CommandError(f"--irq-socket gives away the eventfds of 1 to {FDS_MAX} --irq; there are {len(fds)}")
        try:
            given = IrqSocket(path, fds)
        except OSError as error:
            reason = "something is there already" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise CommandError(f"--irq-socket {path}: {reason}") from error
        self._parts.callback(given.close)
        print(f"eventfds of {' '.join(name for name, _ in fds)}: {path}", file=self._errors, flush=True)

    def _fire(self, name: str, interrupt: Interrupt, hz: float) -> None:
        def fire() -> None:
            while not self._done.wait(1 / hz):
                interrupt.trigger()

        thread = threading.Thread(target=fire, name=f"kvmbind-irq-{name}", daemon=True)
        thread.start()
        self._parts.callback(thread.join)

    def _print(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()  # a prompt has no newline, and who reads a pipe is to see it

    def _print_byte(self, byte: int) -> None:
        self._print(bytes((byte,)).decode("latin-1"))

    def run(self) -> int:
        """Runs it to its end; returns the exit status."""
        args = self._args
        if self._is_live:
            self.machine.start(args.timeout, until=args.until, until_still_s=args.until_still)
            from kvmbind.cli import live

            live.show(self.machine)
            ending = self.machine.wait()
        else:
            ending = self.machine.run(args.timeout, until=args.until, until_still_s=args.until_still)
        self._done.set()
        self._report(ending)
        return ending.exit_status

    def _report(self, ending: Ending) -> None:
        if self._args.screenshot:
            from kvmbind.machine.screen.image_files import save_png

            save_png(self.machine.frame(), self._args.screenshot)
        if self._args.json:
            print(_to_json(ending, self.machine.pc), file=self._out)
        elif self._is_live:
            print(ending.screen, file=self._out)
            if ending.serial:
                print(ending.serial.decode("latin-1"), file=self._out)
        else:
            self._show_screen(ending)
        if ending.reason in TROUBLE or ending.reason is Reason.TIMEOUT:
            from kvmbind.machine.diagnosis import describe

            print("\n".join(describe(ending, self.machine.pc)), file=self._errors)
        if self._args.stats:
            print("\n".join(_statistics(self.machine.pc)), file=self._errors)

    def _show_screen(self, ending: Ending) -> None:
        """The last screen, unless the console's stream has shown just that."""
        if _blanks_cut(ending.console) != ending.screen:
            if ending.console and not ending.console.endswith("\n"):
                print(file=self._out)
            print(ending.screen, file=self._out)
        elif ending.screen and not ending.console.endswith("\n"):
            print(file=self._out)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._parts.close()


def _is_on_terminal() -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):  # spares the import
        return False
    from kvmbind.cli import live

    return live.is_possible()


def _blanks_cut(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")


def _statistics(pc: Pc) -> list[str]:
    from kvmbind.machine.bios import services

    lines = [f"{count:8} {name}" for name, count in (pc.kvm_counts or {}).items()]
    lines += [f"{count:8} {kind.__name__}" for kind, count in pc.history.counts.items()]
    calls = sorted(pc.bios.calls.items(), key=lambda item: -item[1])
    lines += [f"{count:8} INT {services.name(*key)}" for key, count in calls]
    for what, table in (("reads of", pc.bus.reads), ("writes to", pc.bus.writes)):
        for port, count in sorted(table.items(), key=lambda item: -item[1]):
            nobody = " (nobody there)" if pc.bus.is_open(port) else ""
            lines.append(f"{count:8} {what} port {port:03x}{nobody}")
    return lines


def _to_json(ending: Ending, pc: Pc) -> str:
    import json

    document = {
        "reason": str(ending.reason),
        "exit_status": ending.exit_status,
        "detail": ending.detail,
        "screen": ending.screen,
        "console": ending.console,
        "serial": ending.serial.decode("latin-1"),
        "registers": dict(ending.registers),
        "registers_are_of": ending.registers_are_of,
        "kvm_counts": pc.kvm_counts,
        "last_exits": pc.history.lines(),
        "bios_calls": {f"{vector:02x}/{function:02x}": count for (vector, function), count in pc.bios.calls.items()},
        "port_reads": {f"{port:03x}": count for port, count in pc.bus.reads.items()},
        "port_writes": {f"{port:03x}": count for port, count in pc.bus.writes.items()},
    }
    return json.dumps(document, indent=2)
