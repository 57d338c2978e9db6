"""An interrupt is one guest's: the VCPU of a second guest is refused.

Nothing changes by the attempt: the first guest still counts each trigger.
"""

import argparse
import sys

import kvmbind

ENTRY = 0x1000  # guest-physical: where guests.COUNTER is loaded and starts
COUNT = 0x8000  # how often vector 40h came
TIMEOUT_S = 10


def main() -> int:
    """Binds to the first guest, tries the second, and triggers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1_000, help="how many triggers (default: %(default)s)")
    n: int = parser.parse_args().n

    with (
        kvmbind.Guest.create(memory=1 << 20) as first,
        kvmbind.Guest.create(memory=1 << 20) as second,
        kvmbind.Interrupt.create(vector=0x40) as irq,
    ):
        guests = [first, second]
        for guest in guests:
            guest.write(kvmbind.guests.COUNTER, ENTRY)
        vcpus = [guest.start_vcpu(ENTRY) for guest in guests]  # leaving the block stops and closes them

        irq.bind_vcpu(vcpus[0])
        print("One interrupt is to be bound to a VCPU of each guest:\n\n  first   OK", flush=True)
        try:
            irq.bind_vcpu(vcpus[1])
        except kvmbind.InvalidArgsError as refusal:
            print(f"  second  {refusal.status.name} ({refusal.status}): {refusal.hint}\n")
        else:
            sys.exit("the second guest's VCPU was not refused")

        for count in range(1, n + 1):
            irq.trigger()
            first.wait_u32(COUNT, count, TIMEOUT_S)
        counted = [guest.read_u32(COUNT) for guest in guests]
        returns = [vcpu.returns for vcpu in vcpus]

    print(f"After {n:,} triggers:\n")
    print("  guest       counted   returns of KVM_RUN")
    for name, count, back in zip(("first", "second"), counted, returns, strict=True):
        print(f"  {name:6}  {count:11,}  {back:19,}")
    if counted != [n, 0]:
        sys.exit(f"the guests have counted {counted}, not {[n, 0]}")
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
