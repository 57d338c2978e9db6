"""Tests of images without Python: each ``*.kvmbind.toml`` is collected as one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from kvmbind.pytest_plugin.documents import SUFFIX, BadDocumentError, Document
from kvmbind.pytest_plugin.machines import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Self

    from kvmbind import Machine


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ImageFile | None:
    """Collects a file whose name ends so."""
    return ImageFile.from_parent(parent, path=file_path) if file_path.name.endswith(SUFFIX) else None


class FailedError(Exception):
    """An image did not do what its file says."""


class ImageFile(pytest.File):
    """A file with one test, which is called like it."""

    def collect(self) -> Iterable[ImageTest]:
        """Reads the file."""
        import tomllib

        try:
            with self.path.open("rb") as file:
                document = Document.parse(tomllib.load(file))
        except (BadDocumentError, tomllib.TOMLDecodeError) as error:
            raise self.CollectError(f"{self.path}: {error}") from error
        yield ImageTest.make(self, self.path.name.removesuffix(SUFFIX), document)


class ImageTest(pytest.Item):
    """A test that runs an image."""

    document: Document

    @classmethod
    def make(cls, parent: ImageFile, name: str, document: Document) -> Self:
        """Makes one, marked as a test that needs KVM."""
        test = cls.from_parent(parent, name=name)
        test.document = document
        test.add_marker("kvm")
        return test

    def runtest(self) -> None:
        """Runs the image; FailedError says what it did not do."""
        from kvmbind import Machine, ZxError

        document = self.document
        deadline = time.monotonic() + document.timeout_s
        image = self.path.parent / document.image
        with Machine(image, **document.options) as machine:  # type: ignore[arg-type]  # Machine checks the values
            machine.start()
            watch(self, machine)
            try:
                _play(document, machine, lambda: max(0.0, deadline - time.monotonic()))
            except ZxError as error:
                raise FailedError(error.hint.partition("; the screen is")[0] or str(error)) from error

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Says it in a sentence; what is a defect of the program keeps its traceback."""
        if isinstance(excinfo.value, FailedError | OSError | ValueError):
            return f"{self.path.name}: {excinfo.value}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Names the test by its file."""
        return self.path, 0, self.name


def _play(document: Document, machine: Machine, left_s: Callable[[], float]) -> None:
    for firing in document.interrupts:
        if firing.after:
            machine.expect(firing.after, left_s())
        interrupt = machine.interrupt(firing.vector)
        for n in range(firing.times):
            if n:
                time.sleep(min(firing.gap_s, left_s()))
            interrupt.trigger()
    for text in document.expect:
        machine.expect(text, left_s())
    if document.exit_status is not None:
        ending = machine.wait(left_s())
        if ending.exit_status != document.exit_status:
            raise FailedError(
                f"it ended with status {ending.exit_status} ({ending.reason}), not {document.exit_status}"
            )
