"""The processors of a PC beside the one that it boots on, each on a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from kvmbind.abi.errors import BadHandleError
from kvmbind.kvm import signals
from kvmbind.machine.processor import Processor
from kvmbind.objects.vcpu import Vcpu

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kvmbind.machine.pc import Pc


class ApplicationProcessors:
    """Processors that wait for INIT and SIPI. They run from `__enter__` until the PC has ended and `__exit__`.

    Threads: it belongs to the boot processor's thread, and each processor to its own. `_turn` guards who rests.
    """

    __slots__ = ("_answers", "_asks", "_count", "_error", "_live", "_pc", "_round", "_threads", "_turn", "_vcpus")

    def __init__(self, pc: Pc, count: int) -> None:
        """Takes the PC, which has its boot processor by now, and how many more it is to have."""
        self._pc = pc
        self._count = count
        self._threads: list[threading.Thread] = []
        self._vcpus: list[Vcpu] = []
        self._error: BaseException | None = None
        self._turn = threading.Condition()
        self._asks = False
        self._round = 0
        self._answers: list[bool] = []
        self._live = 0

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if error is None and self._error is not None:
            raise self._error

    def _start(self) -> None:
        started = threading.Event()
        name = f"kvmbind-processor-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._run, args=(started,), name=name, daemon=True)
        self._live += 1
        thread.start()
        self._threads.append(thread)
        started.wait()  # APIC ids are in the order in which VCPUs are made
        if self._error is not None:
            raise self._error

    def _run(self, started: threading.Event) -> None:
        signals.block_all_but_kick()
        pc = self._pc
        try:
            with Vcpu.create(pc.guest, mode="wait-for-sipi", apic="xapic") as vcpu:
                self._vcpus.append(vcpu)
                started.set()
                processor = Processor(pc, vcpu)
                while pc.reason is None and self._error is None:
                    processor.step()
                    self._rest_while_asked(processor)
                with pc.lock:
                    processor.add_counts()
        except BaseException as error:
            self._error = error
        finally:
            with self._turn:
                self._live -= 1
                self._turn.notify_all()
            started.set()
            pc.wake()

    @property
    def has_failed(self) -> bool:
        """Whether KVM has failed on one of them; `__exit__` raises it."""
        return self._error is not None

    def are_done_beside(self, boot: Processor) -> bool:
        """Tells whether all of them and the boot processor wait for what only another processor can send.

        It stops them all to look, since one that ran could wake another that was looked at before.
        """
        if not self._threads:
            return True
        with self._turn:
            self._asks = True
            self._round += 1
            self._answers.clear()
            self._kick()
            self._turn.wait_for(lambda: len(self._answers) == self._live)
            are_done = all(self._answers) and boot.is_done()
            self._asks = False
            self._turn.notify_all()
        return are_done

    def _rest_while_asked(self, processor: Processor) -> None:
        with self._turn:
            while self._asks:
                answered = self._round
                self._answers.append(processor.is_done())
                self._turn.notify_all()
                self._turn.wait_for(lambda: not self._asks or self._round != answered)  # noqa: B023  # not kept

    def _kick(self) -> None:
        for vcpu in self._vcpus:
            with contextlib.suppress(BadHandleError):  # its thread has ended
                vcpu.kick()

    def _stop(self) -> None:
        self._kick()
        for thread in self._threads:
            thread.join()
