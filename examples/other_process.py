"""A process that has nothing of a guest but an eventfd fires interrupts into it.

It is sent the eventfd over a Unix socket, as a vhost-user back-end is. From
then on the kernel takes each write to the VCPU, which does not leave KVM_RUN;
the socket only tells the writer when the guest has answered, since edges merge.
"""

import argparse
import os
import socket
import subprocess
import sys

import kvmbind

ENTRY = 0x1000  # guest-physical: where guests.COUNTER is loaded and starts
COUNT = 0x8000  # how often vector 40h came
TIMEOUT_S = 10


def main() -> int:
    """Runs the guest, or is the other process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1_000, help="how many interrupts (default: %(default)s)")
    parser.add_argument("--other", action="store_true", help=argparse.SUPPRESS)  # its stdin is the socket
    args = parser.parse_args()
    return fire(args.n) if args.other else run_guest(args.n)


def run_guest(n: int) -> int:
    """Boots and binds, sends the eventfd away, and watches the guest count."""
    with (
        kvmbind.Guest.create(memory=1 << 20) as guest,
        kvmbind.Interrupt.create(vector=0x40, physical=True) as irq,  # physical: only its eventfd fires it
    ):
        guest.write(kvmbind.guests.COUNTER, ENTRY)
        with guest.start_vcpu(ENTRY) as vcpu:
            irq.bind_vcpu(vcpu)
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, __file__, "--other", "-n", str(n)]
                other = subprocess.Popen(command, stdin=theirs.fileno(), process_group=0)  # Ctrl-C is for us alone
            try:
                with ours:
                    print(f"process {os.getpid()} runs the guest, process {other.pid} has the eventfd\n", flush=True)
                    socket.send_fds(ours, [b"eventfd"], [irq.fileno()])
                    for count in range(1, n + 1):
                        guest.wait_u32(COUNT, count, TIMEOUT_S)
                        ours.sendall(b".")
            finally:
                other.wait()  # our end is closed, by which the other process ends
            counted, returns = guest.read_u32(COUNT), vcpu.returns

    print(f"  written by process {other.pid:<9}{n:10,}")
    print(f"  counted by the guest        {counted:10,}")
    print(f"  returns of KVM_RUN          {returns:10,}")
    if counted != n or other.returncode:
        sys.exit(f"the guest counted {counted:,} interrupts of {n:,}; the other process ended with {other.returncode}")
    if returns:
        sys.exit("KVM_RUN returned to user space")
    return 0


def fire(n: int) -> int:
    """Receives the eventfd and writes it n times, each time waits until the guest has answered."""
    with socket.socket(fileno=sys.stdin.fileno()) as parent:
        message, fds, _, _ = socket.recv_fds(parent, 16, 1)
        for _ in range(n):
            if not message:
                return 1  # the guest's process has ended
            os.eventfd_write(fds[0], 1)
            message = parent.recv(1)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except kvmbind.ZxError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(error.strerror)  # no KVM, or no right to use it: the sentence says what to do
