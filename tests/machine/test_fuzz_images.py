"""Images of random bytes, and mutations of good ones: each ends, and none harms what is not its own.

Some of each kind, the same ones each time; KVMBIND_FUZZ_IMAGES asks for so many others. `python -m tests.machine.fuzz`
runs any, one alone too, and prints how they ended.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.machine.fuzz.cases import KINDS, Kind, make_case
from tests.machine.fuzz.good import good_images
from tests.machine.fuzz.runs import CaseError, run_case, run_cases

if TYPE_CHECKING:
    from pathlib import Path

    from kvmbind import Machine

_IMAGES = os.environ.get("KVMBIND_FUZZ_IMAGES")
COUNT = int(_IMAGES or 40)
SEED = 0 if _IMAGES is None else int.from_bytes(os.urandom(4), "little")


@pytest.mark.kvm
@pytest.mark.timeout(240 + COUNT)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_images_end_and_harm_nothing(kind: Kind, tmp_path: Path) -> None:
    endings = run_cases((make_case(SEED, kind, number) for number in range(COUNT)), tmp_path)
    assert endings.total == COUNT
    assert list(tmp_path.iterdir()) == []
    assert len(endings.ways) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_made_from_its_numbers_alone(kind: Kind) -> None:
    assert make_case(5, kind, 7) == make_case(5, kind, 7)
    assert make_case(5, kind, 7).image != make_case(5, kind, 8).image != make_case(6, kind, 8).image


def test_the_good_images_are_of_every_format() -> None:
    formats = {good.format for good in good_images()}
    assert formats == {None, "flat", "boot", "com", "floppy", "disk", "multiboot", "rom"}


def test_a_case_that_fails_is_kept_and_says_how_it_is_had_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(3, "mutated", 4)

    def fail(*args: object, **options: object) -> Machine:
        raise ZeroDivisionError("in the loader")

    monkeypatch.setattr("tests.machine.fuzz.runs.Machine", fail)
    says = "ZeroDivisionError: in the loader\n--seed 3 --kind mutated --case 4: "
    with pytest.raises(CaseError, match=says) as failed:
        run_case(case, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert str(kept) in str(failed.value)
    assert kept.read_bytes() == case.image
