"""The ways in which an interrupt reaches a guest: one class each."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol

import kvmbind
from kvmbind import guests, zx
from kvmbind._shim import lib
from kvmbind.abi.errors import CanceledError
from kvmbind.bench.affinity import on_cpu
from kvmbind.bench.other_process import OtherProcess
from kvmbind.bench.probe import COUNTS, STAMPS, Probe
from kvmbind.bench.targets import BELL, RINGS, SPINS, ApicGuest, BareGuest
from kvmbind.kvm import signals
from kvmbind.kvm.eventfd import EventFd
from kvmbind.zircon import handles
from kvmbind.zircon.interrupt import InterruptDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from kvmbind.bench.counters import Counters
    from kvmbind.bench.image_target import ImageTarget
    from kvmbind.bench.plan import ImagePlan, Plan
    from kvmbind.bench.probe import Pace, Round
    from kvmbind.bench.targets import ApicTarget, Target


class Lab:
    """What the mechanisms of one run share: the plan, and one guest with local APICs. Leaving it closes everything.

    Threads: the measuring thread alone.
    """

    def __init__(self, plan: Plan, pace: Pace) -> None:
        """Starts with nothing open."""
        self.plan = plan
        self.pace = pace
        self.opened = contextlib.ExitStack()
        self.mode = (SPINS if plan.guest_state == "spinning" else 0) | (RINGS if plan.answer == "bell" else 0)
        self._shared: ApicTarget | None = None
        self.image: ImageTarget | None = None

    @property
    def firing_cpu(self) -> int | None:
        """The processor that whoever fires is pinned to."""
        return self.plan.pin[0] if self.plan.pin else None

    def cpu_of(self, vcpu: int) -> int | None:
        """The processor that a VCPU is pinned to."""
        others = self.plan.pin[1:]
        return others[vcpu % len(others)] if others else None

    @property
    def shared(self) -> ApicTarget:
        """The guest that most mechanisms fire into; started when the first asks for it."""
        if self._shared is None:
            self._shared = self._start() if self.plan.image is None else self._start_image(self.plan.image)
            self.opened.callback(self._shared.close)
        return self._shared

    def _start(self) -> ApicGuest:
        return ApicGuest(guests.PROBE, self.mode, [self.cpu_of(i) for i in range(self.plan.vcpus)])

    def _start_image(self, image: ImagePlan) -> ImageTarget:
        from kvmbind.bench.image_target import ImageTarget

        self.image = ImageTarget(image, self.cpu_of(0))
        self.pace = self.pace._replace(asleep=self.image.sleeps and not self.pace.interval_ns)
        return self.image

    def bound_interrupt(self, guest: ApicTarget) -> kvmbind.Interrupt:
        """Returns a new interrupt that is bound to every VCPU of a guest."""
        irq = self.opened.enter_context(kvmbind.Interrupt.create(guest.vector))
        guest.guest.bind_interrupts([(irq, vcpu) for vcpu in guest.vcpus])
        return irq

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.image is not None and error is not None:
            self.image.explain(error)
        self.opened.close()


class Mechanism(Protocol):
    """A way to raise vector 40h in a guest, open and ready."""

    NAME: ClassVar[str]
    #: One line for the legend.
    SAYS: ClassVar[str]

    def __init__(self, lab: Lab) -> None:
        """Opens what it needs in the lab."""

    @staticmethod
    def refusal(plan: Plan) -> str | None:
        """Says why a plan cannot have it; None if it can."""

    def rounds(self, n: int) -> list[Round]:
        """Fires n times, each when the guest has answered the last."""

    def snapshot(self) -> Counters:
        """Returns what has been counted so far, by the guest's VCPUs and on the way to them."""


class _FromHere:
    """What those have in common that fire from this process: a subclass says how, by `_fire_in_c` or `_fire`."""

    NAME: ClassVar[str]

    def __init__(self, lab: Lab, target: Target) -> None:
        self._target = target
        self._host_wakeups = 0
        self._probe = Probe(target.watched, lab.pace, self.NAME)
        self._run: Callable[[int], list[Round]]

    def _fire_in_c(self, loop: Callable[..., int], *what: object) -> None:
        """Has a loop of the shim's fire: it takes the probe, what to fire, and where the rounds go."""
        self._run = partial(self._probe.run_in_c, partial(loop, self._probe.struct, *what))

    def _fire(self, fire: Callable[[], object]) -> None:
        """Has a call of Python's fire."""
        self._run = partial(self._probe.run_in_python, fire)

    @staticmethod
    def refusal(plan: Plan) -> str | None:
        """Every plan can have it."""
        return None

    def rounds(self, n: int) -> list[Round]:
        """Fires n times, each when the guest has answered the last."""
        self._probe.arm()
        return self._run(n)

    def snapshot(self) -> Counters:
        """Returns what has been counted so far, by the guest's VCPUs and on the way to them."""
        return self._target.snapshot()._replace(host_wakeups=self._host_wakeups)


class Floor(_FromHere):
    """A loop in C that writes an eventfd, whose irqfd and route are set up by hand."""

    NAME: ClassVar[str] = "floor"
    SAYS: ClassVar[str] = "C loop, irqfd set up by hand: the floor"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, lab.shared)
        eventfd = EventFd.create()
        lab.opened.callback(eventfd.close)
        routing = lab.shared.dispatcher.routing
        lab.opened.callback(routing.disconnect, routing.update([(eventfd.fd, lab.shared.message)]))
        self._fire_in_c(lib.kb_rounds_eventfd, eventfd.fd)


class BoundFromC(_FromHere):
    """A loop in C that triggers a bound interrupt."""

    NAME: ClassVar[str] = "bound-c"
    SAYS: ClassVar[str] = "C loop, the shim's trigger of a bound interrupt"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, lab.shared)
        irq = handles.find(lab.bound_interrupt(lab.shared).handle, InterruptDispatcher)
        self._fire_in_c(lib.kb_rounds_trigger, irq.guard)


class Bound(_FromHere):
    """`Interrupt.trigger` of a bound interrupt."""

    NAME: ClassVar[str] = "bound"
    SAYS: ClassVar[str] = "Interrupt.trigger() of a bound interrupt, from Python"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, lab.shared)
        self._fire(lab.bound_interrupt(lab.shared).trigger)


class BoundByHandle(_FromHere):
    """`zx_interrupt_trigger` of a bound interrupt."""

    NAME: ClassVar[str] = "zx"
    SAYS: ClassVar[str] = "zx_interrupt_trigger() of a bound interrupt, from Python"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, lab.shared)
        self._fire(partial(zx.zx_interrupt_trigger, lab.bound_interrupt(lab.shared).handle, 0, 0))


class SignalMsi(_FromHere):
    """A loop in C of KVM_SIGNAL_MSI."""

    NAME: ClassVar[str] = "msi"
    SAYS: ClassVar[str] = "C loop, KVM_SIGNAL_MSI"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, lab.shared)
        self._fire_in_c(lib.kb_rounds_msi, lab.shared.dispatcher.vm.struct, *lab.shared.message)


class FromOtherProcess:
    """A loop in C in another process, which has the eventfd of a bound interrupt and nothing else to fire with."""

    NAME: ClassVar[str] = "process"
    SAYS: ClassVar[str] = "another process writes the bound interrupt's eventfd"

    def __init__(self, lab: Lab) -> None:
        self._target = lab.shared
        irq = lab.bound_interrupt(lab.shared)
        with on_cpu(lab.firing_cpu):
            self._process = OtherProcess(irq.fileno(), self._target.watched, lab.pace)
        lab.opened.callback(self._process.close)

    @staticmethod
    def refusal(plan: Plan) -> str | None:
        """Every plan can have it."""
        return None

    def rounds(self, n: int) -> list[Round]:
        """Fires n times, each when the guest has answered the last."""
        return self._process.rounds(n)

    def snapshot(self) -> Counters:
        """Returns what the guest's VCPUs have counted so far; no thread of this process is on the way."""
        return self._target.snapshot()._replace(host_wakeups=0)


class GuestBell(_FromHere):
    """Another guest's bell is the eventfd of a bound interrupt: t0 is that guest's own time stamp."""

    NAME: ClassVar[str] = "guest-bell"
    SAYS: ClassVar[str] = "another guest rings a bell that is the bound interrupt's eventfd"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, lab.shared)
        rung = lab.bound_interrupt(lab.shared)
        self._sender = ApicGuest(guests.RINGER, 0, [lab.cpu_of(lab.plan.vcpus)])
        lab.opened.callback(self._sender.close)
        self._sender.guest.connect_bell(BELL, rung)
        start = lab.bound_interrupt(self._sender)
        self._fire_in_c(lib.kb_rounds_eventfd, start.fileno())
        self._sent = 0

    def rounds(self, n: int) -> list[Round]:
        """As of all; each round starts at the sender's time stamp, or at its trigger if that has no lasting offset."""
        self._probe.arm()
        return [self._round() for _ in range(n)]

    def _round(self) -> Round:
        [answered] = self._run(1)
        self._sent += 1
        self._sender.guest.wait_u32(COUNTS, self._sent, timeout_s=10)
        [offset] = self._sender.watched.tsc_offsets
        if offset is None:
            return answered
        stamp = int.from_bytes(self._sender.guest.read(STAMPS, 8), "little")
        return answered._replace(start=(stamp - offset) % (1 << 64))


class Mediated(_FromHere):
    """A host thread waits on the interrupt, then calls zx_vcpu_interrupt: the way without a bind."""

    NAME: ClassVar[str] = "mediated"
    SAYS: ClassVar[str] = "a host thread waits on the interrupt, then zx_vcpu_interrupt()"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, lab.shared)
        self._vector = lab.shared.vector
        self._irq = lab.opened.enter_context(kvmbind.Interrupt.create(self._vector))
        self._vcpus = [vcpu.handle for vcpu in lab.shared.vcpus]
        self._thread = threading.Thread(target=self._mediate, name="kvmbind-bench-mediator", daemon=True)
        lab.opened.callback(self._stop)
        self._thread.start()
        self._fire(self._irq.trigger)

    def _mediate(self) -> None:
        signals.block_all_but_kick()
        with contextlib.suppress(CanceledError):
            while True:
                self._irq.wait()
                self._host_wakeups += 1
                for vcpu in self._vcpus:
                    zx.zx_vcpu_interrupt(vcpu, self._vector)

    def _stop(self) -> None:
        self._irq.destroy()
        self._thread.join()


class NoIrqchip(_FromHere):
    """KVM_INTERRUPT by the VCPU's own thread, kicked out of KVM_RUN or woken from a HLT that was an exit."""

    NAME: ClassVar[str] = "no-irqchip"
    SAYS: ClassVar[str] = "no interrupt controller in the kernel: kick, KVM_INTERRUPT, KVM_RUN"

    def __init__(self, lab: Lab) -> None:
        guest = BareGuest(lab.mode, lab.cpu_of(0))
        lab.opened.callback(guest.close)
        super().__init__(lab, guest)
        self._fire_in_c(lib.kb_rounds_injector, guest.injector)

    @staticmethod
    def refusal(plan: Plan) -> str | None:
        """Says why a plan cannot have it; None if it can."""
        if plan.image is not None:
            return "a machine's interrupt controllers are in the kernel"
        if plan.vcpus > 1:
            return "it has one VCPU"
        if plan.guest_state == "polling":
            return "KVM polls for no guest whose HLT is an exit"
        return None


#: In the order of the report.
MECHANISMS: dict[str, type[Mechanism]] = {
    kind.NAME: kind
    for kind in (
        Floor, BoundFromC, Bound, BoundByHandle, SignalMsi, FromOtherProcess, GuestBell, Mediated, NoIrqchip,
    )
}  # fmt: skip
