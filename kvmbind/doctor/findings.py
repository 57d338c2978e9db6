"""What the doctor finds: one fact, how bad it is, and what to do about it."""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kvmbind.doctor.remedies import remedy_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from kvmbind.doctor.place import Place

    Fact = str | int | bool | None | list[str]


class Level(enum.StrEnum):
    """How bad a finding is. Guests run unless there is a FAULT."""

    OK = "ok"
    NOTE = "note"  # worth knowing when figures are compared
    WARNING = "warning"  # guests run, but not everything, or not for long
    FAULT = "fault"  # guests do not run
    SKIPPED = "skipped"  # a fault before it kept it from being looked at


class Finding(NamedTuple):
    """One thing that was looked at.

    `topic` is a word such as "device". `fault` names what is wrong, such as "group", and is "" where nothing is; the
    troubleshooting guide has a section of that name. `remedy` has a line for each step; one that starts with "$ " is
    a command. `facts` are what the summary says in words, for programs.
    """

    topic: str
    level: Level
    summary: str
    fault: str = ""
    remedy: tuple[str, ...] = ()
    facts: Mapping[str, Fact] = MappingProxyType({})

    @classmethod
    def fine(cls, topic: str, summary: str, **facts: Fact) -> Self:
        """Makes one of something that is as it should be."""
        return cls(topic, Level.OK, summary, facts=facts)

    @classmethod
    def note(cls, topic: str, summary: str, **facts: Fact) -> Self:
        """Makes one of something that is worth knowing."""
        return cls(topic, Level.NOTE, summary, facts=facts)

    @classmethod
    def skipped(cls, topic: str, summary: str) -> Self:
        """Makes one of something that could not be looked at."""
        return cls(topic, Level.SKIPPED, summary)

    @classmethod
    def warning(cls, topic: str, summary: str, fault: str, place: Place, **facts: Fact) -> Self:
        """Makes one of something that does harm, with the remedy for this place."""
        return cls(topic, Level.WARNING, summary, fault, remedy_for(fault, place, facts), facts)

    @classmethod
    def wrong(cls, topic: str, summary: str, fault: str, place: Place, **facts: Fact) -> Self:
        """Makes one of something that keeps guests from running, with the remedy for this place."""
        return cls(topic, Level.FAULT, summary, fault, remedy_for(fault, place, facts), facts)
