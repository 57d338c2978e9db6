"""One interrupt, four VCPUs: one write to its eventfd reaches each of them.

Within an APIC cluster of 16 VCPUs that is one irqfd, and one message to a
logical destination. No VCPU leaves KVM_RUN for it.
"""

import argparse
import os
import sys

import kvmbind

ENTRY = 0x1000  # guest-physical: where guests.COUNTER is loaded and each VCPU starts
COUNTS = 0x8000  # how often vector 40h came, a dword for each VCPU
VCPUS = 4
TIMEOUT_S = 10


def main() -> int:
    """Boots the VCPUs, binds the interrupt to each, and writes its eventfd."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1_000, help="how many writes (default: %(default)s)")
    n: int = parser.parse_args().n

    with kvmbind.Guest.create(memory=1 << 20) as guest, kvmbind.Interrupt.create(vector=0x40) as irq:
        guest.write(kvmbind.guests.COUNTER, ENTRY)
        vcpus = [guest.start_vcpu(ENTRY) for _ in range(VCPUS)]  # leaving the block stops and closes them
        guest.bind_interrupts([(irq, vcpu) for vcpu in vcpus])
        print(f"{n:,} writes to the eventfd of one interrupt, {VCPUS} VCPUs\n", flush=True)
        for count in range(1, n + 1):
            os.eventfd_write(irq.fileno(), 1)
            for i in range(VCPUS):
                guest.wait_u32(COUNTS + 4 * i, count, TIMEOUT_S)
        counted = [guest.read_u32(COUNTS + 4 * i) for i in range(VCPUS)]
        returns = [vcpu.returns for vcpu in vcpus]

    print("  VCPU     counted   returns of KVM_RUN")
    for i in range(VCPUS):
        print(f"  {i:4}  {counted[i]:10,}  {returns[i]:19,}")
    print(f"   all  {sum(counted):10,}  {sum(returns):19,}")
    if counted != [n] * VCPUS:
        sys.exit(f"not every VCPU has counted {n:,}")
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
