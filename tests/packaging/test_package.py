"""What a package must hold, looked at in the source tree. `make wheel` tries the built one."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import kvmbind

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(kvmbind.__file__).parent
README = (ROOT / "README.md").read_text()
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())

#: What native/ uses of <linux/kvm.h> and <asm/kvm.h> as they were in Linux 4.18, the oldest that kvmbind builds on.
IN_LINUX_4_18 = """
    KVM_API_VERSION KVM_CAP_SPLIT_IRQCHIP KVM_CAP_SYNC_REGS KVM_CAP_X2APIC_API KVM_CHECK_EXTENSION KVM_CREATE_IRQCHIP
    KVM_CREATE_PIT2 KVM_CREATE_VCPU KVM_CREATE_VM KVM_ENABLE_CAP KVM_EXIT_DEBUG KVM_EXIT_FAIL_ENTRY KVM_EXIT_HLT
    KVM_EXIT_INTERNAL_ERROR KVM_EXIT_INTR KVM_EXIT_IO KVM_EXIT_IO_IN KVM_EXIT_IO_OUT KVM_EXIT_IRQ_WINDOW_OPEN
    KVM_EXIT_MMIO KVM_EXIT_SHUTDOWN KVM_EXIT_SYSTEM_EVENT KVM_EXIT_UNKNOWN KVM_GET_API_VERSION KVM_GET_CPUID2
    KVM_GET_DEBUGREGS KVM_GET_DIRTY_LOG KVM_GET_FPU KVM_GET_IRQCHIP KVM_GET_LAPIC KVM_GET_MP_STATE KVM_GET_MSRS
    KVM_GET_PIT2 KVM_GET_REGS KVM_GET_SREGS KVM_GET_SUPPORTED_CPUID KVM_GET_TSC_KHZ KVM_GET_VCPU_EVENTS
    KVM_GET_VCPU_MMAP_SIZE KVM_GET_XCRS KVM_GET_XSAVE KVM_GUESTDBG_ENABLE KVM_GUESTDBG_SINGLESTEP
    KVM_GUESTDBG_USE_HW_BP KVM_GUESTDBG_USE_SW_BP KVM_INTERRUPT KVM_IOEVENTFD KVM_IOEVENTFD_FLAG_DATAMATCH
    KVM_IOEVENTFD_FLAG_DEASSIGN KVM_IOEVENTFD_FLAG_PIO KVM_IRQCHIP_IOAPIC KVM_IRQCHIP_PIC_MASTER KVM_IRQCHIP_PIC_SLAVE
    KVM_IRQFD KVM_IRQFD_FLAG_DEASSIGN KVM_IRQFD_FLAG_RESAMPLE KVM_IRQ_LINE KVM_IRQ_ROUTING_IRQCHIP KVM_IRQ_ROUTING_MSI
    KVM_MEM_LOG_DIRTY_PAGES KVM_MEM_READONLY KVM_MP_STATE_HALTED KVM_MP_STATE_INIT_RECEIVED KVM_MP_STATE_RUNNABLE
    KVM_MP_STATE_SIPI_RECEIVED KVM_MP_STATE_UNINITIALIZED KVM_NMI KVM_RUN KVM_SET_CPUID2 KVM_SET_DEBUGREGS KVM_SET_FPU
    KVM_SET_GSI_ROUTING KVM_SET_GUEST_DEBUG KVM_SET_IDENTITY_MAP_ADDR KVM_SET_IRQCHIP KVM_SET_LAPIC KVM_SET_MP_STATE
    KVM_SET_MSRS KVM_SET_PIT2 KVM_SET_REGS KVM_SET_SREGS KVM_SET_TSS_ADDR KVM_SET_USER_MEMORY_REGION
    KVM_SET_VCPU_EVENTS KVM_SIGNAL_MSI KVM_SYNC_X86_EVENTS KVM_SYNC_X86_REGS KVM_SYNC_X86_SREGS KVM_TRANSLATE
    KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK KVM_X2APIC_API_USE_32BIT_IDS
"""


def test_every_package_of_the_source_is_in_the_wheel() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    packages = {".".join(("kvmbind", *folder.relative_to(PACKAGE).parts)) for folder in folders}
    assert packages == set(SETTINGS["tool"]["setuptools"]["packages"])


def test_every_file_that_is_no_python_is_in_the_wheel() -> None:
    built = {".so", ".pyc", ".o", ".c"}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in {".py", *built}}
    shipped = {
        path
        for package, patterns in SETTINGS["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in PACKAGE.parent.joinpath(*package.split(".")).glob(pattern)
    }
    assert files == shipped


def test_the_shim_uses_nothing_newer_than_linux_4_18_that_it_does_not_define() -> None:
    """Where this fails: a name that Linux 4.18 has belongs in the list above, any other below an #ifndef in native/."""
    source = "".join(path.read_text() for path in sorted((ROOT / "native").glob("*.[ch]")))
    code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    defined = set(re.findall(r"#ifndef (KVM_\w+)\n#define \1\b", code))
    used = set(re.findall(r"\bKVM_[A-Z0-9_]+\b", code))
    assert used - defined <= set(IN_LINUX_4_18.split())


def test_readme_names_the_coverage_below_which_ci_fails() -> None:
    row = re.search(r"^\| the package's lines and branches that the tests run \| (\d+) % \|", README, re.MULTILINE)
    assert row is not None
    assert int(row[1]) == SETTINGS["tool"]["coverage"]["report"]["fail_under"]
    assert "make coverage" in (ROOT / ".github/workflows/ci.yml").read_text()


def test_the_metadata_name_licence_and_needs() -> None:
    metadata = distribution("kvmbind").metadata
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    needs = [need for need in metadata.get_all("Requires-Dist") or [] if "extra ==" not in need]
    assert needs == ["cffi>=1.16"]
    assert not any(classifier.startswith("License ::") for classifier in metadata.get_all("Classifier") or [])
