"""KVM's module and its settings, as /sys tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvmbind.doctor import Finding, Level, Place, module

if TYPE_CHECKING:
    from tests.doctor.conftest import MakeFiles


def settings(**values: str) -> dict[str, str]:
    return {f"sys__module__{name.replace('__', '__parameters__')}": f"{value}\n" for name, value in values.items()}


@pytest.fixture
def look(make_files: MakeFiles, debian: Place) -> dict[str, Finding]:
    """What there is to say about a machine with kvm_intel and its usual settings."""
    values = settings(
        kvm_intel__unrestricted_guest="Y",
        kvm_intel__enable_apicv="Y",
        kvm_intel__nested="Y",
        kvm__halt_poll_ns="200000",
    )
    return {finding.topic: finding for finding in module.examine(debian, make_files(**values))}


def test_a_usual_machine_has_nothing_to_remedy(look: dict[str, Finding]) -> None:
    assert list(look) == ["module", "real mode", "posting", "halt polling", "nesting"]
    assert look["module"] == Finding.fine("module", "kvm_intel", module="kvm_intel")
    assert look["posting"].summary == "kvm_intel.enable_apicv is Y: interrupts may be posted by hardware"
    assert look["nesting"].facts == {"nested": True}
    assert not any(finding.remedy for finding in look.values())


def test_real_mode_that_kvm_must_emulate_is_a_warning_with_the_settings_that_end_it(
    make_files: MakeFiles, debian: Place
) -> None:
    findings = module.examine(debian, make_files(**settings(kvm_intel__unrestricted_guest="N")))
    warning = next(finding for finding in findings if finding.topic == "real mode")
    assert (warning.level, warning.fault) == (Level.WARNING, "unrestricted-guest")
    assert any("unrestricted_guest=1" in line for line in warning.remedy)


@pytest.mark.parametrize(("value", "posted"), [("1", True), ("N", False)])
def test_avic_says_whether_amd_posts_interrupts(make_files: MakeFiles, debian: Place, value: str, posted: bool) -> None:
    findings = module.examine(debian, make_files(**settings(kvm_amd__avic=value, kvm_amd__nested="0")))
    facts = {finding.topic: finding.facts for finding in findings}
    assert facts["posting"] == {"setting": "kvm_amd.avic", "posted": posted}
    assert facts["nesting"] == {"nested": False}


@pytest.mark.parametrize(("value", "words"), [("0", "sleeps at once"), ("200000", "for up to 200 us before it sleeps")])
def test_halt_polling_is_told_in_words(make_files: MakeFiles, debian: Place, value: str, words: str) -> None:
    values = settings(kvm_intel__nested="Y", kvm__halt_poll_ns=value)
    finding = next(each for each in module.examine(debian, make_files(**values)) if each.topic == "halt polling")
    assert finding.summary.endswith(words)
    assert finding.facts == {"halt_poll_ns": int(value)}


def test_a_software_kvm_is_called_one(make_files: MakeFiles, debian: Place) -> None:
    (finding,) = module.examine(debian, make_files(**settings(kvm_pvm__stats="0")))
    assert (finding.level, finding.facts) == (Level.NOTE, {"module": "kvm_pvm"})


def test_a_virtual_machine_is_warned_of_what_its_figures_include(make_files: MakeFiles, debian: Place) -> None:
    place = debian._replace(hypervisor=True)
    findings = list(module.examine(place, make_files(**settings(kvm_intel__nested="Y"))))
    assert findings[-1].facts == {"hypervisor": True}


def test_no_module_is_a_note_since_only_the_device_decides(make_files: MakeFiles, debian: Place) -> None:
    (finding,) = module.examine(debian, make_files())
    assert (finding.level, finding.facts) == (Level.NOTE, {"module": None})
