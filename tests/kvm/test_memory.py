"""Memory and its mappings: what lives as long as what."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind._shim import lib
from kvmbind.kvm.memory import PAGE_SIZE, Memory, page_up

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 4 * PAGE_SIZE


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory(SIZE)
    yield made
    made.close()


def mappings() -> int:
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return sum("memfd:kvmbind" in line for line in maps)


@pytest.mark.parametrize(("size", "pages"), [(0, 0), (1, 1), (4095, 1), (4096, 1), (4097, 2)])
def test_sizes_are_rounded_up_to_pages(size: int, pages: int) -> None:
    assert page_up(size) == pages * PAGE_SIZE


def test_it_is_zero_at_first_and_close_on_exec(memory: Memory) -> None:
    assert memory.read(0, SIZE) == bytes(SIZE)
    assert not os.get_inheritable(memory.fd)


@given(st.binary(max_size=SIZE), st.integers(0, SIZE))
def test_what_is_written_is_read_back_and_nothing_else_changes(data: bytes, offset: int) -> None:
    memory = Memory(SIZE)
    data = data[: SIZE - offset]
    memory.write(data, offset)
    assert memory.read(0, SIZE) == bytes(offset) + data + bytes(SIZE - offset - len(data))
    memory.close()


def test_items_wider_than_a_byte_are_written_as_their_bytes(memory: Memory) -> None:
    memory.write(memoryview(b"\1\2\3\4").cast("I"), 8)
    assert memory.read(8, 4) == b"\1\2\3\4"


def test_a_mapping_shows_the_memory_from_its_offset_on_both_ways(memory: Memory) -> None:
    mapping = memory.map(PAGE_SIZE, PAGE_SIZE)
    view = mapping.view()
    memory.write(b"there", PAGE_SIZE)
    view[5:10] = b" back"
    assert bytes(view[:10]) == memory.read(PAGE_SIZE, 10) == b"there back"
    assert len(view) == PAGE_SIZE


def test_the_host_address_of_a_byte_is_that_byte(memory: Memory) -> None:
    memory.write((0x11223344).to_bytes(4, "little"), 12)
    mapping = memory.map(0, SIZE)
    assert lib.kb_read_u32(mapping.at(12)) == 0x11223344


def test_a_mapping_goes_on_when_its_memory_is_closed() -> None:
    memory = Memory(SIZE)
    mapping = memory.map(0, SIZE)
    memory.close()
    mapping.view()[0] = 1
    assert mapping.view()[0] == 1


def test_a_view_outlives_its_mapping_and_the_last_one_unmaps_it() -> None:
    gc.collect()
    before = mappings()
    memory = Memory(SIZE)
    view = memory.map(0, SIZE).view()
    part = view[PAGE_SIZE:]
    memory.close()
    gc.collect()
    assert mappings() == before + 1
    view[PAGE_SIZE] = 0xA5
    del view
    gc.collect()
    assert part[0] == 0xA5
    del part
    gc.collect()
    assert mappings() == before


@pytest.mark.parametrize(("offset", "size"), [(1, PAGE_SIZE), (0, 0), (2**63, PAGE_SIZE), (0, 2**62)])
def test_what_cannot_be_mapped_is_an_error_that_names_the_call(memory: Memory, offset: int, size: int) -> None:
    with pytest.raises(OSError, match=r"\] mmap: "):
        memory.map(offset, size)


def test_memory_that_cannot_be_had_leaves_no_fd() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises((OSError, OverflowError)):
        Memory(2**64)
    assert os.listdir("/proc/self/fd") == before


F_SEAL_EXEC = 0x20  # <linux/fcntl.h>; fcntl has no name for it

# Seccomp plays another kernel, whose memfd_create refuses MFD_NOEXEC_SEAL with an errno, or what comes without it.
ANOTHER_KERNEL = """
import ctypes, struct, sys
from kvmbind.kvm.memory import Memory

with_the_flag, number = sys.argv[1] == "with", int(sys.argv[2])
rules = [
    (0x20, 0, 0, 0),  # the number of the system call
    (0x15, 0, 2, 319),  # another than memfd_create is let through
    (0x20, 0, 0, 24),  # its flags
    (0x45, with_the_flag, not with_the_flag, 8),  # MFD_NOEXEC_SEAL
    (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    (0x06, 0, 0, 0x00050000 | number),  # SECCOMP_RET_ERRNO
]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rules), ctypes.addressof(text)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
try:
    memory = Memory(4096)
    memory.write(b"guest", 0)
    print(memory.read(0, 5).decode())
except OSError as error:
    print(error)
"""


def on_another_kernel(refused: str, number: int) -> str:
    """Makes a memfd where those with the flag, or without it, are refused; returns what is read from it."""
    command = [sys.executable, "-c", ANOTHER_KERNEL, refused, str(number)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_kernel_that_does_not_know_how_to_forbid_execution_makes_one_without() -> None:
    assert on_another_kernel("with", errno.EINVAL) == "guest"


def test_a_kernel_that_refuses_what_could_be_executed_makes_one() -> None:
    assert on_another_kernel("without", errno.EACCES) == "guest"


def test_any_other_refusal_is_told() -> None:
    assert os.strerror(errno.EMFILE) in on_another_kernel("with", errno.EMFILE)


@pytest.mark.parametrize("resizable", [False, True])
def test_nobody_can_make_it_executable_where_the_kernel_knows_of_that(resizable: bool) -> None:
    memory = Memory(SIZE, resizable=resizable)
    knows = Path("/proc/sys/vm/memfd_noexec").exists()
    sealed = bool(fcntl.fcntl(memory.fd, fcntl.F_GET_SEALS) & F_SEAL_EXEC)
    executable = bool(os.fstat(memory.fd).st_mode & 0o111)
    assert (sealed, executable) == (knows, not knows)
    memory.close()
