"""What triggers, waits, packets and acks do to an interrupt: the state machine, without a lock or an fd."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from kvmbind.abi.constants import ZX_VIRTUAL_INTERRUPT_UNTRIGGERED

if TYPE_CHECKING:
    from kvmbind.zircon.signals import Signals


class State(enum.Enum):
    """Zircon's states but WAITING, since a trigger may come before the waiter has woken."""

    IDLE = enum.auto()
    TRIGGERED = enum.auto()
    NEEDACK = enum.auto()
    DESTROYED = enum.auto()


class InterruptState:
    """The state of an interrupt, the triggers that nothing has consumed, and the signal that says so.

    A virtual interrupt has ZX_VIRTUAL_INTERRUPT_UNTRIGGERED from its creation to a trigger, from an ack or a wait that
    sleeps to the next one, and after its end. A trigger of an interrupt that is bound to VCPUs is consumed at once:
    from the bind on the signal is there for good, and such a trigger never comes here.

    Threads: the interrupt's `state_lock` guards everything.
    """

    __slots__ = ("_has_port", "_signals", "_value", "packet_ns", "pending_ns")

    def __init__(self, signals: Signals | None) -> None:
        """Starts idle.

        Args:
            signals: Of a virtual interrupt, with UNTRIGGERED set; None for a physical one, which lacks that signal.
        """
        self._signals = signals
        self._value = State.IDLE
        self._has_port = False
        #: The time of the packet that waits in the port.
        self.packet_ns: int | None = None
        #: The time of the first trigger that neither a wait nor a packet has taken.
        self.pending_ns: int | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the next trigger is the first since all was acknowledged."""
        return self._value is State.IDLE

    @property
    def needs_ack(self) -> bool:
        """Whether a trigger was taken and not acknowledged."""
        return self._value is State.NEEDACK

    @property
    def is_destroyed(self) -> bool:
        """Whether it has ended."""
        return self._value is State.DESTROYED

    def trigger(self, timestamp_ns: int) -> None:
        """Notes a trigger, unless it has ended; the caller sees to the eventfd."""
        self._set_untriggered(False)
        if self._has_port and not self.needs_ack:
            self._value = State.NEEDACK
            if self.packet_ns is None:  # else acknowledged before it was read: the new one is lost, as in Zircon
                self.packet_ns = timestamp_ns
            return
        if self.pending_ns is None:
            self.pending_ns = timestamp_ns
        if self.is_idle:
            self._value = State.TRIGGERED

    def take_by_wait(self) -> int | None:
        """Returns the time of the trigger that waits; if there is none, a wait that sleeps acknowledges the last."""
        timestamp_ns, self.pending_ns = self.pending_ns, None
        if timestamp_ns is not None:
            self._value = State.NEEDACK
        elif self.needs_ack:
            self._acknowledge()
        return timestamp_ns

    def bind_port(self) -> None:
        """Makes a packet of each trigger from now on, and of one that waits, unless the last is to be acknowledged."""
        self._has_port = True
        if self._value is State.TRIGGERED:
            self._value = State.NEEDACK
            self.packet_ns, self.pending_ns = self.pending_ns, None

    def unbind_port(self) -> None:
        """Makes no more packets and drops one that waits."""
        self._has_port = False
        self.packet_ns = None

    def take_packet(self) -> int | None:
        """Returns the time of the packet that waits."""
        packet_ns, self.packet_ns = self.packet_ns, None
        return packet_ns

    def ack(self) -> bool:
        """Lets the next trigger make a packet, and makes one of a trigger that came meanwhile; nothing unless NEEDACK.

        Returns:
            Whether that could be: a trigger whose predecessor's packet was not read is dropped.
        """
        deferred_ns, self.pending_ns = self.pending_ns, None
        if deferred_ns is None:
            self._acknowledge()
        elif self.packet_ns is not None:
            return False
        else:
            self.packet_ns = deferred_ns
            if self._signals is not None:
                self._signals.strobe(ZX_VIRTUAL_INTERRUPT_UNTRIGGERED)
        return True

    def hand_over(self) -> None:
        """Notes that VCPUs get each trigger from now on, and that they have had the one that waited."""
        self.pending_ns = None
        self._acknowledge()

    def destroy(self) -> bool:
        """Ends it and drops its packet; returns whether a packet was read and not acknowledged."""
        owed = self._has_port and self.needs_ack and self.packet_ns is None
        self._value = State.DESTROYED
        self.packet_ns = None
        self._set_untriggered(True)
        return owed

    def _acknowledge(self) -> None:
        self._value = State.IDLE
        self._set_untriggered(True)

    def _set_untriggered(self, untriggered: bool) -> None:
        signals, bit = self._signals, ZX_VIRTUAL_INTERRUPT_UNTRIGGERED
        if signals is not None and untriggered != bool(signals.value & bit):
            signals.update(0 if untriggered else bit, bit if untriggered else 0)
