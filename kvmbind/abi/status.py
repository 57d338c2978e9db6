"""The status that a Zircon call returns."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """A `zx_status_t`: `OK`, or the reason why a call failed.

    The names are C's without `ZX_ERR_`; the values are C's, so a member compares equal to the bare number.
    `Status(-20)` is `Status.BAD_STATE`, and a number that is no status is a ValueError.
    """

    OK = 0

    # The implementation, or what it has been given to work with.
    INTERNAL = -1
    NOT_SUPPORTED = -2
    NO_RESOURCES = -3
    NO_MEMORY = -4
    INTERNAL_INTR_RETRY = -6

    # What the caller passed.
    INVALID_ARGS = -10
    BAD_HANDLE = -11
    WRONG_TYPE = -12
    BAD_SYSCALL = -13
    OUT_OF_RANGE = -14
    BUFFER_TOO_SMALL = -15

    # The state that the object is in.
    BAD_STATE = -20
    TIMED_OUT = -21
    SHOULD_WAIT = -22
    CANCELED = -23
    PEER_CLOSED = -24
    NOT_FOUND = -25
    ALREADY_EXISTS = -26
    ALREADY_BOUND = -27
    UNAVAILABLE = -28

    # What the caller may do.
    ACCESS_DENIED = -30

    # Input and output.
    IO = -40
    IO_REFUSED = -41
    IO_DATA_INTEGRITY = -42
    IO_DATA_LOSS = -43
    IO_NOT_PRESENT = -44
    IO_OVERRUN = -45
    IO_MISSED_DEADLINE = -46
    IO_INVALID = -47

    # File systems.
    BAD_PATH = -50
    NOT_DIR = -51
    NOT_FILE = -52
    FILE_BIG = -53
    NO_SPACE = -54
    NOT_EMPTY = -55

    # Flow control: how a callback answers.
    STOP = -60
    NEXT = -61
    ASYNC = -62

    # Networks.
    PROTOCOL_NOT_SUPPORTED = -70
    ADDRESS_UNREACHABLE = -71
    ADDRESS_IN_USE = -72
    NOT_CONNECTED = -73
    CONNECTION_REFUSED = -74
    CONNECTION_RESET = -75
    CONNECTION_ABORTED = -76
