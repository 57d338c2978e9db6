"""The proof: a guest that counts interrupts which reach it by an irqfd."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from kvmbind.abi.errors import NotSupportedError, TimedOutError, ZxError
from kvmbind.doctor.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmbind import Vcpu
    from kvmbind.doctor.place import Place

_VECTOR = 0x40
_ENTRY = 0x1000
_READY = 0x7000
_COUNT = 0x8000
_ROUNDS = 100
_DEADLINE_S = 10.0


def examine(_: int, path: str, place: Place) -> Iterator[Finding]:
    """Yields whether a guest of one VCPU runs, and whether it counts each interrupt without a return from KVM_RUN."""
    try:
        import_module("kvmbind._shim")
    except ImportError as error:
        summary = f"kvmbind's compiled part does not load: {error}"
        yield Finding.wrong("interrupts", summary, "shim", place, python=sys.executable)
        return
    try:
        yield _count(path, place)
    except (OSError, ZxError) as error:
        yield Finding.wrong("interrupts", f"a guest does not run: {error}", "guest", place)


def _count(path: str, place: Place) -> Finding:
    """Fires at a guest that counts. Each fire waits for the answer, since edges merge."""
    import kvmbind

    with (
        kvmbind.Resource.root(path) as root,
        kvmbind.Guest.create(memory=1 << 20, resource=root) as guest,
        kvmbind.Interrupt.create(_VECTOR) as irq,
    ):
        guest.write(kvmbind.guests.COUNTER, _ENTRY)
        with guest.start_vcpu(_ENTRY) as vcpu:
            guest.wait_u32(_READY, 1, timeout_s=_DEADLINE_S)
            irq.bind_vcpu(vcpu)
            before = vcpu.returns
            try:
                for n in range(1, _ROUNDS + 1):
                    irq.trigger()
                    guest.wait_u32(_COUNT, n, timeout_s=_DEADLINE_S)
            except TimedOutError:
                pass  # the count tells
            counted, returns = guest.read_u32(_COUNT), vcpu.returns - before
            injections = _injections(vcpu)
    return _judge(counted, returns, injections, place)


def _judge(counted: int, returns: int, injections: int | None, place: Place) -> Finding:
    how = {None: "this kernel does not tell how", 0: "posted by hardware"}.get(injections, "injected by software")
    summary = f"{counted} of {_ROUNDS} counted by a guest, {returns} returns from KVM_RUN; {how}"
    facts = {"fired": _ROUNDS, "counted": counted, "returns": returns, "irq_injections": injections}
    if counted == _ROUNDS and returns == 0:
        return Finding.fine("interrupts", summary, **facts)
    return Finding.wrong("interrupts", summary, "interrupts", place, **facts)


def _injections(vcpu: Vcpu) -> int | None:
    try:
        return vcpu.stats().irq_injections
    except NotSupportedError:
        return None
