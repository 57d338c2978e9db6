"""Fires interrupts at an image that kvmbind run --irq 40 --irq-socket PATH runs.

It needs nothing of kvmbind. Whoever connects to the socket is sent a line that
names the interrupts, and with it an eventfd for each; from then on each write
to one is an interrupt, and the machine's process has no part in it.
"""

import argparse
import os
import select
import socket
import sys

FDS_MAX = 253


def main() -> int:
    """Connects and fires."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket", metavar="PATH", help="what --irq-socket names")
    parser.add_argument("-n", type=int, default=10, help="how many interrupts (default: %(default)s)")
    parser.add_argument("--hz", type=float, default=10, help="how many a second (default: %(default)s)")
    parser.add_argument("--irq", metavar="NAME", help="which one, as --irq of kvmbind run names it; else the first")
    args = parser.parse_args()
    with socket.socket(socket.AF_UNIX) as machine:
        machine.connect(args.socket)
        names, fds, _, _ = socket.recv_fds(machine, 4096, FDS_MAX)
        eventfds = dict(zip(names.decode().split(), fds, strict=True))
        name = args.irq or next(iter(eventfds))
        if name not in eventfds:
            sys.exit(f"there is no interrupt {name} but {', '.join(eventfds)}")
        for fired in range(args.n):
            has_ended, _, _ = select.select([machine], [], [], 1 / args.hz)
            if has_ended:
                sys.exit(f"the machine has ended after {fired} interrupts")
            os.eventfd_write(eventfds[name], 1)
    print(f"fired {name} {args.n} times")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(error.strerror)
