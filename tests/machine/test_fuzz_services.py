"""Whatever a guest puts into registers and memory, a service raises nothing and comes to an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.machine.conftest import Bench

VECTORS = [0x00, 0x06, 0x09, 0x0C, *range(0x10, 0x1B), 0x20, 0x21, 0x29, 0x40, 0x77]
WORDS = st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF]), st.integers(0, 0xFFFF))
REGISTERS = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp")


@pytest.mark.parametrize("vector", VECTORS, ids="{:02x}h".format)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_service_takes_any_registers_and_any_data_area(bench: Bench, vector: int, data: st.DataObject) -> None:
    spoil = data.draw(st.dictionaries(st.integers(0x400, 0x500), st.integers(0, 0xFF), max_size=8))
    mode = data.draw(st.sampled_from([0x03, 0x13, 0x12, 0x04, 0x06, 0x0D, 0x11, 0x07, None]))
    if mode is not None:
        bench.video.set_mode(mode)
    for addr, value in spoil.items():
        bench.memory.set_u8(addr, value)
    registers = {name: data.draw(WORDS) | data.draw(WORDS) << 16 for name in REGISTERS}
    registers |= {name: data.draw(WORDS) for name in ("ds", "es", "cs", "ip", "flags")}
    registers["eax"] = registers["eax"] & 0xFFFF00FF | data.draw(st.integers(0, 0xFF)) << 8
    call = bench.call(vector, **registers)
    if call.is_resumed:
        bench.again()
    bench.video.frame()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stack=st.integers(0, 0xFFFFFFFF), garbage=st.binary(min_size=64, max_size=64))
def test_a_call_may_lie_anywhere(bench: Bench, stack: int, garbage: bytes) -> None:
    bench.memory.write(garbage, ((stack >> 16) << 4) + (stack & 0xFFFF))
    bench.bios.trap(stack)
