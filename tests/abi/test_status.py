"""Statuses and constants: the numbers are Zircon's."""

from __future__ import annotations

import pytest

from kvmbind.abi import constants as zx
from kvmbind.abi.status import Status

# By group: the first number, and the names of it and of those below it.
STATUSES = {
    -1: "INTERNAL NOT_SUPPORTED NO_RESOURCES NO_MEMORY",
    -6: "INTERNAL_INTR_RETRY",
    -10: "INVALID_ARGS BAD_HANDLE WRONG_TYPE BAD_SYSCALL OUT_OF_RANGE BUFFER_TOO_SMALL",
    -20: "BAD_STATE TIMED_OUT SHOULD_WAIT CANCELED PEER_CLOSED NOT_FOUND ALREADY_EXISTS ALREADY_BOUND UNAVAILABLE",
    -30: "ACCESS_DENIED",
    -40: "IO IO_REFUSED IO_DATA_INTEGRITY IO_DATA_LOSS IO_NOT_PRESENT IO_OVERRUN IO_MISSED_DEADLINE IO_INVALID",
    -50: "BAD_PATH NOT_DIR NOT_FILE FILE_BIG NO_SPACE NOT_EMPTY",
    -60: "STOP NEXT ASYNC",
    -70: "PROTOCOL_NOT_SUPPORTED ADDRESS_UNREACHABLE ADDRESS_IN_USE NOT_CONNECTED CONNECTION_REFUSED "
    "CONNECTION_RESET CONNECTION_ABORTED",
}
EXPECTED = {"OK": 0} | {name: first - n for first, names in STATUSES.items() for n, name in enumerate(names.split())}


def test_statuses_have_the_numbers_of_zircon() -> None:
    assert {status.name: status.value for status in Status} == EXPECTED


def test_a_status_equals_its_number() -> None:
    numbers = [-20, -11, 0]
    assert numbers == [Status.BAD_STATE, Status.BAD_HANDLE, Status.OK]
    assert Status(-20) is Status.BAD_STATE


@pytest.mark.parametrize("status", Status)
def test_each_status_has_its_c_name(status: Status) -> None:
    name = "ZX_OK" if status is Status.OK else f"ZX_ERR_{status.name}"
    assert getattr(zx, name) is status


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        (zx.ZX_RIGHTS_BASIC, 0xC003),
        (zx.ZX_RIGHTS_IO, 0xC),
        (zx.ZX_RIGHTS_PROPERTY, 0xC0),
        (zx.ZX_RIGHT_SAME_RIGHTS, 0x8000_0000),
        (zx.ZX_DEFAULT_GUEST_RIGHTS, 0x2800B),
        (zx.ZX_DEFAULT_VCPU_RIGHTS, 0xD01F),
        (zx.ZX_DEFAULT_INTERRUPT_RIGHTS, 0xD00F),
        (zx.ZX_DEFAULT_PORT_RIGHTS, 0x800F),
        (zx.ZX_DEFAULT_VMO_RIGHTS, 0xD0FF),
        (zx.ZX_DEFAULT_VMAR_RIGHTS, 0x8003),
        (zx.ZX_DEFAULT_GUEST_VMAR_RIGHTS, 0x801F),
        (zx.ZX_DEFAULT_RESOURCE_RIGHTS, 0x800B),
    ],
)
def test_groups_and_defaults_of_rights_are_those_of_zircon(rights: int, expected: int) -> None:
    assert rights == expected


def test_each_right_is_a_bit_of_its_own() -> None:
    rights = [value for name, value in vars(zx).items() if name.startswith("ZX_RIGHT_") and value]
    assert len(rights) == 21
    assert len({*rights}) == len(rights)
    assert all(right.bit_count() == 1 for right in rights)


def test_the_user_signals_are_the_top_eight_bits() -> None:
    signals = [getattr(zx, f"ZX_USER_SIGNAL_{n}") for n in range(8)]
    assert signals == [1 << bit for bit in range(24, 32)]
    assert sum(signals) == zx.ZX_USER_SIGNAL_ALL


def test_infinite_times_are_the_ends_of_int64() -> None:
    assert zx.ZX_TIME_INFINITE == 0x7FFF_FFFF_FFFF_FFFF
    assert zx.ZX_TIME_INFINITE_PAST == -0x8000_0000_0000_0000


def test_constants_that_are_no_statuses_are_plain_ints() -> None:
    others = {name: value for name, value in vars(zx).items() if name.startswith("ZX_")}
    others = {name: value for name, value in others.items() if not name.startswith(("ZX_ERR_", "ZX_OK"))}
    assert {type(value) for value in others.values()} == {int}


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ("OBJ_TYPE_VMO OBJ_TYPE_PORT OBJ_TYPE_INTERRUPT OBJ_TYPE_RESOURCE", [3, 6, 9, 15]),
        ("OBJ_TYPE_VMAR OBJ_TYPE_GUEST OBJ_TYPE_VCPU OBJ_TYPE_MSI", [18, 20, 21, 32]),
        ("RSRC_KIND_MMIO RSRC_KIND_IRQ RSRC_KIND_IOPORT RSRC_KIND_HYPERVISOR", [0, 1, 2, 3]),
        ("RSRC_KIND_ROOT RSRC_KIND_VMEX RSRC_KIND_SMC RSRC_FLAG_EXCLUSIVE", [4, 5, 6, 0x10000]),
        ("PKT_TYPE_USER PKT_TYPE_SIGNAL_ONE PKT_TYPE_GUEST_BELL PKT_TYPE_GUEST_MEM", [0, 1, 3, 4]),
        ("PKT_TYPE_GUEST_IO PKT_TYPE_GUEST_VCPU PKT_TYPE_INTERRUPT", [5, 6, 7]),
        ("GUEST_TRAP_BELL GUEST_TRAP_MEM GUEST_TRAP_IO VCPU_STATE VCPU_IO", [0, 1, 2, 0, 1]),
        ("INTERRUPT_VIRTUAL INTERRUPT_MODE_MASK INTERRUPT_BIND INTERRUPT_UNBIND", [0x10, 0xE, 0, 1]),
        ("INFO_HANDLE_VALID INFO_HANDLE_BASIC INFO_VMAR INFO_RESOURCE", [1, 2, 7, 18]),
        ("INFO_HANDLE_COUNT INFO_VMO INFO_VCPU PROP_NAME MAX_NAME_LEN", [19, 23, 32, 3, 32]),
        ("VM_PERM_READ VM_PERM_WRITE VM_PERM_EXECUTE VM_SPECIFIC", [1, 2, 4, 0x10]),
        ("VM_SPECIFIC_OVERWRITE VM_MAP_RANGE VM_REQUIRE_NON_RESIZABLE", [0x20, 0x400, 0x800]),
        ("VMO_RESIZABLE VMO_ZERO_CHILDREN", [2, 1 << 3]),
        ("PORT_BIND_TO_INTERRUPT WAIT_ASYNC_ONCE WAIT_ASYNC_TIMESTAMP WAIT_ASYNC_EDGE", [1, 0, 1, 2]),
        ("SIGNAL_HANDLE_CLOSED VIRTUAL_INTERRUPT_UNTRIGGERED", [1 << 23, 1 << 4]),
    ],
)
def test_constants_have_the_values_of_zircon(names: str, values: list[int]) -> None:
    assert [getattr(zx, f"ZX_{name}") for name in names.split()] == values
