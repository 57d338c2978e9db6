"""An interrupt bound to a VCPU reaches its guest, and KVM_RUN does not return.

A real-mode guest counts vector 40h and sleeps in HLT. The interrupt is
triggered n times, each time after the guest has answered the last one, because
edges that come together merge. Two figures are the proof: the guest has counted
n, and KVM_RUN has returned to user space 0 times.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import kvmbind
from kvmbind import zx

ENTRY = 0x1000  # guest-physical: where guests.COUNTER is loaded and starts
READY = 0x7000  # 1 once it has set up its handler of vector 40h
COUNT = 0x8000  # how often that has run
TIMEOUT_S = 10


def main() -> int:
    """Boots the guest, binds the interrupt, triggers it and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=10_000, help="how many triggers (default: %(default)s)")
    n: int = parser.parse_args().n
    if n < 1:
        parser.error("-n must be at least 1")

    with kvmbind.Guest.create(memory=1 << 20) as guest, kvmbind.Interrupt.create(vector=0x40) as irq:
        modules = sorted(path.name for path in Path("/sys/module").glob("kvm_*"))  # kvm_intel, kvm_amd, kvm_pvm ...
        print(f"{', '.join(modules) or 'kvm'} on Linux {os.uname().release}: one interrupt, one VCPU\n", flush=True)
        guest.write(kvmbind.guests.COUNTER, ENTRY)
        with guest.start_vcpu(ENTRY) as vcpu:
            guest.wait_u32(READY, 1, TIMEOUT_S)
            status = zx.zx_interrupt_bind_vcpu(irq.handle, vcpu.handle, 0)  # from now on it is one irqfd
            if status != zx.ZX_OK:
                sys.exit(f"zx_interrupt_bind_vcpu: {status.name}")
            before, returns_before = read_stats(vcpu), vcpu.returns + vcpu.interrupted
            times_ns = fire(irq, guest, n)
            after, returns_after = read_stats(vcpu), vcpu.returns + vcpu.interrupted  # with an exit, and with EINTR
            counted, returns = guest.read_u32(COUNT), returns_after - returns_before

    show("triggers", f"{n:,}")
    show("counted by the guest", f"{counted:,}")
    show("returns of KVM_RUN", f"{returns:,}", "" if returns else "no exit to user space")
    print("\nHow KVM did it:")
    if before and after:
        injections = after.irq_injections - before.irq_injections
        show("irq_injections", f"{injections:,}", injected_by(injections, n))
        show("exits", f"{after.exits - before.exits:,}", "to the kernel")
        show("halt_wakeup", f"{after.halt_wakeup - before.halt_wakeup:,}", "HLTs in which the VCPU's thread slept")
    else:
        show("statistics", "none", "vCPUs have them since Linux 5.14")
    print("\nFrom just before trigger() until this program sees the guest's count, in us:")
    for name, fraction in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1)):
        show(name, f"{times_ns[int(fraction * (n - 1))] / 1000:,.1f}")
    if counted != n:
        sys.exit(f"the guest counted {counted:,} interrupts of {n:,}")
    if returns:
        sys.exit(f"KVM_RUN returned to user space {returns:,} times")
    return 0


def fire(irq: kvmbind.Interrupt, guest: kvmbind.Guest, n: int) -> list[int]:
    """Triggers n times, each time waits for the guest's count, and returns how long that took, sorted."""
    times_ns = []
    for count in range(1, n + 1):
        start_ns = time.perf_counter_ns()
        irq.trigger()
        guest.wait_u32(COUNT, count, TIMEOUT_S)
        times_ns.append(time.perf_counter_ns() - start_ns)
    return sorted(times_ns)


def read_stats(vcpu: kvmbind.Vcpu) -> kvmbind.VcpuStats | None:
    """Returns what KVM has counted for the VCPU, or None where it does not tell."""
    try:
        return vcpu.stats()
    except kvmbind.NotSupportedError:
        return None


def injected_by(injections: int, n: int) -> str:
    """Says what irq_injections tells about n interrupts."""
    if injections < n:
        return "posted by hardware (APICv, AVIC)" + (", but for these" if injections else "")
    return "injected by software" + (f"; {injections - n:,} had to be repeated" if injections > n else "")


def show(name: str, value: str, remark: str = "") -> None:
    """Prints a line of the report."""
    print(f"  {name:22}{value:>10}  {remark}".rstrip())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except kvmbind.ZxError as error:
        sys.exit("; ".join([str(error), *getattr(error, "__notes__", [])]))  # the note: why the VCPU's thread ended
    except OSError as error:
        sys.exit(error.strerror)  # no KVM, or no right to use it: the sentence says what to do
