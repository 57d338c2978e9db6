"""Memory slots are exchanged as a whole or not at all, and say which of their pages a vCPU has written."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind._shim import lib
from kvmbind.kvm.calls import NEVER
from kvmbind.kvm.memory import PAGE_SIZE, Mapping, Memory
from kvmbind.kvm.slots import LOG_DIRTY_PAGES, READ_ONLY, SIZE_MAX, DirtyLog, Exchange, Slot, exchange
from kvmbind.kvm.vm import SPACE_IO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmbind.kvm.system import System
    from kvmbind.kvm.vcpu import Vcpu
    from kvmbind.kvm.vm import Vm

SIZE = 16 * PAGE_SIZE
PLACE = 0x30000
GFN = PLACE // PAGE_SIZE
ENTRY = 0x1000
PORT = 0x80
# mov ax, 3000h; mov ds, ax; again: mov al, [0]; mov [2001h], al; mov [5001h], al; out 80h, al; jmp again
PROBE = bytes.fromhex("b80030 8ed8 a00000 a20120 a20150 e680 ebf3")


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory(SIZE, resizable=True)
    memory.write(b"\x51", 0)
    yield memory
    memory.close()


@pytest.fixture
def mapping(memory: Memory) -> Mapping:
    return memory.map(0, SIZE)


@pytest.fixture
def guest(vm: Vm, vcpu: Vcpu) -> Iterator[Vcpu]:
    """A vCPU that says the byte at PLACE after it has written to its third and sixth page."""
    code = Memory(2 * PAGE_SIZE)
    code.write(PROBE, ENTRY)
    mapping = code.map(0, 2 * PAGE_SIZE)
    exchange([Exchange(vm, [], [Slot(9, 0, 0, 2 * PAGE_SIZE, mapping.at(0))])])
    vm.add_range(SPACE_IO, PORT, 1, 0)
    vcpu.start_real(ENTRY)
    yield vcpu
    code.close()


def says(vcpu: Vcpu) -> int:
    """What it says next, all ones where there is nothing."""
    while True:
        result = lib.kb_vcpu_enter(vcpu.struct, vcpu.exit, NEVER)
        assert result >= 0 or result == -errno.EINTR
        if result >= 0 and not vcpu.exit.is_memory:
            return vcpu.exit.data


def written(log: DirtyLog) -> list[int]:
    """What the log says, but for the page that it only reads: KVM counts one that it maps writable for a read."""
    return [gfn for gfn in log.gfns() if gfn != GFN]


def slot(mapping: Mapping, number: int = 0, flags: int = 0, *, first: int = 0, pages: int = 16) -> Slot:
    start = first * PAGE_SIZE
    return Slot(number, flags, PLACE + start, pages * PAGE_SIZE, mapping.at(start))


@pytest.mark.kvm
def test_slots_come_and_go_and_each_exchange_counts(vm: Vm, guest: Vcpu, mapping: Mapping) -> None:
    before, whole = vm.struct.slots_version, slot(mapping)
    assert says(guest) == 0xFF
    exchange([Exchange(vm, [], [whole])])
    assert says(guest) == 0x51
    exchange([Exchange(vm, [whole], [slot(mapping, 0, first=1, pages=15)])])
    assert says(guest) == 0xFF
    assert vm.struct.slots_version == before + 2


REFUSED = [
    ("an odd host address", lambda mapping: slot(mapping, 1)._replace(host=mapping.at(1))),
    ("a slot number that KVM does not have", lambda mapping: slot(mapping, 32764, first=8, pages=8)),
    ("an overlap", lambda mapping: slot(mapping, 1)._replace(guest_addr=PLACE - PAGE_SIZE)),
    (
        "a slot that is too large",
        lambda mapping: slot(mapping, 1)._replace(guest_addr=0x40000, size=SIZE_MAX + PAGE_SIZE),
    ),
]


@pytest.mark.kvm
@pytest.mark.parametrize(("bad"), [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_kvm_refuses_in_the_middle_leaves_all_slots_as_they_were(
    vm: Vm, guest: Vcpu, mapping: Mapping, memory: Memory, bad: object
) -> None:
    low, high = slot(mapping, 0, pages=8), slot(mapping, 1, LOG_DIRTY_PAGES, first=8, pages=8)
    exchange([Exchange(vm, [], [low, high])])
    version = vm.struct.slots_version
    wanted = [slot(mapping, 0, READ_ONLY, pages=4), bad(mapping)]  # type: ignore[operator]
    with pytest.raises(OSError, match="KVM_SET_USER_MEMORY_REGION: "):
        exchange([Exchange(vm, [low, high], wanted)], memory, 32 * PAGE_SIZE)
    assert (vm.struct.slots_version, memory.size, memory.read(SIZE - 1, 1)) == (version, SIZE, b"\0")
    assert says(guest) == 0x51
    assert memory.read(0x2001, 1) == b"\x51"  # written: it is not the read-only one
    exchange([Exchange(vm, [low, high], [])])  # both are there to be deleted
    assert says(guest) == 0xFF


@pytest.mark.kvm
def test_a_slot_that_is_not_there_is_as_good_as_deleted(vm: Vm, mapping: Mapping) -> None:
    exchange([Exchange(vm, [slot(mapping, 5), slot(mapping, 6, LOG_DIRTY_PAGES)], [])])


@pytest.mark.kvm
def test_a_memory_is_resized_with_the_slots_of_two_vms_or_not_at_all(
    vm: Vm, guest: Vcpu, system: System, memory: Memory
) -> None:
    from kvmbind.kvm.vm import Vm

    large = memory.map(0, 2 * SIZE)
    other = Vm(system, irqchip="split")
    before = slot(large)
    exchange([Exchange(vm, [], [before]), Exchange(other, [], [before])])
    small = slot(large, pages=8)
    bad = slot(large, 1)._replace(host=large.at(1))
    for size in (8 * PAGE_SIZE, 32 * PAGE_SIZE):
        with pytest.raises(OSError, match="KVM_SET_USER_MEMORY_REGION"):
            exchange([Exchange(vm, [before], [small]), Exchange(other, [before], [bad])], memory, size)
        assert memory.size == SIZE
        assert memory.read(SIZE - 1, 1) == b"\0"
    assert says(guest) == 0x51
    exchange([Exchange(vm, [before], [small]), Exchange(other, [before], [small])], memory, 8 * PAGE_SIZE)
    assert memory.size == 8 * PAGE_SIZE
    assert says(guest) == 0x51
    other.close()


@pytest.mark.kvm
def test_a_memory_that_cannot_be_resized_keeps_its_slots(vm: Vm, guest: Vcpu) -> None:
    sealed = Memory(SIZE)
    sealed.write(b"\x52", 0)
    mapping = sealed.map(0, SIZE)
    exchange([Exchange(vm, [], [slot(mapping)])])
    for size in (0, 2 * SIZE):
        with pytest.raises(PermissionError):
            exchange([Exchange(vm, [slot(mapping)], [])], sealed, size)
        assert (sealed.size, says(guest)) == (SIZE, 0x52)
    sealed.close()


@pytest.mark.kvm
def test_the_dirty_log_has_the_pages_that_the_vcpu_wrote_and_is_empty_afterwards(
    vm: Vm, guest: Vcpu, mapping: Mapping
) -> None:
    logged = slot(mapping, 0, LOG_DIRTY_PAGES)
    exchange([Exchange(vm, [], [logged])])
    says(guest)
    for gfns in ([GFN + 2, GFN + 5], []):
        log = DirtyLog(logged)
        log.read(vm, logged)
        assert written(log) == gfns


@pytest.mark.kvm
def test_deleting_a_slot_leaves_its_dirty_log_also_when_it_comes_back(vm: Vm, guest: Vcpu, mapping: Mapping) -> None:
    logged, bad = slot(mapping, 0, LOG_DIRTY_PAGES), slot(mapping, 1)._replace(host=mapping.at(1))
    exchange([Exchange(vm, [], [logged])])
    for made in ([bad], []):
        says(guest)
        wanted = Exchange(vm, [logged], made)
        if made:
            with pytest.raises(OSError, match="KVM_SET_USER_MEMORY_REGION"):
                exchange([wanted])
        else:
            exchange([wanted])
        assert wanted.logs[0] is not None
        assert written(wanted.logs[0]) == [GFN + 2, GFN + 5]


@pytest.mark.kvm
def test_the_log_of_a_slot_without_one_is_an_error_that_names_the_call(vm: Vm, mapping: Mapping) -> None:
    plain = slot(mapping)
    exchange([Exchange(vm, [], [plain])])
    with pytest.raises(OSError, match="KVM_GET_DIRTY_LOG: "):
        DirtyLog(plain).read(vm, plain)


@given(st.sets(st.integers(0, 199)))
def test_the_bits_of_a_log_are_pages_in_ascending_order(pages: set[int]) -> None:
    memory = Memory(PAGE_SIZE)
    log = DirtyLog(Slot(0, LOG_DIRTY_PAGES, PLACE, 200 * PAGE_SIZE, memory.map(0, PAGE_SIZE).at(0)))
    for page in pages:
        log.bitmap[page // 64] |= 1 << page % 64
    assert log.gfns() == [GFN + page for page in sorted(pages)]
    memory.close()


def test_a_memory_of_a_fixed_size_is_sealed_against_whoever_has_its_fd() -> None:
    import os

    memory, resizable = Memory(PAGE_SIZE), Memory(PAGE_SIZE, resizable=True)
    for size in (0, 2 * PAGE_SIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(memory.fd, size)
        os.ftruncate(resizable.fd, size)
    memory.close()
    resizable.close()


def resident_pages(mapping: Mapping) -> int:
    from kvmbind._shim import ffi

    start = f"{int(ffi.cast('uintptr_t', mapping.host)):x}-"  # type: ignore[call-overload]  # the stub has not all
    with open("/proc/self/smaps", encoding="utf-8") as smaps:
        text = smaps.read()
    found = text[text.index(f"\n{start}") :]
    return int(found[found.index("Rss:") + 4 :].split(maxsplit=1)[0]) * 1024 // PAGE_SIZE


def test_populating_enters_the_pages_that_there_are_and_makes_none() -> None:
    memory = Memory(SIZE)
    for page in (3, 4, 9):
        memory.write(b"1", page * PAGE_SIZE)
    mapping = memory.map(2 * PAGE_SIZE, SIZE - 2 * PAGE_SIZE)
    assert resident_pages(mapping) == 0
    memory.populate(mapping, 2 * PAGE_SIZE)
    assert resident_pages(mapping) == 3
    empty = Memory(SIZE)
    empty.populate(empty.map(0, SIZE), 0)
    for made in (memory, empty):
        made.close()
