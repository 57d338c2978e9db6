"""Eventfds: made, duplicated, told apart, and never waited for by a drain."""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmbind.kvm.eventfd import CANCELED, READABLE, TIMED_OUT, EventFd, kind_of, wait_readable

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = 2**64 - 2


@pytest.fixture
def eventfd() -> Iterator[EventFd]:
    made = EventFd.create()
    yield made
    made.close()


def closed_fd() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    return reader


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_a_new_one_is_empty_close_on_exec_and_never_blocks_a_writer(eventfd: EventFd) -> None:
    assert not readable(eventfd.fd)
    assert not os.get_inheritable(eventfd.fd)
    eventfd.add(FULL)
    with pytest.raises(BlockingIOError, match=r"write \(eventfd\)"):
        eventfd.add()


@given(st.lists(st.integers(1, 2**32), max_size=8))
def test_a_drain_takes_all_that_was_added(counts: list[int]) -> None:
    eventfd = EventFd.create()
    for count in counts:
        eventfd.add(count)
    assert eventfd.drain() == sum(counts)
    assert eventfd.drain() == 0
    eventfd.close()


def test_a_drain_of_a_semaphore_takes_one() -> None:
    eventfd = EventFd.create(semaphore=True)
    eventfd.add(3)
    assert [eventfd.drain() for _ in range(4)] == [1, 1, 1, 0]
    eventfd.close()


def test_a_drain_of_an_eventfd_that_blocks_does_not_block_and_leaves_its_flags() -> None:
    blocking = os.eventfd(0, 0)
    eventfd = EventFd.duplicate(blocking)
    assert eventfd.drain() == 0
    os.eventfd_write(blocking, 5)
    assert eventfd.drain() == 5
    assert eventfd.drain() == 0
    assert os.get_blocking(blocking)
    eventfd.close()
    os.close(blocking)


def test_a_duplicate_is_the_same_eventfd_close_on_exec_and_leaves_the_callers_open() -> None:
    theirs = os.eventfd(0, 0)
    os.set_inheritable(theirs, True)
    ours = EventFd.duplicate(theirs)
    assert ours.fd != theirs
    assert not os.get_inheritable(ours.fd)
    assert os.get_inheritable(theirs)
    ours.add(7)
    ours.close()
    assert os.eventfd_read(theirs) == 7
    os.close(theirs)


def test_a_duplicate_of_a_closed_fd_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        EventFd.duplicate(closed_fd())


def test_calls_on_a_closed_fd_raise_an_error_that_names_the_call() -> None:
    eventfd = EventFd.create()
    eventfd.close()
    eventfd.fd = closed_fd()
    with pytest.raises(OSError, match=r"^\[Errno 9\] write \(eventfd\): Bad file descriptor$"):
        eventfd.add()
    with pytest.raises(OSError, match=r"^\[Errno 9\] preadv2 \(eventfd\): Bad file descriptor$"):
        eventfd.drain()


@pytest.mark.parametrize(
    ("flags", "kind"),
    [(0, "counter"), (os.EFD_NONBLOCK, "counter"), (os.EFD_SEMAPHORE, "semaphore")],
)
def test_eventfds_are_told_apart_by_their_kind(flags: int, kind: str) -> None:
    fd = os.eventfd(3, flags)
    assert kind_of(fd) == kind
    os.close(fd)


def test_other_files_are_no_eventfds() -> None:
    reader, writer = os.pipe()
    with open(__file__, "rb") as file, select.epoll() as epoll:
        assert [kind_of(fd) for fd in (reader, writer, file.fileno(), epoll.fileno())] == ["", "", "", ""]
    os.close(reader)
    os.close(writer)


def test_a_closed_fd_has_no_kind() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        kind_of(closed_fd())


def test_a_wait_for_a_readable_fd_returns_at_once(eventfd: EventFd) -> None:
    eventfd.add()
    assert wait_readable(eventfd.fd) == READABLE
    assert wait_readable(eventfd.fd, deadline_ns=0) == READABLE


def test_a_cancelled_wait_says_so_even_if_the_fd_is_readable_too(eventfd: EventFd) -> None:
    cancel = EventFd.create()
    cancel.add()
    assert wait_readable(eventfd.fd, cancel.fd) == CANCELED
    eventfd.add()
    assert wait_readable(eventfd.fd, cancel.fd) == CANCELED
    cancel.close()


@pytest.mark.parametrize("deadline_ns", [-(2**63), 0, 1])
def test_a_deadline_that_has_passed_is_a_time_out(eventfd: EventFd, deadline_ns: int) -> None:
    assert wait_readable(eventfd.fd, deadline_ns=deadline_ns) == TIMED_OUT


def test_a_wait_ends_no_earlier_than_its_deadline(eventfd: EventFd) -> None:
    deadline_ns = time.monotonic_ns() + 2_000_000
    assert wait_readable(eventfd.fd, deadline_ns=deadline_ns) == TIMED_OUT
    assert time.monotonic_ns() >= deadline_ns


@pytest.mark.parametrize("which", [READABLE, CANCELED])
def test_a_sleeping_wait_is_woken(eventfd: EventFd, which: int) -> None:
    cancel, results = EventFd.create(), list[int]()
    thread = threading.Thread(target=lambda: results.append(wait_readable(eventfd.fd, cancel.fd)))
    thread.start()
    (eventfd if which == READABLE else cancel).add()
    thread.join(60)
    assert results == [which]
    cancel.close()
