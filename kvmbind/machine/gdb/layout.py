"""The registers that gdb knows, in its order, and where a VCPU has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kvmbind.kvm.registers import Segment

if TYPE_CHECKING:
    from kvmbind.kvm.registers import Registers, SpecialRegisters

PROTECTION, PAGING, LONG_MODE, VIRTUAL_8086 = 1, 1 << 31, 1 << 10, 1 << 17
_SELECTORS = ("cs", "ss", "ds", "es", "fs", "gs")
_BASES = ("fs_base", "gs_base")
_CONTROLS = ("cr0", "cr2", "cr3", "cr4", "efer")
_GENERAL_32 = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
_GENERAL_64 = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
_X87 = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
_SEGMENT_MASK, _SEGMENT_SIZE = 0xF000, 1 << 16


class State(NamedTuple):
    """The registers of a VCPU."""

    general: Registers
    special: SpecialRegisters

    @property
    def is_real_mode(self) -> bool:
        """Whether selectors are paragraphs: real mode, or virtual-8086 mode."""
        return not self.special.cr0 & PROTECTION or bool(self.general.rflags & VIRTUAL_8086)

    @property
    def is_64_bit(self) -> bool:
        """Whether it executes 64-bit code."""
        return bool(self.special.efer & LONG_MODE and self.special.cs.l)

    @property
    def pc(self) -> int:
        """The linear address of the next instruction: CS's base and IP."""
        if self.is_64_bit:
            return self.general.rip
        return self.special.cs.base + self.general.rip & 0xFFFFFFFF


class Register(NamedTuple):
    """A register of the protocol.

    Attributes:
        name: The VCPU's name of it: "rax" for eax too, "pc" for the linear address of the next instruction.
        gdb_name: gdb's.
        bits: Its size.
        type: gdb's name of its type.
        is_known: Whether a VCPU gives it: x87 registers are there for gdb alone, which insists on them.
    """

    name: str
    gdb_name: str
    bits: int
    type: str
    is_known: bool = True


class Layout(NamedTuple):
    """What gdb is told of a processor.

    Attributes:
        architecture: gdb's name of it.
        features: Groups of registers by gdb's name of the group; their order is that of the protocol.
    """

    architecture: str
    features: dict[str, tuple[Register, ...]]

    @property
    def registers(self) -> list[Register]:
        """All registers, in the order of the protocol."""
        return [register for group in self.features.values() for register in group]

    def describe(self) -> str:
        """Returns the target description, which gdb reads as target.xml."""
        lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>"]
        lines += [f"<architecture>{self.architecture}</architecture>", "<osabi>none</osabi>"]
        for feature, registers in self.features.items():
            lines.append(f'<feature name="{feature}">')
            lines += [f'<reg name="{r.gdb_name}" bitsize="{r.bits}" type="{r.type}"/>' for r in registers]
            lines.append("</feature>")
        return "\n".join([*lines, "</target>"])


def _core(general: tuple[str, ...], bits: int) -> tuple[Register, ...]:
    names = general if bits == 64 else tuple(f"e{name[1:]}" for name in general)
    pointers = ("rsp", "rbp")
    return (
        *(
            Register(name, gdb_name, bits, "data_ptr" if name in pointers else f"int{bits}")
            for name, gdb_name in zip(general, names, strict=True)
        ),
        Register("pc", "rip" if bits == 64 else "eip", bits, "code_ptr"),
        Register("rflags", "eflags", 32, "int32"),
        *(Register(name, name, 32, "int32") for name in _SELECTORS),
        *(Register(f"st{n}", f"st{n}", 80, "i387_ext", is_known=False) for n in range(8)),
        *(Register(name, name, 32, "int32", is_known=False) for name in _X87),
    )


def _layout(architecture: str, general: tuple[str, ...], bits: int) -> Layout:
    features = {"org.gnu.gdb.i386.core": _core(general, bits)}
    if bits == 64:
        features["org.gnu.gdb.i386.segments"] = tuple(Register(name, name, 64, "int64") for name in _BASES)
    features["kvmbind.control"] = tuple(Register(name, name, bits, f"int{bits}") for name in _CONTROLS)
    return Layout(architecture, features)


REAL = _layout("i8086", _GENERAL_32, 32)
PROTECTED = _layout("i386", _GENERAL_32, 32)
LONG = _layout("i386:x86-64", _GENERAL_64, 64)


def layout_of(state: State) -> Layout:
    """Returns what fits the mode that a VCPU is in."""
    if state.special.efer & LONG_MODE:
        return LONG
    return REAL if state.is_real_mode else PROTECTED


def read(state: State, register: Register) -> bytes | None:
    """Returns a register's low bits in the guest's byte order; None: nobody knows them."""
    if not register.is_known:
        return None
    value = _value(state, register.name) & (1 << register.bits) - 1
    return value.to_bytes(register.bits // 8, "little")


def _value(state: State, name: str) -> int:
    if name == "pc":
        return state.pc
    if name in _SELECTORS:
        selector: int = getattr(state.special, name).selector
        return selector
    if name in _BASES:
        base: int = getattr(state.special, name.removesuffix("_base")).base
        return base
    found: int = getattr(state.special if name in _CONTROLS else state.general, name)
    return found


def write(state: State, register: Register, data: bytes) -> State:
    """Returns the state with a register changed; one that nobody knows is left alone.

    Raises:
        ValueError: Not its size; or it cannot be had: a selector in protected mode, whose descriptor only the guest
            can load, or a next instruction out of reach of CS.
    """
    if len(data) != register.bits // 8:
        raise ValueError(f"{register.gdb_name} has {register.bits} bits")
    value = int.from_bytes(data, "little")
    name = register.name
    if not register.is_known or read(state, register) == data:
        return state
    general, special = state
    if name == "pc":
        return _go_to(state, value)
    if name in _SELECTORS:
        if not state.is_real_mode:
            raise ValueError("a selector is loaded by the guest alone in protected mode")
        segment: Segment = getattr(special, name)
        value &= 0xFFFF
        return _with_special(state, {name: segment._replace(selector=value, base=value << 4)})
    if name in _BASES:
        segment_name = name.removesuffix("_base")
        segment = getattr(special, segment_name)
        return _with_special(state, {segment_name: segment._replace(base=value)})
    if name in _CONTROLS:
        return _with_special(state, {name: value})
    return State(general._replace(**{name: value}), special)


def _with_special(state: State, changes: dict[str, Any]) -> State:
    return State(state.general, state.special._replace(**changes))


def _go_to(state: State, addr: int) -> State:
    general, special = state
    if state.is_64_bit:
        return State(general._replace(rip=addr), special)
    ip = addr - special.cs.base
    if not state.is_real_mode:
        return State(general._replace(rip=ip & 0xFFFFFFFF), special)
    if not 0 <= ip < _SEGMENT_SIZE:
        selector = addr >> 4 & _SEGMENT_MASK
        special = special._replace(cs=special.cs._replace(selector=selector, base=selector << 4))
        ip = addr - (selector << 4)
        if ip >= _SEGMENT_SIZE:
            raise ValueError(f"no segment of real mode reaches {addr:#x}")
    return State(general._replace(rip=ip), special)
