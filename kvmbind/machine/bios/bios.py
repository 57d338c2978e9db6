"""What the services work on, and how a call reaches its service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmbind.machine.bios import rom, services
from kvmbind.machine.bios.brake import Brake
from kvmbind.machine.bios.call import Call
from kvmbind.machine.bios.data_area import KEY_RING_END, KEY_RING_FIRST, DataArea
from kvmbind.machine.memory import EXTENDED_AREA

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmbind.machine.devices.keyboard import KeyboardController
    from kvmbind.machine.devices.serial import SerialPort
    from kvmbind.machine.disk import Disk
    from kvmbind.machine.host import Host
    from kvmbind.machine.images.image import ProtectedStart, Start
    from kvmbind.machine.memory import PhysicalMemory
    from kvmbind.machine.video import Video

_DISK, _OLD_DISK = 0x13, 0x40  # a BIOS with disks moves its floppies to 40h, and programs call them there
_COLOUR_TEXT_AND_FPU = 0x0022
_FLOPPY_DRIVE = 0x0001
_ENHANCED_KEYBOARD = 0x10
_TEXT_80_BY_25 = 0x03


class Bios:
    """The BIOS of one machine. Its services run while a processor stands at the stub's OUT.

    Attributes:
        memory: The guest's memory.
        data: The BIOS data area in it.
        video: The display.
        keyboard: The keyboard controller, where the keyboard's interrupt finds the key.
        disks: The drives by their numbers.
        host: The machine around it: time, the end.
        serial: The serial port.
        dos_scancode: The second character of an extended key that DOS has still to give.
        brake: What keeps programs that ask for keys again and again from using the host up.
        calls: How often each (vector, AH) was called.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        video: Video,
        keyboard: KeyboardController,
        serial: SerialPort,
        disks: dict[int, Disk],
        host: Host,
    ) -> None:
        """Takes the parts; `power_on` comes next."""
        self.memory = memory
        self.data = DataArea(memory)
        self.video = video
        self.keyboard = keyboard
        self.serial = serial
        self.disks = disks
        self.dos_scancode: int | None = None
        self.host = host
        self.brake = Brake(host, video.frame)
        self.calls: dict[tuple[int, int], int] = {}

    def power_on(self, start: Start | ProtectedStart) -> int:
        """Puts the ROM, the vectors and the data area into memory.

        Returns:
            The address of the first instruction; the ROM goes on to `start`.
        """
        self.memory.burn(rom.contents(), rom.BASE)
        self.memory.burn(*rom.boot_block(start))
        self.memory.write(rom.vectors(), 0)
        data = self.data
        data.extended_area = EXTENDED_AREA >> 4
        data.memory_kib = EXTENDED_AREA >> 10
        self.memory.set_u8(EXTENDED_AREA, 1)  # its size in KiB
        floppies = sum(number < 0x80 for number in self.disks)
        data.equipment = _COLOUR_TEXT_AND_FPU | (_FLOPPY_DRIVE if floppies else 0)
        data.disks = len(self.disks) - floppies
        data.serial_ports = 0x3F8
        data.key_head = data.key_tail = data.key_ring_start = KEY_RING_FIRST
        data.key_ring_end = KEY_RING_END
        data.keyboard_type = _ENHANCED_KEYBOARD
        data.ticks = self.host.ticks_since_midnight()
        for number, disk in self.disks.items():
            if number >= 0x80:
                self.memory.burn(disk.table(), rom.BASE + rom.DISK_TABLES + (number & 1) * rom.DISK_TABLE_BYTES)
        self.video.set_mode(_TEXT_80_BY_25)
        return rom.BASE + rom.directory().power_on

    def trap(self, stack: int, on_call: Callable[[Call], object] | None = None) -> Call | None:
        """Serves the call whose registers lie at SS:SP, which are the high and the low word of `stack`.

        Args:
            stack: SS and SP.
            on_call: Told of the call, if it is a new one.

        Returns:
            The call, if the guest is still in it, and will ask again.
        """
        call = Call(self.memory, stack >> 16, stack & 0xFFFF)
        if call.vector == _OLD_DISK:
            call.vector = _DISK
        if not call.is_resumed:
            key = services.key(call.vector, call.ah)
            self.calls[key] = self.calls.get(key, 0) + 1
            if on_call is not None:
                on_call(call)
        services.find(call.vector, call.ah)(self, call)
        call.store()
        return None if call.is_done else call

    def is_ready_for_key(self) -> bool:
        """Tells whether the program has taken every key that was pressed so far."""
        return self.keyboard.is_idle and self.data.key_head == self.data.key_tail
