"""The table of remedies as a whole."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

import kvmbind.doctor
from kvmbind.doctor import Place
from kvmbind.doctor.remedies import REMEDIES, remedy_for
from kvmbind.kvm import refusals

KEYS = {"github", "gitlab", "wsl2", "docker", "podman", "kubernetes", "lxc", "nspawn", "container", "debian", "fedora"}
FACTS = {"device": "/dev/kvm", "group": "kvm", "gid": 104, "hard": "65536", "python": "python3"}


PLACES = [
    Place("6.1"),
    Place("6.1", family="debian"),
    Place("6.1", family="fedora"),
    Place("6.1", wsl=True),
    *(Place("6.1", ci=ci) for ci in ("github", "gitlab")),
    *(Place("6.1", container=name) for name in ("docker", "podman", "kubernetes", "lxc", "nspawn", "other")),
]


@pytest.mark.parametrize("fault", REMEDIES)
def test_a_fault_has_a_remedy_in_every_place_and_no_braces_are_left(fault: str) -> None:
    for place in PLACES:
        steps = remedy_for(fault, place, FACTS)
        assert steps
        assert all(line.strip() for line in steps)
        assert not any(re.search(r"\{\w*\}", line) for line in steps)


def test_no_remedy_is_for_a_place_that_nothing_is_recognized_as() -> None:
    assert {key for remedy in REMEDIES.values() for key in remedy.steps} <= KEYS | {"any"}


def test_every_fault_that_the_doctor_can_find_has_a_remedy_and_no_remedy_is_without_a_fault() -> None:
    folder = Path(kvmbind.doctor.__file__).parent
    files = [*(path for path in folder.glob("*.py") if path.name != "remedies.py"), Path(refusals.__file__)]
    source = "".join(path.read_text() for path in files)
    words = set(re.findall(r'"([a-z-]+)"', source))
    assert set(REMEDIES) <= words


def test_every_fault_that_an_exception_can_name_is_the_doctors_or_one_that_it_tells_apart() -> None:
    faults = {refusals.refusal_of(number).fault for number in errno.errorcode}
    assert faults - {"absent", "denied"} <= set(REMEDIES)
    assert refusals.LACKING.fault in REMEDIES
