"""Slow closes happen on helper threads, and settle waits for them."""

from __future__ import annotations

import threading

import pytest

from kvmbind.kvm import closer
from kvmbind.kvm.closer import HELPERS, settle, submit

DEADLINE_S = 60


def helpers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "kvmbind-closer"]


def test_with_nothing_to_close_settle_returns_and_no_thread_is_there() -> None:
    settle()
    assert helpers() == []


def test_a_close_runs_on_another_thread_and_settle_waits_for_it() -> None:
    gate, where = threading.Event(), list[threading.Thread]()

    def close() -> None:
        assert gate.wait(DEADLINE_S)
        where.append(threading.current_thread())

    submit(close)
    assert where == []
    gate.set()
    settle()
    assert [thread.name for thread in where] == ["kvmbind-closer"]
    assert helpers() == []


def test_as_many_as_there_are_helpers_run_side_by_side_and_the_rest_follow() -> None:
    together, done = threading.Barrier(HELPERS), list[int]()
    for _ in range(HELPERS):
        submit(lambda: None if together.wait(DEADLINE_S) < 0 else done.append(0))
    for number in range(100):
        submit(lambda number=number: done.append(number))  # type: ignore[misc]
    settle()
    assert len(done) == HELPERS + 100
    assert helpers() == []


def test_settle_waits_for_a_helper_that_has_nothing_to_do_any_more_until_its_thread_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle, may_end = threading.Event(), threading.Event()
    original = closer._help

    def dawdle() -> None:
        original()
        idle.set()
        assert may_end.wait(DEADLINE_S)

    settle()
    monkeypatch.setattr(closer, "_help", dawdle)
    submit(lambda: None)
    assert idle.wait(DEADLINE_S)
    threading.Timer(0.1, may_end.set).start()
    settle()
    assert helpers() == []


def test_where_no_thread_can_be_started_the_close_runs_here_and_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    settle()
    where = list[threading.Thread]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        submit(lambda: where.append(threading.current_thread()))
    assert where == [threading.current_thread()]
    settle()


def test_a_close_may_submit_another_and_settle_waits_for_both() -> None:
    done = list[str]()

    def outer() -> None:
        submit(lambda: done.append("inner"))
        done.append("outer")

    submit(outer)
    settle()
    assert sorted(done) == ["inner", "outer"]


def test_settle_on_a_helper_does_not_wait_for_itself() -> None:
    submit(closer.settle)
    settle()
    assert helpers() == []
