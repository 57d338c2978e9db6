"""The example images: what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvmbind
from kvmbind.machine.ending import Reason
from kvmbind.machine.images.detect import detect
from kvmbind.machine.screen.frames import Picture

pytestmark = pytest.mark.kvm

IMAGES = Path(__file__).resolve().parents[2] / "examples" / "images"
DEADLINE_S = 60


BOOT_SECTORS = {"clock", "counter", "echo", "hello", "picture"}


def test_every_image_has_its_source_and_is_a_boot_sector_or_for_multiboot() -> None:
    names = {path.stem for path in IMAGES.glob("*.S")}
    assert names == {path.stem for path in IMAGES.glob("*.bin")} == BOOT_SECTORS | {"smp"}
    formats = {path.stem: detect(path.read_bytes()) for path in IMAGES.glob("*.bin")}
    assert formats == dict.fromkeys(BOOT_SECTORS, "boot") | {"smp": "multiboot"}


def test_hello_says_it_and_stops() -> None:
    ending = kvmbind.Machine(IMAGES / "hello.bin").run(DEADLINE_S)
    assert (ending.reason, ending.screen) == (Reason.HALTED, "Hello from real mode")


def test_counter_shows_each_interrupt_that_is_fired_at_it() -> None:
    with kvmbind.Machine(IMAGES / "counter.bin") as machine:
        irq = machine.interrupt(0x40)
        machine.start()
        machine.expect("00000", timeout_s=DEADLINE_S)
        for count in range(1, 21):
            irq.trigger()
            machine.expect(f"{count:05}", timeout_s=DEADLINE_S)


def test_echo_prints_what_is_typed_until_escape() -> None:
    ending = kvmbind.Machine(IMAGES / "echo.bin", keys="one{enter}two{esc}").run(DEADLINE_S)
    assert (ending.reason, ending.screen) == (Reason.TERMINATED, "Type; Escape ends it.\none\ntwo")


def test_picture_draws_stripes_in_colours_of_its_own() -> None:
    machine = kvmbind.Machine(IMAGES / "picture.bin")
    machine.run(DEADLINE_S)
    frame = machine.frame()
    assert isinstance(frame, Picture)
    assert frame.pixels == bytes((x + y >> 2) & 63 for y in range(200) for x in range(320))
    assert frame.palette[:3] == bytes((0, 255, 130))
    assert frame.palette[63 * 3 : 64 * 3] == bytes((255, 0, 130))


def test_clock_sees_ten_ticks() -> None:
    ending = kvmbind.Machine(IMAGES / "clock.bin").run(DEADLINE_S)
    assert ending.reason is Reason.TERMINATED
    assert ending.screen.endswith(" ten ticks")
    assert ending.screen.count(".") >= 10


@pytest.mark.parametrize("smp", [1, 2, 4, 9])
def test_each_processor_of_smp_writes_its_line_and_the_first_counts_them(smp: int) -> None:
    ending = kvmbind.Machine(IMAGES / "smp.bin", smp=smp).run(DEADLINE_S)
    assert ending.reason is Reason.HALTED
    lines = [f"processor {number:02}" for number in range(smp)]
    assert ending.screen.splitlines() == [*lines, f"{smp:02} are here"]
