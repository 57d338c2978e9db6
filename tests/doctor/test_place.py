"""Where a process runs, as its machine's files and its environment tell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kvmbind.doctor import Files, Place

if TYPE_CHECKING:
    from tests.doctor.conftest import MakeFiles

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nID_LIKE=debian\n'
FEDORA = "PRETTY_NAME='Fedora Linux 41'\nID=fedora\n"
ALMA = 'PRETTY_NAME="AlmaLinux 9.4"\nID="almalinux"\nID_LIKE="rhel centos fedora"\n'
ARCH = 'PRETTY_NAME="Arch Linux"\nID=arch\n'
INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme vmx sse\nbugs\t: x\n\nprocessor\t: 1\n"
AMD_GUEST = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor\n"
WSL = "5.15.167.4-microsoft-standard-WSL2\n"


@pytest.mark.parametrize(
    ("release", "family"),
    [(DEBIAN, "debian"), (UBUNTU, "debian"), (FEDORA, "fedora"), (ALMA, "fedora"), (ARCH, "other"), ("", "other")],
)
def test_the_family_of_a_distribution_is_found_also_of_its_relatives(
    make_files: MakeFiles, release: str, family: str
) -> None:
    place = Place.look(make_files(**{"etc__os-release": release}), {})
    assert place.family == family
    assert place.keys == (family, "any")


def test_the_cpu_says_whether_it_offers_virtualization_and_is_itself_a_guests(make_files: MakeFiles) -> None:
    machine = Place.look(make_files(proc__cpuinfo=INTEL), {})
    assert (machine.vendor, machine.virtualization, machine.hypervisor) == ("intel", True, False)
    guest = Place.look(make_files(proc__cpuinfo=AMD_GUEST), {})
    assert (guest.vendor, guest.virtualization, guest.hypervisor) == ("amd", False, True)
    assert (machine.module, guest.module) == ("kvm_intel", "kvm_amd")


@pytest.mark.parametrize(
    ("texts", "environ", "container"),
    [
        ({".dockerenv": ""}, {}, "docker"),
        ({"run__.containerenv": ""}, {}, "podman"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "x"}, "kubernetes"),
        ({"run__systemd__container": "systemd-nspawn\n"}, {}, "nspawn"),
        ({}, {"container": "lxc"}, "lxc"),
        ({}, {"container": "wonder"}, "other"),
        ({}, {}, ""),
        ({".dockerenv": "", "proc__2__comm": "kthreadd\n"}, {}, ""),
    ],
)
def test_a_container_is_known_by_what_its_engine_leaves_unless_kernel_threads_are_to_be_seen(
    make_files: MakeFiles, texts: dict[str, str], environ: dict[str, str], container: str
) -> None:
    assert Place.look(make_files(**texts), environ).container == container


def test_a_rootless_container_maps_its_users(make_files: MakeFiles) -> None:
    assert Place.look(make_files(proc__self__uid_map="0 1000 1\n1 100000 65536\n"), {}).rootless
    assert not Place.look(make_files(proc__self__uid_map="  0  0 4294967295\n"), {}).rootless


def test_remedies_are_looked_up_from_the_outermost_to_the_innermost(make_files: MakeFiles) -> None:
    files = make_files(**{"etc__os-release": DEBIAN, ".dockerenv": "", "proc__sys__kernel__osrelease": WSL})
    place = Place.look(files, {"GITHUB_ACTIONS": "true"})
    assert place.keys == ("github", "wsl2", "docker", "container", "any")
    assert Place.look(files, {"GITLAB_CI": "true"}).keys[0] == "gitlab"


def test_a_place_says_in_words_where_it_is(make_files: MakeFiles) -> None:
    files = make_files(
        **{
            "etc__os-release": DEBIAN,
            "run__.containerenv": "",
            "proc__sys__kernel__osrelease": WSL,
            "proc__cpuinfo": AMD_GUEST,
            "proc__self__uid_map": "0 1000 1",
        }
    )
    assert str(Place.look(files, {"GITLAB_CI": "true"})) == (
        "Linux 5.15.167.4-microsoft-standard-WSL2, Debian GNU/Linux 12 (bookworm), WSL2, GitLab CI, "
        "in a podman container, rootless, in a virtual machine"
    )


def test_of_a_machine_without_files_the_kernel_is_known_all_the_same(make_files: MakeFiles) -> None:
    assert str(Place.look(make_files(), {})) == f"Linux {os.uname().release}, Linux"


def test_this_machine_has_a_kernel_and_a_name() -> None:
    place = Place.look(Files(), os.environ)
    assert place.kernel == os.uname().release
    assert place.distribution
