"""`import kvmbind`: what it costs, what it offers, and that the example of the README works when pasted."""

from __future__ import annotations

import re
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


def readme_blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    # Each block from its opening to its closing fence, or a closing one would be taken for an opening one of "".
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in blocks if name == language]


@pytest.mark.kvm
def test_the_first_example_of_the_readme_works_when_pasted_and_prints_what_it_shows() -> None:
    example, output = readme_blocks("python")[0], readme_blocks("")[0]
    assert "irq.bind_vcpu(vcpu)" in example
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", example]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", output)


@pytest.mark.kvm
def test_the_second_example_of_the_readme_prints_what_it_shows() -> None:
    example, output = readme_blocks("python")[1], readme_blocks("")[1]
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", example]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", output)


@pytest.mark.kvm
def test_the_measurement_of_the_readme_works_when_pasted_and_sees_no_return() -> None:
    [example] = [block for block in readme_blocks("python") if "from kvmbind.bench import" in block]
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", example]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.endswith(" 0\n")


@pytest.mark.kvm
def test_the_test_of_the_readme_passes_where_kvm_is_required(pytester: pytest.Pytester) -> None:
    [test] = [block for block in readme_blocks("python") if "@pytest.mark.kvm" in block]
    pytester.makepyfile(test)
    options = ("-W", "error", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    # In a process of its own: pytester would unload here what that run has loaded, and the package keeps its names.
    pytester.runpytest_subprocess("--kvm=require", *options).assert_outcomes(passed=1)
