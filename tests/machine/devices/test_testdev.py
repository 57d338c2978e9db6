"""What test programs look for: the machine's size behind 510h, latch and interrupt lines of the test device."""

from __future__ import annotations

from kvmbind.machine.devices.firmware_configuration import FirmwareConfiguration
from kvmbind.machine.devices.testdev import PcTestdev, PcTestdevMemory
from tests.machine.conftest import FakeHost


def item(device: FirmwareConfiguration, key: int, length: int) -> int:
    device.write(0x510, 2, key)
    return int.from_bytes(bytes(device.read(0x511, 1) for _ in range(length)), "little")


def test_memory_and_processors_are_read_byte_by_byte() -> None:
    device = FirmwareConfiguration(memory_bytes=128 << 20, processors=3)
    assert item(device, 3, 8) == 128 << 20
    assert item(device, 5, 2) == 3
    assert item(device, 5, 2) == 3


def test_bytes_behind_an_item_and_of_others_are_zero() -> None:
    device = FirmwareConfiguration(memory_bytes=128 << 20, processors=3)
    assert item(device, 5, 8) == 3
    for key in (0, 1, 0x19, 0xFFFF):
        assert item(device, key, 8) == 0
    assert device.read(0x510, 2) == 0


def test_the_latch_keeps_what_is_written_in_any_width() -> None:
    device = PcTestdev(FakeHost())
    device.write(0xE0, 4, 0x11223344)
    assert (device.read(0xE0, 4), device.read(0xE0, 1), device.read(0xE1, 1), device.read(0xE2, 2)) == (
        0x11223344,
        0x44,
        0x33,
        0x1122,
    )
    device.write(0xE1, 1, 0xABAA)
    assert device.read(0xE0, 4) == 0x1122AA44
    device.write(0xE3, 4, 0x55667788)
    assert device.read(0xE0, 4) == 0x8822AA44


def test_a_line_is_what_the_lowest_bit_says() -> None:
    host = FakeHost()
    device = PcTestdev(host)
    device.write(0x2000, 1, 1)
    device.write(0x2017, 4, 0xFFFFFFFE)
    assert host.levels == [(0, True), (23, False)]


def test_a_page_to_forget_is_taken_and_gives_nothing() -> None:
    device = PcTestdev(FakeHost())
    device.write(0xE4, 4, 0x1000)
    assert (device.read(0xE4, 4), device.read(0x2000, 1), device.read(0xE0, 4)) == (0, 0, 0)


def test_its_memory_keeps_what_is_written_up_to_its_end() -> None:
    memory = PcTestdevMemory()
    memory.write(0x1000, 4, 0x11223344)
    assert (memory.read(0x1000, 4), memory.read(0x1001, 1), memory.read(0x1003, 2)) == (0x11223344, 0x33, 0x11)
    memory.write(0xFFFE, 4, 0x55667788)
    assert (memory.read(0xFFFE, 4), memory.read(0xFFFF, 1)) == (0x7788, 0x77)
