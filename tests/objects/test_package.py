"""`import kvmbind`: what it costs, and what it offers."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import kvmbind
from kvmbind.abi.status import Status

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"dataclasses", "inspect", "pathlib", "logging", "ctypes", "cffi", "importlib.metadata", "hypothesis", "numpy"}
PUBLIC = {
    "Access", "Breakpoint", "DebugRegisters", "DescriptorTable", "Exit", "ExitReason", "Guest", "Interrupt", "MpState",
    "Port", "PortPacket", "Registers", "Resource", "Segment", "SpecialRegisters", "Status", "Vcpu", "VcpuEvents",
    "VcpuIo", "VcpuState", "VcpuStats", "Vmar", "Vmo", "ZxError", "guests", "settle", "zx", "__version__",
}  # fmt: skip

# Without site: the modules that an editable install imports at start are none of kvmbind's.
NEW_MODULES = """
import sys
sys.path[:0] = sys.argv[1:3]
before = set(sys.modules)
{use}
print(*sorted(set(sys.modules) - before))
"""


def new_modules(use: str) -> set[str]:
    """What a use imports in a fresh interpreter."""
    paths = [str(ROOT), sysconfig.get_path("platlib")]
    command = [sys.executable, "-S", "-c", NEW_MODULES.format(use=use), *paths]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_importing_it_loads_nothing_else_at_all() -> None:
    assert new_modules("import kvmbind") == {"kvmbind"}


def test_an_object_loads_nothing_heavy_and_no_package_but_the_cffi_backend() -> None:
    loaded = new_modules("import kvmbind; kvmbind.Guest, kvmbind.Interrupt, kvmbind.Port, kvmbind.guests.COUNTER")
    assert "kvmbind.zircon.guest" in loaded
    assert loaded & (HEAVY - {"ctypes"}) == set()
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert packages == {"kvmbind", "_cffi_backend"}


def test_the_calls_and_the_objects_do_not_import_each_other() -> None:
    assert not any(name.startswith("kvmbind.objects") for name in new_modules("import kvmbind; kvmbind.zx"))
    assert "kvmbind.zx" not in new_modules("import kvmbind; kvmbind.Guest, kvmbind.Vcpu, kvmbind.Interrupt")


def test_every_public_name_is_there_and_listed_once() -> None:
    listed = dir(kvmbind)
    assert set(listed) >= PUBLIC
    assert len(listed) == len(set(listed))
    for name in PUBLIC:
        assert getattr(kvmbind, name) is not None


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_status_has_its_exception_in_the_package(status: Status) -> None:
    name = "".join(word.capitalize() for word in status.name.split("_")) + "Error"
    error = getattr(kvmbind, name)
    assert error.status is status
    assert name in dir(kvmbind)


@pytest.mark.parametrize("name", ["foo", "Foo", "FooError", "Error", "OSError", "guest", "_Guest"])
def test_an_unknown_name_is_an_attribute_error_of_this_module(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"^module 'kvmbind' has no attribute '{name}'$"):
        getattr(kvmbind, name)


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert kvmbind.__version__ == version("kvmbind")
