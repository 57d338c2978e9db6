"""`kvmbind run`: runs a real-mode image as on a PC."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.cli.parser import RawFormatter
from kvmbind.machine.images.image import FORMATS

if TYPE_CHECKING:
    from kvmbind.cli import Commands

_ENDINGS = """\
exit status: that of the program (debug exit by port 501h or F4h: (value << 1) | 1; INT 21h/4Ch), else by how it ended:
  0    halted by CLI; HLT, INT 19h (reboot), INT 20h, --until, --until-still
  1    it could not be started, for a reason in one line on stderr
  80   INT 18h: it found nothing to boot
  81   a fault that it does not handle and would meet for ever
  82   a triple fault
  83   KVM cannot execute its next instruction
  124  --timeout
  130  Ctrl-C
"""


def register(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "run",
        help="run a real-mode image: a boot sector, a .COM program, a floppy, a disk, a ROM; or a Multiboot image",
        description="Runs a real-mode image as on a PC.",
        epilog=_ENDINGS,
        formatter_class=RawFormatter,
    )
    parser.set_defaults(run=_run)
    add = parser.add_argument
    add("image", metavar="IMAGE", help="path of the image; - is stdin")
    add("--headless", action="store_true", help="no live screen: print what the program writes, and its last screen")
    add("--timeout", type=_seconds, metavar="S", help="end it after S seconds")
    add("--until", metavar="TEXT", help="end it when TEXT is on the screen, or has come by console or serial port")
    add("--until-still", type=_seconds, metavar="S", help="end it when the screen has not changed for S seconds")
    add("--format", choices=FORMATS, help="what the image is, if that is not to be found out")
    add("--entry", type=_address, metavar="[SEG:]OFFSET", help="first instruction, in hexadecimal")
    add("--load-at", type=_hex, metavar="ADDR", help="where a flat image goes, in hexadecimal (7c00)")
    add("--memory", type=_size, metavar="SIZE", help="of the machine, such as 16M (32M)")
    add("--smp", type=int, default=1, metavar="N", help="processors (1); all but the first wait for INIT and SIPI")
    add(
        "--arg",
        action="append",
        default=[],
        metavar="ARG",
        help="argument of a .COM program or a Multiboot image; several times",
    )
    add("--keys", default="", metavar="KEYS", help='keys to press: "abc{enter}{sleep 1}{ctrl+c}"')
    add("--serial", default="", metavar="WHERE", help="serial port: stdio, pty, or a file for what it sends")
    add("--write", action="store_true", help="what it writes to its disk goes to IMAGE; otherwise it is lost")
    add("--screenshot", metavar="FILE.png", help="save the last screen as an image")
    add("--record", metavar="FILE.gif", help="save what the screen shows as a moving image")
    add("--irq", action="append", default=[], type=build_irq, metavar="VECTOR[@HZ]", help=_IRQ_HELP)
    add("--irq-socket", metavar="PATH", help=_IRQ_SOCKET_HELP)
    add("--gdb", type=_host_port, metavar="[HOST:]PORT", help=_GDB_HELP)
    add("--trace", action="store_true", help="print exits and BIOS calls as they happen, on stderr")
    add("--stats", action="store_true", help="print what ran, on stderr")
    add("--json", action="store_true", help="print how it ended as one JSON document, and nothing else on stdout")


_IRQ_HELP = (
    "fire an interrupt at the program HZ times a second (1); VECTOR in hexadecimal, 00 to ff; raw:VECTOR for a program "
    "in protected mode; several times"
)

_IRQ_SOCKET_HELP = (
    "give the eventfd of each --irq to every program that connects to this Unix socket; an --irq without @HZ is fired "
    "by nobody else"
)

_GDB_HELP = (
    "wait for gdb's target remote before the first instruction, at 127.0.0.1 unless HOST says otherwise; PORT 0 is one "
    "that is free"
)


def _run(args: argparse.Namespace) -> int:
    from kvmbind.cli.failures import unwound_by_signals
    from kvmbind.cli.session import Session

    with unwound_by_signals(), Session(args, sys.stdout, sys.stderr) as session:
        return session.run()


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return seconds


def _hex(text: str) -> int:
    digits = text.lower().removesuffix("h").removeprefix("0x")
    try:
        return int(digits, 16)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no hexadecimal number") from None


def _address(text: str) -> int | tuple[int, int]:
    segment, colon, offset = text.rpartition(":")
    return (_hex(segment), _hex(offset)) if colon else _hex(offset)


def _size(text: str) -> int:
    units = {"K": 10, "M": 20, "G": 30}
    digits = text.upper().removesuffix("B").removesuffix("I")
    shift = units.get(digits[-1:], 0)
    try:
        return int(digits[:-1] if shift else digits) << shift
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 640K or 16M") from None


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, or host:port")
    return host.strip("[]") or "127.0.0.1", int(port)


class Irq(NamedTuple):
    """An interrupt that is to be fired."""

    vector: int
    is_raw: bool  # bound to the vector itself
    hz: float | None  # None: nobody has said

    @property
    def name(self) -> str:
        """As it is named on the command line: "40", "raw:80"."""
        return f"{'raw:' if self.is_raw else ''}{self.vector:02x}"


def build_irq(text: str) -> Irq:
    """Returns what VECTOR[@HZ] says."""
    name, at, rate = text.partition("@")
    raw, vector = name.startswith("raw:"), _hex(name.removeprefix("raw:"))
    hz = float(rate) if at else None
    if not (0x10 if raw else 0) <= vector <= 0xFF or not (hz is None or 0 < hz <= 1e6):
        raise argparse.ArgumentTypeError(f"{text!r} is no vector up to ff, and @ a rate up to 1000000 Hz")
    return Irq(vector, raw, hz)
