"""Where a machine was when it ended, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine import registers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvmbind.machine.ending import Ending
    from kvmbind.machine.pc import Pc

_BYTES = 16
_INSTRUCTIONS = 4
_16_BIT, _32_BIT, _64_BIT = 16, 32, 64
_LONG_MODE = 0x400


def describe(ending: Ending, pc: Pc) -> list[str]:
    """Returns lines: why it ended, where, the registers, the bytes there and what they mean, the last exits."""
    lines = [f"{ending.reason}: {ending.detail}" if ending.detail else str(ending.reason)]
    known = ending.registers
    if known:
        of = "" if ending.registers_are_of == "end" else ", at its last exit: what it did then is lost"
        lines.append(f"at {known['cs']:04x}:{known['rip']:04x}{of}")
    lines += registers.describe(known)
    if known:
        addr = known["cs_base"] + known["rip"]
        code = pc.memory.read(addr, _BYTES)
        lines.append(f"bytes there: {code.hex(' ')}")
        lines += disassemble(code, known["rip"], _bits(known))
    lines += ["last exits:", *(f"  {line}" for line in pc.history.lines())] if pc.history.lines() else ["no exits"]
    return lines


def _bits(known: Mapping[str, int]) -> int:
    if registers.is_real_mode(known):
        return _16_BIT
    return _64_BIT if known["efer"] & _LONG_MODE else _32_BIT


def disassemble(code: bytes, ip: int, bits: int) -> list[str]:
    """Returns the first instructions, one line each; what to install if there is no disassembler."""
    try:
        from iced_x86 import Decoder, Formatter, FormatterSyntax
    except ImportError:
        return ["no disassembly: pip install 'kvmbind[images]'"]
    formatter = Formatter(FormatterSyntax.NASM)
    lines: list[str] = []
    for instruction in Decoder(bits, code, ip=ip):
        if not instruction or len(lines) == _INSTRUCTIONS:
            break
        lines.append(f"  {instruction.ip:04x}  {formatter.format(instruction)}")
    return lines
