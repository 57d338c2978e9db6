"""Two guests play ping-pong: a store of each is an interrupt of the other.

A store to the bell's address is a write to the other guest's interrupt, inside
the kernel: no user-space code runs for it, and neither VCPU leaves KVM_RUN.
"""

import argparse
import sys
import time

import kvmbind

ENTRY = 0x1000  # guest-physical: where guests.PING_PONG is loaded and starts
LEFT = 0x7100  # how often it is still to answer
COUNT = 0x8000  # how often vector 40h came
BELL = 0xD0000  # where it stores its answers
TIMEOUT_S = 10
VECTOR = 0x40


def main() -> int:
    """Wires two guests to each other, serves the ball, and watches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=10_000, help="how many rounds (default: %(default)s)")
    n: int = parser.parse_args().n
    if not 1 <= n < 1 << 32:
        parser.error("-n must be 1 to 4294967295")

    with (
        kvmbind.Interrupt.create(VECTOR) as to_left,  # ends after the guests: without it their stores go nowhere
        kvmbind.Interrupt.create(VECTOR) as to_right,
        kvmbind.Guest.create(memory=1 << 20) as left,
        kvmbind.Guest.create(memory=1 << 20) as right,
    ):
        for guest in (left, right):
            guest.write(kvmbind.guests.PING_PONG, ENTRY)
            guest.write(n.to_bytes(4, "little"), LEFT)
        vcpus = [guest.start_vcpu(ENTRY) for guest in (left, right)]  # leaving the block stops and closes them
        to_left.bind_vcpu(vcpus[0])
        to_right.bind_vcpu(vcpus[1])
        left.connect_bell(BELL, to_right)
        right.connect_bell(BELL, to_left)

        print(f"Two guests play {n:,} rounds of ping-pong:\n", flush=True)
        start = time.perf_counter()
        to_left.trigger()  # the service: the first of the n + 1 that the left guest counts
        for count in range(1, n + 2, 1000):
            left.wait_u32(COUNT, count, TIMEOUT_S)
        left.wait_u32(COUNT, n + 1, TIMEOUT_S)
        seconds = time.perf_counter() - start
        counted = [guest.read_u32(COUNT) for guest in (left, right)]
        returns = [vcpu.returns for vcpu in vcpus]

    print("  guest       counted   returns of KVM_RUN")
    for name, count, back in zip(("left", "right"), counted, returns, strict=True):
        print(f"  {name:6}  {count:11,}  {back:19,}")
    print(f"\n{seconds / n * 1e6:.1f} us a round: two stores, two interrupts")
    if counted != [n + 1, n]:
        sys.exit(f"the guests have counted {counted}, not {[n + 1, n]}")
    if any(returns):
        sys.exit("KVM_RUN returned to user space")
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
