"""Limits that let a guest start and trip it later: rlimits, cgroups."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from kvmbind.doctor.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmbind.doctor.place import Files, Place

_ENOUGH_FILES = 256
_ENOUGH_SIGNALS = 64
_ENOUGH_THREADS = 32
_ENOUGH_MEMORY = 64 << 20
_UNLIMITED = resource.RLIM_INFINITY


def examine(place: Place, files: Files) -> Iterator[Finding]:
    """Yields the limits that are too tight, or that none is."""
    findings = [*_rlimits(place), *_cgroups(place, files)]
    yield from findings or [Finding.fine("limits", "no rlimit or cgroup is in the way")]


def _rlimits(place: Place) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _is_below(soft, _ENOUGH_FILES):
        yield Finding.warning("limits", f"{soft} open files at most", "nofile", place, soft=soft, hard=_show(hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != _UNLIMITED:
        yield Finding.warning("limits", f"{soft >> 20} MiB of addresses at most", "address-space", place, soft=soft)
    soft, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    if _is_below(soft, _ENOUGH_SIGNALS):
        summary = f"{soft} timers and pending signals at most"
        yield Finding.warning("limits", summary, "signals", place, soft=soft, hard=_show(hard))


def _cgroups(place: Place, files: Files) -> Iterator[Finding]:
    room = _room(files, "pids", (("pids.max", "pids.current"),))
    if room is not None and room < _ENOUGH_THREADS:
        yield Finding.warning("limits", f"room for {room} more threads", "pids", place, room=room)
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    room = _room(files, "memory", names)
    if room is not None and room < _ENOUGH_MEMORY:
        yield Finding.warning("limits", f"room for {room >> 20} MiB more memory", "memory", place, room=room)


def _is_below(limit: int, enough: int) -> bool:
    return limit != _UNLIMITED and limit < enough


def _show(limit: int) -> str:
    return "unlimited" if limit == _UNLIMITED else str(limit)


def _room(files: Files, controller: str, names: tuple[tuple[str, str], ...]) -> int | None:
    """Returns how much the tightest cgroup that this process is in has left of something; None for no limit.

    The files are those of cgroup v2, or of v1 where the controller has a hierarchy of its own.
    """
    rooms = []
    for folder in _folders(files, controller):
        for maximum, current in names:
            limit, used = files.text(f"{folder}/{maximum}"), files.text(f"{folder}/{current}")
            if limit.isdigit() and used.isdigit():
                rooms.append(max(0, int(limit) - int(used)))
    return min(rooms, default=None)


def _folders(files: Files, controller: str) -> Iterator[str]:
    """Yields the folders of this process's cgroup and of all above it. In a container the upper ones cannot be seen."""
    for line in files.text("proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount = "sys/fs/cgroup"
        elif controller in controllers.split(","):
            mount = f"sys/fs/cgroup/{controllers}"
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            yield os.path.join(mount, *parts[:depth])
