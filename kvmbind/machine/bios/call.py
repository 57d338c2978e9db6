"""A call of a BIOS service: the caller's registers, as the stub has pushed them on its stack."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from typing import Self

    from kvmbind.machine.memory import PhysicalMemory

# EDI ESI EBP (ESP: free) EBX EDX ECX EAX, ES DS, vector, action, IP CS FLAGS; native/bios/bios.S pushes it.
_FRAME = struct.Struct("<8I2H2B3H")

RETURN, SLEEP, ASK_AGAIN = 0, 1, 2  # the stub's actions
_CARRY, _ZERO = 0x0001, 0x0040


class _Part:
    """A word or byte of a 32-bit register."""

    __slots__ = ("_mask", "_register", "_shift")

    def __init__(self, register: str, shift: int, mask: int) -> None:
        self._register = register
        self._shift = shift
        self._mask = mask

    @overload
    def __get__(self, call: None, owner: type) -> Self: ...
    @overload
    def __get__(self, call: Call, owner: type) -> int: ...
    def __get__(self, call: Call | None, owner: type) -> int | Self:
        if call is None:
            return self
        value: int = getattr(call, self._register)
        return value >> self._shift & self._mask

    def __set__(self, call: Call, value: int) -> None:
        kept = getattr(call, self._register) & ~(self._mask << self._shift)
        setattr(call, self._register, kept | (value & self._mask) << self._shift)


class _Flag:
    """A bit of the flags that the caller gets back."""

    __slots__ = ("_bit",)

    def __init__(self, bit: int) -> None:
        self._bit = bit

    @overload
    def __get__(self, call: None, owner: type) -> Self: ...
    @overload
    def __get__(self, call: Call, owner: type) -> bool: ...
    def __get__(self, call: Call | None, owner: type) -> bool | Self:
        if call is None:
            return self
        return bool(call.flags & self._bit)

    def __set__(self, call: Call, value: bool) -> None:
        call.flags = call.flags | self._bit if value else call.flags & ~self._bit


class Call:
    """The registers of whoever called a service; `store` gives them back.

    Attributes:
        scratch: Keeps a number from one look at the call to the next; what a new call has there means nothing.
        progress: Its low half, and `kept` the high one.
        sp: The caller's SP, behind the call.
        is_resumed: Whether the service has been asked in this call before.
    """

    __slots__ = (
        *("_addr", "_memory", "action", "cs", "ds", "eax", "ebp", "ebx", "ecx", "edi", "edx", "es", "esi", "flags"),
        *("ip", "is_resumed", "scratch", "sp", "vector"),
    )
    action: int

    ax, al, ah = _Part("eax", 0, 0xFFFF), _Part("eax", 0, 0xFF), _Part("eax", 8, 0xFF)
    bx, bl, bh = _Part("ebx", 0, 0xFFFF), _Part("ebx", 0, 0xFF), _Part("ebx", 8, 0xFF)
    cx, cl, ch = _Part("ecx", 0, 0xFFFF), _Part("ecx", 0, 0xFF), _Part("ecx", 8, 0xFF)
    dx, dl, dh = _Part("edx", 0, 0xFFFF), _Part("edx", 0, 0xFF), _Part("edx", 8, 0xFF)
    si, di, bp = _Part("esi", 0, 0xFFFF), _Part("edi", 0, 0xFFFF), _Part("ebp", 0, 0xFFFF)
    progress, kept = _Part("scratch", 0, 0xFFFF), _Part("scratch", 16, 0xFFFF)
    carry, zero = _Flag(_CARRY), _Flag(_ZERO)

    def __init__(self, memory: PhysicalMemory, ss: int, sp: int) -> None:
        """Reads the registers from the stack at SS:SP."""
        self._memory = memory
        self._addr = (ss << 4) + sp
        frame = _FRAME.unpack(memory.read(self._addr, _FRAME.size))
        self.edi, self.esi, self.ebp, self.scratch, self.ebx, self.edx, self.ecx, self.eax = frame[:8]
        self.es, self.ds, self.vector, self.action, self.ip, self.cs, self.flags = frame[8:]
        self.sp = sp + _FRAME.size & 0xFFFF
        self.is_resumed = self.action in (SLEEP, ASK_AGAIN)
        self.action = RETURN

    @property
    def is_done(self) -> bool:
        """Whether it returns to the caller, rather than sleeping or asking again."""
        return self.action == RETURN

    def store(self) -> None:
        """Gives the registers back, and tells the stub whether to return, to sleep and ask again, or to ask again."""
        frame = _FRAME.pack(
            *(self.edi, self.esi, self.ebp, self.scratch, self.ebx, self.edx, self.ecx, self.eax),
            *(self.es, self.ds, self.vector, self.action, self.ip, self.cs, self.flags),
        )
        self._memory.write(frame, self._addr)

    def sleep(self) -> None:
        """Makes the guest wait for an interrupt, any one, and call again."""
        self.action = SLEEP

    def ask_again(self) -> None:
        """Makes the guest call again at once; it takes interrupts before."""
        self.action = ASK_AGAIN

    def fail(self, status: int) -> None:
        """Returns CF = 1 and a status in AH."""
        self.ah = status
        self.carry = True

    def succeed(self) -> None:
        """Returns CF = 0 and AH = 0."""
        self.ah = 0
        self.carry = False
