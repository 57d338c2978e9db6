"""Recording a machine's screen while it runs."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from kvmbind.machine.screen.image_files import Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.machine.screen.frames import Frame

_PERIOD_S = 0.04


class Recorder:
    """Looks at a screen 25 times a second and writes what it shows to a GIF file, on a thread of its own.

    Threads: one makes and closes it.
    """

    def __init__(self, path: str, look: Callable[[], Frame]) -> None:
        """Opens the file, takes the first look, and starts.

        Args:
            path: Of the file; what is there is overwritten.
            look: Returns what the screen shows; called by another thread.

        Raises:
            OSError: The file cannot be written.
            ImportError: Pillow is missing.
        """
        self._look = look
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._recording = Recording(path)
        self._add()
        self._thread = threading.Thread(target=self._run, name="kvmbind-recorder", daemon=True)
        self._thread.start()

    def _add(self) -> None:
        self._recording.add(self._look(), time.monotonic_ns())

    def _run(self) -> None:
        try:
            while not self._done.wait(_PERIOD_S):
                self._add()
        except BaseException as error:  # `close` raises it
            self._error = error

    def close(self) -> None:
        """Takes a last look and ends the file.

        Raises:
            OSError: The file cannot be written any more.
        """
        self._done.set()
        self._thread.join()
        try:
            if self._error is not None:
                raise self._error
            self._add()
        finally:
            self._recording.close(time.monotonic_ns())
