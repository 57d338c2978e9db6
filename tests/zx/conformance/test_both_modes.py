"""What Zircon's hypervisor suite checks of a VCPU, in real mode and in long mode: vectors, registers, modes, the end.

What KVM does in another way than Zircon's hypervisor is in test_kvm_itself.py.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvmbind import VcpuState, zx
from kvmbind.zx import PortPacket, Status
from tests.zx.conformance.long_mode import CODE_64, TO_32, TO_64, TO_USER, TO_USER_32, write_msr
from tests.zx.conformance.reporter import DEADLINE_S, OUT_REPORT, READY, Reporter, report

if TYPE_CHECKING:
    from kvmbind import Vcpu
    from tests.zx.conformance.reporter import Mode

pytestmark = pytest.mark.kvm

NMI, INVALID_OPCODE = 2, 6
CF, ALWAYS, AC = 1, 2, 1 << 18
PE, ET, NE, WP, PG = 1, 1 << 4, 1 << 5, 1 << 16, 1 << 31
OUT_READY = "e681"

CPUINFO = Path("/proc/cpuinfo").read_text(encoding="utf-8")
VENDOR = next(line.split()[-1] for line in CPUINFO.splitlines() if line.startswith("vendor_id"))
EMULATED_SVM = "QEMU TCG" in CPUINFO
refuses_as_amd = pytest.mark.xfail(
    EMULATED_SVM, reason="the processor enters, with a code segment that its SVM refuses", strict=True
)


@pytest.fixture(params=["real", "long"])
def reporter(request: pytest.FixtureRequest, opened: contextlib.ExitStack) -> Reporter:
    return Reporter(opened, request.param)


@pytest.fixture
def long(opened: contextlib.ExitStack) -> Reporter:
    return Reporter(opened, "long")


def ready(vcpu: Vcpu) -> None:
    """Enters until the code says that it has come so far."""
    assert vcpu.enter(DEADLINE_S).guest_io.port == READY


# Vectors


@pytest.mark.parametrize("vector", [NMI, 16, 20, 31, 32, 128, 255])
def test_a_vector_comes_to_its_handler(reporter: Reporter, vector: int) -> None:
    vcpu = reporter.idle()
    assert zx.zx_vcpu_interrupt(vcpu.handle, vector) is Status.OK
    assert report(vcpu) == vector


@pytest.mark.parametrize("vectors", [(32, 16), (255, 32), (80, 64, 48, 16)])
def test_the_highest_vector_comes_first_and_none_is_lost(reporter: Reporter, vectors: tuple[int, ...]) -> None:
    vcpu = reporter.idle()
    for vector in reversed(vectors):
        assert zx.zx_vcpu_interrupt(vcpu.handle, vector) is Status.OK
    assert tuple(report(vcpu) for _ in vectors) == vectors


def test_an_nmi_comes_before_every_vector(reporter: Reporter) -> None:
    vcpu = reporter.idle()
    for vector in (255, 32, NMI):
        assert zx.zx_vcpu_interrupt(vcpu.handle, vector) is Status.OK
    assert [report(vcpu) for _ in range(3)] == [NMI, 255, 32]


def test_an_interrupt_from_another_thread_ends_a_halt(reporter: Reporter) -> None:
    vcpu = reporter.idle()
    thread = threading.Thread(target=zx.zx_vcpu_interrupt, args=(vcpu.handle, 32))
    thread.start()
    assert report(vcpu) == 32
    thread.join()


# Registers


#: Where the stack is when RSP is doubled.
STACK = 0x4800
REGISTERS: dict[Mode, tuple[str, ...]] = {
    "real": ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    "long": ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16))),
}


def double_each(mode: Mode) -> str:
    """ADD of each register to itself, and then flags of CF and AC alone: push 40003h; popf."""
    low = [f"01{0xC0 + 9 * number:02x}" for number in range(8)]
    if mode == "real":
        return "".join(f"66{add}" for add in low) + "6668 03000400 669d"
    return "".join([f"48{add}" for add in low] + [f"4d{add}" for add in low]) + "68 03000400 9d"


def test_what_the_guest_makes_of_registers_that_were_written_is_read_with_its_flags(reporter: Reporter) -> None:
    reporter.load(bytes.fromhex(OUT_READY + double_each(reporter.mode)) + OUT_REPORT)
    vcpu = reporter.vcpu()
    ready(vcpu)
    width = 32 if reporter.mode == "real" else 64
    written = {name: number << width - 8 | number for number, name in enumerate(REGISTERS[reporter.mode], 1)}
    written["rsp"] = STACK
    assert zx.zx_vcpu_write_state(vcpu.handle, zx.ZX_VCPU_STATE, VcpuState(**written, rflags=0)) is Status.OK
    report(vcpu)
    doubled = {name: value * 2 for name, value in written.items()}
    assert zx.zx_vcpu_read_state(vcpu.handle, zx.ZX_VCPU_STATE) == (Status.OK, VcpuState(**doubled, rflags=CF | AC))


# mov eax, cr4; or ax, 600h; mov cr4, eax
ENABLE_SSE = {"real": "0f20e0 0d0006 0f22e0", "long": "0f20e0 660d0006 0f22e0"}
DISABLE_SSE = {"real": "0f20e0 25fff9 0f22e0", "long": "0f20e0 6625fff9 0f22e0"}
# movups xmm0, [si]; movups xmm7, [si + 16]; and back to [di]
LOAD = {"real": "0f1004 0f107c10", "long": "0f1006 0f107e10"}
STORE = {"real": "0f1105 0f117d10", "long": "0f1107 0f117f10"}
# or eax, 40000h; mov cr4, eax; and XCR0 from then on: xor ecx, ecx; xor edx, edx; mov eax, 3 or 1; xsetbv
ENABLE_XSAVE = {"real": "660d00000400 0f22e0", "long": "0d00000400 0f22e0"}
SET_XCR0 = {"real": "6631c9 6631d2 66b8{:02x}000000 0f01d1", "long": "31c9 31d2 b8{:02x}000000 0f01d1"}
LOADED, STORED = 0x4800, 0x4C00


def extended(reporter: Reporter, code: str, number: int) -> tuple[Vcpu, bytes]:
    """A VCPU that loads 32 bytes of its own into XMM registers; and the bytes."""
    reporter.load(bytes.fromhex(code) + OUT_REPORT)
    data = bytes(range(number, number + 32))
    reporter.guest.write(data, LOADED + 32 * number)
    vcpu = reporter.vcpu()
    vcpu.write_state(VcpuState(rsi=LOADED + 32 * number, rdi=STORED + 32 * number))
    ready(vcpu)
    return vcpu, data


def stored(reporter: Reporter, number: int) -> bytes:
    return reporter.guest.read(STORED + 32 * number, 32)


def test_the_extended_registers_of_each_vcpu_are_kept_across_exits(reporter: Reporter) -> None:
    mode = reporter.mode
    code = ENABLE_SSE[mode] + LOAD[mode] + OUT_READY + STORE[mode]
    vcpus = [extended(reporter, code, number) for number in range(3)]
    for number, (vcpu, data) in enumerate(vcpus):
        report(vcpu)
        assert stored(reporter, number) == data


def test_the_guest_goes_on_without_sse_in_xcr0_and_has_its_registers_when_it_is_back(reporter: Reporter) -> None:
    mode = reporter.mode
    with_sse, without = SET_XCR0[mode].format(3), SET_XCR0[mode].format(1)
    code = (
        ENABLE_SSE[mode] + ENABLE_XSAVE[mode] + with_sse + LOAD[mode] + without + OUT_READY
        + OUT_READY + with_sse + OUT_READY + STORE[mode]
    )  # fmt: skip
    vcpu, data = extended(reporter, code, 0)
    ready(vcpu)
    ready(vcpu)
    report(vcpu)
    assert stored(reporter, 0) == data


def test_an_sse_instruction_is_invalid_once_the_guest_has_switched_sse_off(reporter: Reporter) -> None:
    mode = reporter.mode
    vcpu, data = extended(reporter, ENABLE_SSE[mode] + LOAD[mode] + DISABLE_SSE[mode] + OUT_READY + STORE[mode], 0)
    assert report(vcpu) == INVALID_OPCODE
    assert stored(reporter, 0) == bytes(len(data))


# movd xmm3, esi; out 81h, al; movd eax, xmm3
BY_REGISTERS = "660f6ede e681 660f7ed8"
# fninit; fldpi; fld1; out 81h, al; faddp; fstp qword [rdi]
BY_X87 = "dbe3 d9eb d9e8 e681 dec1 dd1f"


def test_a_user_has_extended_registers_of_both_kinds(long: Reporter) -> None:
    long.load(bytes.fromhex(ENABLE_SSE["long"] + TO_USER + BY_REGISTERS + BY_X87) + OUT_REPORT)
    vcpus = [long.vcpu() for _ in range(2)]
    for number, vcpu in enumerate(vcpus):
        vcpu.write_state(VcpuState(rsi=0x1234 + number, rdi=STORED + 8 * number))
        ready(vcpu)
    for number, vcpu in enumerate(vcpus):
        ready(vcpu)
        assert vcpu.read_state().rax == 0x1234 + number
    for number, vcpu in enumerate(vcpus):
        report(vcpu)
        [value] = struct.unpack("<d", long.guest.read(STORED + 8 * number, 8))
        assert value == 4.141592653589793


# Modes


def test_cr0_in_long_mode_begins_with_paging_and_without_ne_which_the_guest_can_set(long: Reporter) -> None:
    # mov rbx, cr0; mov eax, ebx; or eax, 20h; mov cr0, rax; mov rax, cr0
    after = long.run("0f20c3 89d8 83c820 0f22c0 0f20c0")
    assert after.rbx == PE | ET | WP | PG
    assert after.rax == after.rbx | NE


# xor eax, eax; then 40h, INC EAX of 32 bits and a prefix of 64; mov ebx, eax or mov ecx, eax
INTO_EBX, INTO_ECX = "31c0 40 89c3", "31c0 40 89c1"


def test_the_guest_goes_to_compatibility_mode_and_back(long: Reporter) -> None:
    after = long.run(TO_32 + INTO_EBX + TO_64 + INTO_ECX)
    assert (after.rbx, after.rcx) == (1, 0)


def test_an_exit_in_compatibility_mode_goes_on_in_it(long: Reporter) -> None:
    long.load(bytes.fromhex(TO_32 + OUT_READY + INTO_EBX) + OUT_REPORT)
    vcpu = long.vcpu()
    ready(vcpu)
    code = vcpu.read_special().cs
    assert (code.l, code.db) == (0, 1)
    report(vcpu)
    assert vcpu.read_state().rbx == 1


# Calls of a user


SYSCALL, SYSENTER = "0f05", "0f34"
EFER, STAR, LSTAR = 0xC0000080, 0xC0000081, 0xC0000082
SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 0x174, 0x175, 0x176
LONG_WITH_SYSCALL = 0x501
ENTERED_AT, ENTERED = 0x4000, 0x55
PREPARED = {
    SYSCALL: write_msr(EFER, LONG_WITH_SYSCALL) + write_msr(STAR, CODE_64 << 32) + write_msr(LSTAR, ENTERED_AT),
    SYSENTER: write_msr(SYSENTER_CS, CODE_64) + write_msr(SYSENTER_ESP, STACK) + write_msr(SYSENTER_EIP, ENTERED_AT),
}


def call_as_user(long: Reporter, user: str, instruction: str) -> tuple[VcpuState, int]:
    """The registers at the report, which is 55h where the system is entered; and where it was called from."""
    long.guest.write(struct.pack("<BI", 0xB8, ENTERED) + OUT_REPORT, ENTERED_AT)  # mov eax, 55h; out 80h, al
    code = PREPARED[instruction] + user + instruction
    return long.run(code), long.behind(code)


def test_a_user_enters_the_system_by_syscall_which_keeps_where_it_came_from(long: Reporter) -> None:
    after, behind = call_as_user(long, TO_USER, SYSCALL)
    assert (after.rax, after.rcx) == (ENTERED, behind)


@pytest.mark.parametrize(
    "user", [pytest.param(TO_USER, id="64 bits"), pytest.param(TO_USER_32, id="32 bits", marks=refuses_as_amd)]
)
def test_a_user_enters_the_system_by_sysenter_on_intel_and_on_amd_it_is_invalid_in_long_mode(
    long: Reporter, user: str
) -> None:
    after, _ = call_as_user(long, user, SYSENTER)
    assert after.rax == (ENTERED if VENDOR == "GenuineIntel" else INVALID_OPCODE)


# The end


def test_another_thread_deletes_a_vcpu_that_has_run_and_the_guest_may_have_more(reporter: Reporter) -> None:
    handle = reporter.idle().release()
    statuses: list[Status] = []
    thread = threading.Thread(target=lambda: statuses.append(zx.zx_handle_close(handle)))
    thread.start()
    thread.join(DEADLINE_S)
    assert statuses == [Status.OK]
    assert zx.zx_vcpu_enter(handle) == (Status.BAD_HANDLE, PortPacket())
    vcpu = reporter.idle()
    vcpu.interrupt(32)
    assert report(vcpu) == 32
