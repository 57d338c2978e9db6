"""A VCPU's registers as a flat list of names, for endings and diagnoses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.abi.errors import ZxError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvmbind.kvm.registers import Registers, SpecialRegisters
    from kvmbind.machine.history import BiosExit
    from kvmbind.objects.vcpu import Vcpu

SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")
_PROTECTION, _VIRTUAL_8086 = 1, 1 << 17


def read(vcpu: Vcpu) -> dict[str, int]:
    """Returns all general registers, selectors and bases of segments, and control registers; {} if KVM cannot tell."""
    try:
        return _as_dict(vcpu.read_registers(), vcpu.read_special())
    except ZxError:
        return {}


def read_last_exit(vcpu: Vcpu) -> dict[str, int]:
    """Returns the same of the last exit; {} if there was none, or KVM keeps none."""
    kept = vcpu.read_exit_registers()
    return _as_dict(*kept) if kept is not None else {}


def _as_dict(general: Registers, special: SpecialRegisters) -> dict[str, int]:
    found = general._asdict()
    for name in SEGMENTS:
        segment = getattr(special, name)
        found[name] = segment.selector
        found[f"{name}_base"] = segment.base
    found |= {name: getattr(special, name) for name in ("cr0", "cr2", "cr3", "cr4", "efer")}
    return found


def of_call(call: BiosExit) -> dict[str, int]:
    """Returns those of a BIOS call's caller that the stub knows."""
    names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "ds", "es", "rbp", "rsp")
    found = dict(zip(names, call.registers, strict=True))
    found |= {"cs": call.cs, "cs_base": call.cs << 4, "rip": call.ip}
    return found | {"ds_base": found["ds"] << 4, "es_base": found["es"] << 4}


def is_real_mode(registers: Mapping[str, int]) -> bool:
    """Tells whether the processor was in real mode."""
    return not registers.get("cr0", 0) & _PROTECTION


def describe(registers: Mapping[str, int]) -> list[str]:
    """Returns lines for a person."""
    if not registers:
        return ["registers: unknown"]
    width = 8 if max(registers[name] for name in ("rax", "rbx", "rsp", "rip")) < 1 << 32 else 16
    rows = (("rax", "rbx", "rcx", "rdx"), ("rsi", "rdi", "rbp", "rsp"), ("rip", "rflags", "cr0", "cr3"))
    lines = [" ".join(f"{name:>6}={registers[name]:0{width}x}" for name in row) for row in rows]
    lines.append("  ".join(f"{name}={registers[name]:04x}" for name in SEGMENTS))
    return lines
