"""KVM's module: which, and how it is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.doctor.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmbind.doctor.place import Files, Place

_MODULES = "sys/module"
_YES = ("Y", "1")


def loaded(files: Files) -> str:
    """Returns the name of the loaded module that makes KVM run on this CPU: kvm_intel, kvm_amd, kvm_pvm; or ""."""
    return next((name for name in files.names(_MODULES) if name.startswith("kvm_")), "")


def examine(place: Place, files: Files) -> Iterator[Finding]:
    """Yields which module is loaded, and the settings that change what guests can do, or how fast."""
    name = loaded(files)
    if not name:
        yield Finding.note("module", "no module of KVM is to be seen in /sys/module", module=None)
        return
    kind = "" if name in ("kvm_intel", "kvm_amd") else ": a software KVM; its figures say little about hardware"
    yield (Finding.note if kind else Finding.fine)("module", name + kind, module=name)
    settings = _Settings(files)
    yield from _real_mode(settings, place)
    yield from _posting(settings)
    yield from _halt_polling(settings)
    yield from _nesting(settings, place)


class _Settings:
    """The parameters of KVM's modules."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def get(self, module: str, name: str) -> str:
        return self._files.text(f"{_MODULES}/{module}/parameters/{name}")

    def find(self, names: tuple[tuple[str, str], ...]) -> tuple[str, str]:
        """Returns the first of these parameters that there is, and its value."""
        found = ((f"{module}.{name}", self.get(module, name)) for module, name in names)
        return next(((name, value) for name, value in found if value), ("", ""))


def _real_mode(settings: _Settings, place: Place) -> Iterator[Finding]:
    name, value = settings.find((("kvm_intel", "unrestricted_guest"),))
    if not name:
        return
    if value in _YES:
        yield Finding.fine("real mode", "the CPU runs it (unrestricted guest)", unrestricted_guest=True)
        return
    summary = f"{name} is {value}: KVM emulates each instruction of real mode"
    yield Finding.warning("real mode", summary, "unrestricted-guest", place, unrestricted_guest=False)


def _posting(settings: _Settings) -> Iterator[Finding]:
    name, value = settings.find((("kvm_intel", "enable_apicv"), ("kvm_amd", "avic")))
    if name:
        how = "may be posted by hardware" if value in _YES else "are injected by software"
        yield Finding.note("posting", f"{name} is {value}: interrupts {how}", setting=name, posted=value in _YES)


def _halt_polling(settings: _Settings) -> Iterator[Finding]:
    value = settings.get("kvm", "halt_poll_ns")
    if not value.isdigit():
        return
    ns = int(value)
    what = (
        f"a VCPU in HLT is polled for up to {ns / 1000:g} us before it sleeps" if ns else "a VCPU in HLT sleeps at once"
    )
    yield Finding.note("halt polling", f"kvm.halt_poll_ns is {ns}: {what}", halt_poll_ns=ns)


def _nesting(settings: _Settings, place: Place) -> Iterator[Finding]:
    name, value = settings.find((("kvm_intel", "nested"), ("kvm_amd", "nested")))
    if name:
        may = "may" if value in _YES else "may not"
        yield Finding.note("nesting", f"{name} is {value}: guests {may} have guests", nested=value in _YES)
    if place.hypervisor:
        summary = "this is a virtual machine: what is measured includes the hypervisor under it"
        yield Finding.note("nesting", summary, hypervisor=True)
