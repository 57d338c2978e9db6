"""Memory slots change under running VCPUs: they pause for it inside enter, and the guest sees nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import kvmbind

if TYPE_CHECKING:
    from tests.conftest import WaitUntil

pytestmark = pytest.mark.kvm

PAGE = 4096
MEMORY = 16 << 20
ENTRY = 0x1000
WRITTEN = 0x30000  # to 3FFFFh: a dword at the beginning of each page is counted up, over and over
WRITER = bytes.fromhex(
    "b80030"  # mov ax, 0x3000
    "8ed8"  # mov ds, ax
    "31db"  # round: xor bx, bx
    "66ff07"  # page: inc dword ptr [bx]
    "81c30010"  # add bx, 0x1000
    "73f7"  # jnc page
    "ebf3"  # jmp round
)


@pytest.fixture
def changes(rounds: int) -> int:
    """How many: 1,000, or fewer if KVMBIND_TEST_ROUNDS says so."""
    return min(1000, rounds)


def is_running(vcpu: kvmbind.Vcpu) -> bool:
    """Whether the VCPU's thread is still inside; what ended it is raised."""
    try:
        vcpu.join(0)
    except kvmbind.TimedOutError:
        return True
    return False


@pytest.mark.parametrize("vcpus", [1, 4])
def test_a_guest_that_writes_all_over_a_slot_sees_nothing_of_its_being_split_again_and_again(
    vcpus: int, changes: int, wait_until: WaitUntil
) -> None:
    with kvmbind.Guest.create(memory=MEMORY) as guest:
        guest.write(WRITER, ENTRY)
        running = [guest.start_vcpu(ENTRY) for _ in range(vcpus)]
        guest.wait_u32(WRITTEN, 10, timeout_s=60)
        last = MEMORY // PAGE - 1
        for page in range(last, last - 2 * changes, -2):  # each out of the slot that the guest uses
            guest.vmar.unmap(page * PAGE, PAGE)
        count = guest.read_u32(WRITTEN)
        wait_until(lambda: guest.read_u32(WRITTEN) > count + 10)
        assert [vcpu.returns for vcpu in running] == [0] * vcpus
        assert all(is_running(vcpu) for vcpu in running)
        with pytest.raises(kvmbind.OutOfRangeError):
            guest.read(last * PAGE, 1)
        assert guest.read((last - 1) * PAGE, PAGE) == bytes(PAGE)


@pytest.mark.parametrize("vcpus", [1, 2])
def test_a_guest_sees_nothing_of_its_neighbouring_pages_being_trapped_unmapped_and_mapped_again_and_again(
    vcpus: int, changes: int, wait_until: WaitUntil
) -> None:
    with kvmbind.Guest.create(memory=MEMORY) as guest, kvmbind.Port.create() as port, kvmbind.Vmo.create(PAGE) as vmo:
        guest.write(WRITER, ENTRY)
        running = [guest.start_vcpu(ENTRY) for _ in range(vcpus)]
        guest.wait_u32(WRITTEN, 10, timeout_s=60)
        for number in range(changes):
            page = WRITTEN + 0x10000 + 3 * number * PAGE  # behind what the guest writes, and in the same slot
            guest.vmar.unmap(page, PAGE)
            assert guest.vmar.map(vmo, page) == page
            guest.vmar.unmap(page, PAGE)
            guest.set_trap_mem(page, PAGE, number)
            if number % 10 == 0:
                guest.set_trap_bell(page + PAGE, PAGE, port, number)
        count = guest.read_u32(WRITTEN)
        wait_until(lambda: guest.read_u32(WRITTEN) > count + 10)
        assert [vcpu.returns for vcpu in running] == [0] * vcpus
        assert all(is_running(vcpu) for vcpu in running)


def writer(segment: int) -> bytes:
    """WRITER in a segment of its own."""
    return WRITER[:1] + segment.to_bytes(2, "little") + WRITER[3:]


def no_write_was_lost(vmo: kvmbind.Vmo, segment: int) -> bool:
    """Whether the pages of a segment have been counted up in turn."""
    counts = [int.from_bytes(vmo.read((segment << 4) + page * PAGE, 4), "little") for page in range(16)]
    return counts[0] > 10 and counts == sorted(counts, reverse=True) and counts[0] - counts[-1] <= 1


def test_guests_that_write_all_over_a_slot_see_nothing_of_changes_all_around_them(changes: int) -> None:
    segments = [0x3000, 0x4000]
    above, top, pages = 1 << 20, 16 << 20, 16
    with (
        kvmbind.Guest.create() as guest,
        kvmbind.Vmo.create(top, resizable=True) as memory,
        kvmbind.Vmo.create(pages * PAGE) as other,
    ):
        guest.vmar.map(memory, 0)
        for number, segment in enumerate(segments):
            guest.write(writer(segment), ENTRY + number * PAGE)
        running = [guest.start_vcpu(ENTRY + number * PAGE) for number in range(2)]
        for segment in segments:
            guest.wait_u32(segment << 4, 10, timeout_s=60)
        for turn in range(changes // 5):
            addr = above + turn % pages * PAGE
            guest.vmar.protect(addr, 3 * PAGE, read=True, write=False, execute=False)
            guest.vmar.protect(addr + PAGE, PAGE, read=False, write=False, execute=False)
            guest.vmar.map(other, addr, overwrite=True)
            memory.resize(top - (1 + turn) * PAGE)
            guest.vmar.unmap(addr, pages * PAGE)
            guest.vmar.map(memory, addr, vmo_offset=addr, length=pages * PAGE)
            guest.vmar.track_dirty(0, above, enabled=turn % 2 == 0)
            memory.resize(top)
        assert [vcpu.returns for vcpu in running] == [0, 0]
        assert all(is_running(vcpu) for vcpu in running)
        for vcpu in running:
            vcpu.close()
        assert [no_write_was_lost(memory, segment) for segment in segments] == [True, True]


def test_memory_is_mapped_and_unmapped_beside_a_running_guest(changes: int, wait_until: WaitUntil) -> None:
    with kvmbind.Guest.create(memory=1 << 20) as guest, kvmbind.Vmo.create(PAGE) as vmo:
        guest.write(WRITER, ENTRY)
        vcpu = guest.start_vcpu(ENTRY)
        for _ in range(changes // 5):
            assert guest.vmar.map(vmo, 1 << 20) == 1 << 20
            guest.vmar.unmap(1 << 20, PAGE)
        count = guest.read_u32(WRITTEN)
        wait_until(lambda: guest.read_u32(WRITTEN) > count)
        assert vcpu.returns == 0


def test_a_vcpu_is_kicked_and_entered_as_ever_after_a_pause() -> None:
    with kvmbind.Guest.create(memory=1 << 20) as guest, kvmbind.Vcpu.create(guest, ENTRY) as vcpu:
        guest.write(WRITER, ENTRY)
        guest.vmar.unmap(0x80000, PAGE)
        vcpu.kick()
        with pytest.raises(kvmbind.CanceledError):
            vcpu.enter()
        with pytest.raises(kvmbind.TimedOutError):
            vcpu.enter(timeout_s=0.05)


def test_a_page_that_the_guest_writes_is_memory_until_it_is_trapped_and_then_each_write_is_a_packet() -> None:
    keys: list[int] = []

    def take(vcpu: kvmbind.Vcpu, packet: kvmbind.PortPacket) -> None:
        keys.append(packet.key)
        if packet.guest_mem.read:
            vcpu.write_io(kvmbind.VcpuIo(access_size=4, u32=0))

    with kvmbind.Guest.create(memory=MEMORY) as guest:
        guest.write(WRITER, ENTRY)
        with guest.start_vcpu(ENTRY, on_packet=take) as vcpu:  # an untrapped access would end it with an error
            for number in range(16):
                guest.set_trap_mem(WRITTEN + number * PAGE, PAGE, number)
            assert is_running(vcpu)
        assert set(keys) <= set(range(16))


def test_a_split_that_runs_out_of_slots_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvmbind.kvm.system import NR_MEMSLOTS, System

    capability = System.capability
    monkeypatch.setattr(System, "capability", lambda self, n: 1 if n == NR_MEMSLOTS else capability(self, n))
    with kvmbind.Guest.create(memory=1 << 20) as guest:
        guest.write(WRITER, ENTRY)
        with guest.start_vcpu(ENTRY) as vcpu:
            with pytest.raises(kvmbind.NoResourcesError, match="memory slots"):
                guest.vmar.unmap(0x80000, PAGE)
            with pytest.raises(kvmbind.NoResourcesError, match="memory slots"):
                guest.set_trap_mem(0x80000, PAGE, 0)
            with kvmbind.Port.create() as port, pytest.raises(kvmbind.NoResourcesError, match="memory slots"):
                guest.set_trap_bell(0x80000, PAGE, port, 0)
            guest.wait_u32(WRITTEN, 10, timeout_s=60)
            assert guest.read(0x80000, PAGE) == bytes(PAGE)
            assert vcpu.returns == 0
