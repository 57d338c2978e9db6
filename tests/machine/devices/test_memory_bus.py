"""The memory bus: each access goes to the device where it begins."""

from __future__ import annotations

from kvmbind.machine.devices.memory_bus import MemoryBus
from kvmbind.machine.devices.testdev import PcTestdevMemory


def test_an_address_belongs_to_the_device_whose_window_it_is_in() -> None:
    bus, first, second = MemoryBus(), PcTestdevMemory(), PcTestdevMemory()
    bus.attach(first, 0x1000, 0x100)
    bus.attach(second, 0x1100, 0x100)
    found = {addr: bus.find(addr) for addr in (0xFFF, 0x1000, 0x10FF, 0x1100, 0x11FF, 0x1200)}
    assert [window and (window.device, window.start) for window in found.values()] == [
        None,
        (first, 0x1000),
        (first, 0x1000),
        (second, 0x1100),
        (second, 0x1100),
        None,
    ]
