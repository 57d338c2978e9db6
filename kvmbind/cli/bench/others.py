"""`kvmbind bench exits`, `create` and `bind`: what else a guest costs, in reports of the same form."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvmbind.cli.bench.output import add_output_options, measure_and_tell, require_outputs
from kvmbind.cli.failures import CommandError

if TYPE_CHECKING:
    import argparse

    from kvmbind.cli.parser import Commands


class _Bench(NamedTuple):
    name: str
    summary: str
    about: str
    of_n: str
    n: int
    repeat: int


_BENCHES = (
    _Bench(
        "exits",
        "I/O and memory exits, and bells",
        "Measures exits to Python beside a loop in C around KVM_RUN, and interrupts that a guest answers by a bell.",
        "of each",
        2000,
        20,
    ),
    _Bench(
        "create",
        "making guests and closing them",
        "Measures how long it takes to make a guest with one VCPU and run it to its first exit, and to close it, by "
        "the interrupt controllers that it has in the kernel.",
        "guests of each kind",
        100,
        10,
    ),
    _Bench(
        "bind",
        "binding the n-th interrupt, n up to 4,000",
        "Measures how long it takes to bind one more interrupt to a VCPU that 0 to 3,999 are bound to, and to bind "
        "1 to 4,000 at once.",
        "single binds at each size",
        60,
        3,
    ),
)


def register(benches: Commands) -> None:
    """Adds the benchmarks."""
    for bench in _BENCHES:
        parser = benches.add_parser(bench.name, help=bench.summary, description=bench.about)
        parser.add_argument("-n", type=int, default=bench.n, metavar="N", help=f"{bench.of_n} (default: %(default)s)")
        parser.add_argument(
            "--repeat", type=int, default=bench.repeat, metavar="N", help="turns of each (default: %(default)s)"
        )
        add_output_options(parser)
        parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.repeat < 1 or args.n < args.repeat:
        raise CommandError(f"n is {args.n} and repeat {args.repeat}: each repeat needs one at least")
    require_outputs(args)
    from kvmbind.bench.binding import BindRun
    from kvmbind.bench.creation import CreateRun
    from kvmbind.bench.exits import ExitsRun
    from kvmbind.bench.plan import PlanError

    runs = {run.BENCH: run for run in (ExitsRun, CreateRun, BindRun)}
    try:
        run = runs[args.bench](args.n, args.repeat)
    except PlanError as error:
        raise CommandError(str(error)) from error
    return measure_and_tell(run, args)
