"""What Zircon's hypervisor emulated or told the VMM, and KVM does itself: no packet comes of it.

docs/zircon.md has the list. Registers are those at the one exit that the guest makes, an OUT.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvmbind import TimedOutError, VcpuState
from tests.zx.conformance.long_mode import TO_USER
from tests.zx.conformance.reporter import OUT_REPORT, Reporter, report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.zx.conformance.reporter import Mode

pytestmark = pytest.mark.kvm

DIVIDE_ERROR, GENERAL_PROTECTION = 0, 13
CPUID, RDMSR, WRMSR, PAUSE = "0fa2", "0f32", "0f30", "f390"
APIC_BASE, NO_MSR, ICR = 0x1B, 0x12345, 0x830
X2APIC_MODE, APIC_ENABLED = 1 << 10, 1 << 11
XSAVE, HYPERVISOR, X2APIC = 1 << 26, 1 << 31, 1 << 21
NE, PG = 1 << 5, 1 << 31
CR4_RESERVED = 1 << 15
# mov ebx, cr0; mov edx, ebx; or edx, 20h; mov cr0, edx; mov eax, cr0
SET_NE = "0f20c3 6689da 6683ca20 0f22c2 0f20c0"
# mov cr0, eax; mov cr4, eax
WRITE_CR0, WRITE_CR4 = "0f22c0", "0f22e0"
# mov ebx, cr4; or ebx, 40000h; mov cr4, ebx; xsetbv
SET_XCR = "0f20e3 6681cb00000400 0f22e3 0f01d1"

#: Where KVM was told to, it takes unknown MSRs for zero.
IGNORE_MSRS = Path("/sys/module/kvm/parameters/ignore_msrs")
IGNORES_MSRS = IGNORE_MSRS.exists() and IGNORE_MSRS.read_text(encoding="ascii").strip() != "N"


@pytest.fixture(scope="module")
def real() -> Iterator[Reporter]:
    with contextlib.ExitStack() as opened:
        yield Reporter(opened, "real")


@pytest.fixture(scope="module")
def long() -> Iterator[Reporter]:
    with contextlib.ExitStack() as opened:
        yield Reporter(opened, "long")


def test_cpuid_says_that_there_is_a_hypervisor_and_an_x2apic(real: Reporter) -> None:
    features = real.run(CPUID, rax=1)
    assert features.rcx & (HYPERVISOR | X2APIC) == HYPERVISOR | X2APIC


def test_cpuid_has_the_apic_id(real: Reporter) -> None:
    ids = [real.run(CPUID, rax=1).rbx >> 24 & 0xFF for _ in range(2)]
    assert ids[1] == ids[0] + 1


def test_a_known_msr_is_emulated(real: Reporter) -> None:
    base = real.run(RDMSR, rcx=APIC_BASE).rax
    assert base & (X2APIC_MODE | APIC_ENABLED) == X2APIC_MODE | APIC_ENABLED


@pytest.mark.parametrize("access", [RDMSR, WRMSR], ids=["read", "write"])
def test_an_unknown_msr_gives_the_guest_a_general_protection_fault(real: Reporter, access: str) -> None:
    assert real.run(access, rcx=NO_MSR).rax == (0 if IGNORES_MSRS else GENERAL_PROTECTION)


def test_cr0_keeps_what_the_guest_writes(real: Reporter) -> None:
    after = real.run(SET_NE)
    assert (after.rbx & NE, after.rax) == (0, after.rbx | NE)


@pytest.mark.parametrize(("code", "value"), [(WRITE_CR0, PG), (WRITE_CR4, CR4_RESERVED)], ids=["CR0", "CR4"])
def test_a_value_that_a_control_register_cannot_have_is_a_general_protection_fault(
    real: Reporter, code: str, value: int
) -> None:
    assert real.run(code, rax=value).rax == GENERAL_PROTECTION


@pytest.mark.parametrize(("value", "allowed"), [(1, True), (0, False)])
def test_xsetbv_is_checked_by_kvm(real: Reporter, value: int, allowed: bool) -> None:
    has_xsave = bool(real.run(CPUID, rax=1).rcx & XSAVE)
    after = real.run(SET_XCR, rax=value)
    assert after.rax == (value if allowed else GENERAL_PROTECTION) or not has_xsave


def test_pause_goes_on(real: Reporter) -> None:
    assert real.run(PAUSE, rax=7).rax == 7


@pytest.mark.parametrize("mode", ["real", "long"])
def test_a_fault_comes_to_the_guests_handler_with_no_exit(opened: contextlib.ExitStack, mode: Mode) -> None:
    assert Reporter(opened, mode).run("31c9 f7f1", rax=7).rax == DIVIDE_ERROR  # xor ecx, ecx; div ecx


# Hypercalls: each vendor's processors have an instruction of their own, and KVM knows both


VMCALL, VMMCALL = "0f01c1", "0f01d9"
IS_INTEL = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
OWN, OTHERS_OWN = (VMCALL, VMMCALL) if IS_INTEL else (VMMCALL, VMCALL)
UNKNOWN = 1234
ENOSYS, EPERM = (1 << 64) - 1000, (1 << 64) - 1
INTERPRETS = Path("/sys/module/kvm_pvm").exists()


@pytest.mark.parametrize("instruction", [OWN, OTHERS_OWN], ids=["own", "another vendor's"])
def test_an_unknown_hypercall_gives_minus_1000_and_a_kvm_that_interprets_never_gets_behind_it(
    long: Reporter, instruction: str
) -> None:
    if not INTERPRETS:
        assert long.run(instruction, rax=UNKNOWN).rax == ENOSYS
        return
    long.load(bytes.fromhex(instruction) + OUT_REPORT)
    vcpu = long.vcpu()
    for _ in range(2):
        with pytest.raises(TimedOutError):
            vcpu.enter(0.1)
        assert vcpu.read_registers().rip == long.behind("")


def test_a_users_hypercall_is_not_permitted(long: Reporter) -> None:
    assert long.run(TO_USER + OWN).rax == EPERM


def test_a_users_hypercall_by_another_vendors_instruction_is_a_general_protection_fault(long: Reporter) -> None:
    assert long.run(TO_USER + OTHERS_OWN).rax == GENERAL_PROTECTION


# Interrupts between VCPUs: no packet GUEST_VCPU comes of any


IPI, NMI, LOWER = 0x40, 2, 0x20
FIXED, NON_MASKABLE = 0x4000 | IPI, 0x4400
SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18
EVERYBODY, NOBODY = 0xFFFFFFFF, 64

IPIS = [
    ("all", FIXED | ALL, 0, [IPI, IPI, IPI]),
    ("all but itself", FIXED | OTHERS, 0, [LOWER, IPI, IPI]),
    ("itself", FIXED | SELF, 0, [IPI, LOWER, LOWER]),
    ("one", FIXED, 2, [LOWER, LOWER, IPI]),
    ("everybody", FIXED, EVERYBODY, [IPI, IPI, IPI]),
    ("nobody", FIXED, NOBODY, [LOWER, LOWER, LOWER]),
    ("NMI to all but itself", NON_MASKABLE | OTHERS, 0, [LOWER, NMI, NMI]),
    ("NMI to one", NON_MASKABLE, 1, [LOWER, NMI, LOWER]),
]


@pytest.mark.parametrize(("command", "destination", "first"), [row[1:] for row in IPIS], ids=[row[0] for row in IPIS])
def test_an_ipi_is_delivered_by_kvm(
    opened: contextlib.ExitStack, command: int, destination: int, first: list[int]
) -> None:
    reporter = Reporter(opened, "real")
    sender = reporter.vcpu()
    vcpus = [sender, reporter.idle(), reporter.idle()]
    sender.write_state(VcpuState(rcx=ICR, rax=command, rdx=destination))
    reporter.make_idle(sender, WRMSR)
    for vcpu in vcpus:
        vcpu.interrupt(LOWER)  # it comes first where no IPI has come
    assert [report(vcpu) for vcpu in vcpus] == first
