"""Limits of processes, cgroups and the system that trip guests."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from kvmbind.doctor import Finding, Level, Place, limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.doctor.conftest import MakeFiles


@pytest.fixture
def _rlimits() -> Iterator[None]:
    """Puts the soft limits back that a test lowers."""
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_SIGPENDING)
    before = [(kind, resource.getrlimit(kind)) for kind in kinds]
    yield
    for kind, both in before:
        resource.setrlimit(kind, both)


@pytest.mark.usefixtures("_rlimits")
@pytest.mark.parametrize(
    ("kind", "soft", "fault", "summary"),
    [
        (resource.RLIMIT_NOFILE, 128, "nofile", "128 open files at most"),
        (resource.RLIMIT_AS, 1 << 40, "address-space", "1048576 MiB of addresses at most"),
        (resource.RLIMIT_SIGPENDING, 8, "signals", "8 timers and pending signals at most"),
    ],
)
def test_a_tight_rlimit_of_this_process_is_a_warning(
    make_files: MakeFiles, debian: Place, kind: int, soft: int, fault: str, summary: str
) -> None:
    resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))
    found = [finding for finding in limits.examine(debian, make_files()) if finding.fault == fault]
    assert [(finding.level, finding.summary) for finding in found] == [(Level.WARNING, summary)]
    assert found[0].remedy[0].startswith("$ ulimit ")


V2 = {"proc__self__cgroup": "0::/system.slice/docker-1.scope\n"}
V1 = {"proc__self__cgroup": "9:cpu,cpuacct:/\n8:pids:/a/b\n4:memory:/a\n0::/\n"}


@pytest.mark.parametrize(
    ("texts", "fault", "room"),
    [
        (V2 | {"sys__fs__cgroup__system.slice__docker-1.scope__pids.max": "20"}, None, None),
        (
            V2
            | {
                "sys__fs__cgroup__system.slice__docker-1.scope__pids.max": "20",
                "sys__fs__cgroup__system.slice__docker-1.scope__pids.current": "17",
            },
            "pids",
            3,
        ),
        (
            V2
            | {
                "sys__fs__cgroup__system.slice__docker-1.scope__memory.max": "max",
                "sys__fs__cgroup__system.slice__docker-1.scope__memory.current": "1000",
                "sys__fs__cgroup__system.slice__memory.max": "33554432",
                "sys__fs__cgroup__system.slice__memory.current": "1048576",
            },
            "memory",
            31 << 20,
        ),
        (
            V1
            | {
                "sys__fs__cgroup__memory__a__memory.limit_in_bytes": "1048576",
                "sys__fs__cgroup__memory__a__memory.usage_in_bytes": "2097152",
            },
            "memory",
            0,
        ),
        (V1 | {"sys__fs__cgroup__pids__a__pids.max": "9", "sys__fs__cgroup__pids__a__pids.current": "1"}, "pids", 8),
    ],
)
def test_a_full_cgroup_or_one_above_it_is_a_warning(
    make_files: MakeFiles, debian: Place, texts: dict[str, str], fault: str | None, room: int | None
) -> None:
    found = [finding for finding in limits.examine(debian, make_files(**texts)) if finding.level is Level.WARNING]
    rooms = [(finding.fault, finding.facts["room"]) for finding in found if "room" in finding.facts]
    assert rooms == ([] if fault is None else [(fault, room)])


def test_a_machine_without_tight_limits_says_so(
    make_files: MakeFiles, debian: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (finding,) = limits.examine(debian, make_files())
    assert finding == Finding.fine("limits", "no rlimit or cgroup is in the way")
