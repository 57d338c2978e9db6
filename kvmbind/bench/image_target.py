"""A machine that runs an image, as what is measured."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from kvmbind.abi.errors import NotSupportedError, TimedOutError
from kvmbind.bench import counters
from kvmbind.bench.affinity import on_cpu
from kvmbind.bench.plan import PlanError
from kvmbind.bench.probe import Watched
from kvmbind.bench.targets import tsc_offset
from kvmbind.kvm import msi
from kvmbind.machine.bios import rom
from kvmbind.machine.images.image import ImageError
from kvmbind.machine.machine import Machine
from kvmbind.zircon import handles
from kvmbind.zircon.guest import GuestDispatcher
from kvmbind.zircon.interrupt import InterruptDispatcher
from kvmbind.zircon.vcpu import VcpuDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.bench.counters import Counters
    from kvmbind.bench.plan import ImagePlan

_READY_WITHIN_S = 10.0
_RAW_READY_AFTER_S = 1.0
_LOOK_S = 0.005
_LOOKS = 20


class ImageTarget:
    """An image in a machine, fired at by way of the vector that its handler has.

    In real mode the BIOS has the interrupt first and passes it on; while it is measured it keeps a time stamp and a
    count. With `count_at` the image's own count is what answers.

    Threads: as of its parts; `close` comes last.

    Attributes:
        guest: The machine's guest, by a handle of this target's own.
        vcpus: Its VCPU, likewise.
        dispatcher: The guest below `guest`.
        vector: What to bind to, to reach the image's handler.
        watched: What a `Probe` needs to know of it.
        is_stamped: Whether there are time stamps.
        sleeps: Whether the VCPU's thread sleeps while nothing is fired.
    """

    def __init__(self, image: ImagePlan, cpu: int | None) -> None:
        """Starts the machine on a processor, and waits until the image is ready to be fired at.

        Raises:
            PlanError: It is no image; or it has ended, or has put no handler at the vector, or does not count there.
            OSError: It cannot be read, or there is no KVM.
        """
        self._image = image
        self.is_stamped = not image.is_raw
        with contextlib.ExitStack() as undo:
            try:
                self._machine = undo.enter_context(Machine(image.path))
            except ImageError as error:
                raise PlanError(f"{image.path}: {error}") from error
            pc = self._machine.pc
            if image.count_at is not None and image.count_at > pc.memory.size - 4:
                raise PlanError(f"the image has no memory at {image.count_at:#x}")
            interrupt = self._machine.interrupt(image.vector, raw=image.is_raw)
            self.vector = handles.find(interrupt.handle, InterruptDispatcher).vector
            if self.is_stamped:
                pc.memory.write(rom.stamped_pointer(), 4 * self.vector)
            self._counted_at = rom.STAMPED if image.count_at is None else image.count_at
            self._first_handler = pc.memory.u32(4 * image.vector)
            with on_cpu(cpu):
                self._machine.start()
            self._started_s = time.monotonic()
            self._wait(self._has_handler, "has put no handler at its vector")
            assert pc.vcpu is not None
            # Handles of its own: what is bound to the guest may be taken off when the image has ended, too.
            self.guest = undo.enter_context(pc.guest.duplicate())
            self.vcpus = [undo.enter_context(pc.vcpu.duplicate())]
            self.dispatcher = handles.find(self.guest.handle, GuestDispatcher)
            self._dispatcher = handles.find(self.vcpus[0].handle, VcpuDispatcher)
            self.watched = self._watched()
            if image.count_at is not None:
                before = self._count()
                interrupt.trigger()
                self._wait(lambda: self._count() != before, f"counts nothing at {image.count_at:x}h")
            self.sleeps = self._looks_asleep()
            self._end = undo.pop_all()

    def _has_handler(self) -> bool:
        """Whether the vector leads to another place than at the start; in protected mode nobody knows.

        A raw interrupt that comes before its handler would be in service for good: nobody ends it.
        """
        pc = self._machine.pc
        if pc.vcpu is None:
            return False
        if self._image.is_raw and time.monotonic() - self._started_s > _RAW_READY_AFTER_S:
            return True
        return pc.memory.u32(4 * self._image.vector) != self._first_handler

    def _wait(self, is_ready: Callable[[], bool], lacks: str) -> None:
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while not is_ready():
            self._require_running()
            if time.monotonic() > deadline_s:
                raise PlanError(f"{self._image.path} {lacks} for {_READY_WITHIN_S:g} s")
            time.sleep(_LOOK_S)  # a guest's store wakes nobody

    def _require_running(self) -> None:
        ending = self._machine.ending
        if ending is not None:
            raise PlanError(f"{self._image.path} has ended: {ending.reason}")

    def _count(self) -> int:
        return self._machine.pc.memory.u32(self._counted_at)

    def _watched(self) -> Watched:
        pc = self._machine.pc
        stats_fd = self._dispatcher.kvm.struct.stats_fd
        offset = self.dispatcher.vm.while_paused(lambda: tsc_offset(self._dispatcher.kvm))
        return Watched(
            memory_fd=pc.memory_fd,
            memory_size=pc.memory.size,
            stats_fds=() if stats_fd == -1 else (stats_fd,),
            bell_fd=-1,
            tsc_offsets=(offset,),
            counts_at=self._counted_at,
            stamps_at=rom.STAMP,
        )

    def _looks_asleep(self) -> bool:
        """Whether its VCPU's thread mostly sleeps."""
        asleep = 0
        for _ in range(_LOOKS):
            time.sleep(_LOOK_S)  # between samples
            with contextlib.suppress(NotSupportedError):
                asleep += self.vcpus[0].stats().blocking
        return 2 * asleep > _LOOKS

    @property
    def message(self) -> msi.Message:
        """The message that raises the vector in its VCPU."""
        return msi.physical(self.vcpus[0].apic_id, self.vector)

    def snapshot(self) -> Counters:
        """Returns what its VCPU has counted so far."""
        vcpu = self.vcpus[0]
        try:
            stats = [vcpu.stats()]
        except NotSupportedError:
            stats = None
        return counters.snapshot(counted=self._count(), returns=vcpu.returns + vcpu.interrupted, stats=stats)

    def explain(self, error: BaseException) -> None:
        """Adds to an error that the image has ended, if it has."""
        if isinstance(error, TimedOutError) and (ending := self._machine.ending) is not None:
            error.add_note(f"the image has ended: {ending.reason}")

    def close(self) -> None:
        """Stops the machine."""
        self._end.close()
