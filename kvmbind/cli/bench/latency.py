"""`kvmbind bench [latency]`: how long interrupts take from their trigger to the guest's handler."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from kvmbind.cli.bench.output import add_output_options, measure_and_tell, require_outputs
from kvmbind.cli.failures import CommandError

if TYPE_CHECKING:
    from kvmbind.bench.plan import ImagePlan
    from kvmbind.cli.parser import Commands

_ABOUT = """Measures how long an interrupt takes from just before its trigger to the first instruction of the guest's
handler, by every way that KVM offers. They take turns in one run, beside a loop in C that writes an irqfd set up by
hand: the floor. Beside the times stands what KVM and the guest counted: a bound interrupt makes KVM_RUN return 0 times.
"""


def register(benches: Commands) -> None:
    """Adds the benchmark."""
    parser = benches.add_parser(
        "latency", help="from the trigger to the guest's handler (the default)", description=_ABOUT
    )
    add = parser.add_argument
    add("-n", type=int, default=5000, metavar="N", help="triggers of each mechanism (default: %(default)s)")
    add(
        "--mechanism", action="append", metavar="NAME[,NAME]",
        help="measure these and the floor; the default is all; --mechanism help lists them",
    )  # fmt: skip
    add(
        "--guest-state", default="halted", choices=("halted", "polling", "spinning"),
        help="the VCPU's thread sleeps; is in HLT but KVM still polls for it; runs (default: %(default)s)",
    )  # fmt: skip
    add(
        "--answer", default="store", choices=("store", "bell"),
        help="the host watches the handler's store, or sleeps until the handler rings a bell: the round trip",
    )  # fmt: skip
    add("--vcpus", type=int, default=1, metavar="N", help="1 to 16; each trigger reaches all (default: %(default)s)")
    add("--rate", type=float, metavar="HZ", help="triggers a second; late ones count from when they were due")
    add("--gap-us", type=float, metavar="US", help="from an answer to the next trigger; 0 is as fast as answered")
    add("--pin", type=_cpus, default=(), metavar="CPU[,CPU]", help="run the measuring thread, then the VCPUs, on these")
    add("--warmup", type=int, default=20, metavar="N", help="triggers before each turn (default: %(default)s)")
    add("--repeat", type=int, default=20, metavar="N", help="turns of each mechanism (default: %(default)s)")
    image = parser.add_argument_group("firing at an image, as kvmbind run runs it, instead of kvmbind's own guest")
    image.add_argument("--image", metavar="IMAGE", help="path of the image")
    image.add_argument("--irq", type=_vector, metavar="VECTOR", help="in hexadecimal; raw:VECTOR in protected mode")
    image.add_argument(
        "--count-at", type=_hex, metavar="ADDR",
        help="linear address of the dword that the handler counts up, in hexadecimal: times are until it is seen",
    )  # fmt: skip
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _cpus(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(cpu) for cpu in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of CPU numbers such as 2,3") from None


def _hex(text: str) -> int:
    return int(text, 16)


def _vector(text: str) -> tuple[int, bool]:
    """Returns the vector, and whether it is raw."""
    return _hex(text.removeprefix("raw:")), text.startswith("raw:")


def _image(args: argparse.Namespace) -> ImagePlan | None:
    from kvmbind.bench.plan import ImagePlan

    if args.image is None and args.irq is None and args.count_at is None:
        return None
    if args.image is None or args.irq is None:
        raise CommandError("firing at an image needs --image IMAGE and --irq VECTOR")
    vector, is_raw = args.irq
    return ImagePlan(args.image, vector, is_raw, args.count_at)


def _run(args: argparse.Namespace) -> int:
    from kvmbind.bench.mechanisms import MECHANISMS

    names = None if args.mechanism is None else ",".join(args.mechanism).split(",")
    if names == ["help"]:
        for name, kind in MECHANISMS.items():
            print(f"{name:<12}{kind.SAYS}")
        return 0
    require_outputs(args)
    from kvmbind.bench.measurement import BASE, LatencyRun, plan_latency
    from kvmbind.bench.plan import PlanError

    try:
        plan = plan_latency(
            None if names is None else dict.fromkeys([BASE, *names]),
            n=args.n, guest_state=args.guest_state, answer=args.answer, vcpus=args.vcpus, rate_hz=args.rate,
            gap_us=args.gap_us, pin=args.pin, warmup=args.warmup, repeat=args.repeat,
            image=_image(args),
        )  # fmt: skip
    except PlanError as error:
        raise CommandError(str(error)) from error
    for name, kind in MECHANISMS.items():
        if names is None and name not in plan.mechanisms:
            print(f"not measured: {name}: {kind.refusal(plan)}", file=sys.stderr)
    try:
        return measure_and_tell(LatencyRun(plan), args)
    except PlanError as error:  # the image is not what the plan takes it for
        raise CommandError(str(error)) from error
