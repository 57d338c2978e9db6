"""The tables of zx_handle_*."""

from __future__ import annotations

from kvmbind import zx
from kvmbind.zx import (
    ZX_RIGHT_DUPLICATE,
    ZX_RIGHT_MANAGE_JOB,
    ZX_RIGHT_NONE,
    ZX_RIGHT_READ,
    ZX_RIGHT_SAME_RIGHTS,
    Status,
)
from tests.zx.conformance.table import Check, Table, closed, in_order, lacks, value

ANOTHER_RIGHT = ZX_RIGHT_READ | ZX_RIGHT_MANAGE_JOB

CLOSE = Table(
    zx.zx_handle_close,
    lambda make: {"handle": make.port()},
    in_order(closed("handle"), value("handle", 1 << 32, Status.BAD_HANDLE)),
    also=({"handle": 0},),
)

CLOSE_MANY = Table(
    zx.zx_handle_close_many,
    lambda make: {"handles_to_close": [make.port(), 0, make.vmo(1)]},
    in_order(value("handles_to_close", [0, 3], Status.BAD_HANDLE)),
    also=({"handles_to_close": []}, {"handles_to_close": [0, 0]}),
)

DUPLICATE = Table(
    zx.zx_handle_duplicate,
    lambda make: {"handle": make.port(), "rights": ZX_RIGHT_SAME_RIGHTS},
    in_order(
        closed("handle"),
        lacks("handle", "DUPLICATE"),
        value("rights", ANOTHER_RIGHT),
        value("rights", ZX_RIGHT_SAME_RIGHTS | ZX_RIGHT_READ),
        value("rights", 1 << 32),
    ),
    nothing=(0,),
    also=({"rights": ZX_RIGHT_READ}, {"rights": ZX_RIGHT_NONE}),
)


def consumed(check: Check) -> Check:
    """The old handle is closed also by a refusal."""
    return check._replace(lasts=True)


REPLACE = Table(
    zx.zx_handle_replace,
    lambda make: {"handle": make.without(make.port(), ZX_RIGHT_DUPLICATE), "rights": ZX_RIGHT_SAME_RIGHTS},
    in_order(closed("handle"), consumed(value("rights", ANOTHER_RIGHT)), consumed(value("rights", 1 << 32))),
    nothing=(0,),
    also=({"rights": ZX_RIGHT_READ}, {"rights": ZX_RIGHT_NONE}),
)

TABLES = [CLOSE, CLOSE_MANY, DUPLICATE, REPLACE]
