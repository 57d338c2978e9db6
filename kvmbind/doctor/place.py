"""Where this process runs: distribution, container, CI service, WSL, virtual machine. Remedies depend on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self


class Files(NamedTuple):
    """The files of a machine, /etc, /proc and /sys, below `root`."""

    root: str = "/"

    def text(self, path: str) -> str:
        """Returns what a file says, without blanks around it; "" if it cannot be read."""
        try:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Tells whether there is such a file."""
        return os.path.exists(os.path.join(self.root, path))

    def names(self, path: str) -> list[str]:
        """Returns the names in a folder, sorted; none if there is no such folder."""
        try:
            return sorted(os.listdir(os.path.join(self.root, path)))
        except OSError:
            return []


class Place(NamedTuple):
    """Where a process runs.

    Attributes:
        kernel: The release: "6.1.0-26-amd64".
        distribution: Its own name of itself.
        family: "debian", "fedora" or "other".
        container: "docker", "podman", "kubernetes", "lxc", "nspawn", "other", or "" outside any.
        rootless: Whether the container's users are another's.
        ci: "github", "gitlab" or "".
        wsl: Whether this is WSL.
        vendor: The CPU's: "intel", "amd" or "other".
        virtualization: Whether the CPU offers it (vmx, svm).
        hypervisor: Whether this is itself a virtual machine.
    """

    kernel: str
    distribution: str = "Linux"
    family: str = "other"
    container: str = ""
    rootless: bool = False
    ci: str = ""
    wsl: bool = False
    vendor: str = "other"
    virtualization: bool = False
    hypervisor: bool = False

    @classmethod
    def look(cls, files: Files, environ: Mapping[str, str]) -> Self:
        """Looks where this process is."""
        kernel = files.text("proc/sys/kernel/osrelease")
        release = _assignments(files.text("etc/os-release"))
        cpu = files.text("proc/cpuinfo").partition("\n\n")[0]
        flags = set(cpu.partition("\nflags")[2].partition("\n")[0].split())
        return cls(
            kernel=kernel or os.uname().release,
            distribution=release.get("PRETTY_NAME", "Linux"),
            family=_family(release),
            container=_container(files, environ),
            rootless=_is_rootless(files),
            ci=_ci(environ),
            wsl="microsoft" in kernel.lower(),
            vendor="intel" if "GenuineIntel" in cpu else "amd" if "AuthenticAMD" in cpu else "other",
            virtualization=not flags.isdisjoint(("vmx", "svm")),
            hypervisor="hypervisor" in flags,
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """What remedies are looked up by, the outermost first: whoever runs the container decides what is in it."""
        inner = (self.container, "container") if self.container else (self.family,)
        return tuple(filter(None, (self.ci, "wsl2" if self.wsl else "", *inner, "any")))

    @property
    def module(self) -> str:
        """The KVM module of this CPU's maker."""
        return {"intel": "kvm_intel", "amd": "kvm_amd"}.get(self.vendor, "kvm_intel or kvm_amd")

    def __str__(self) -> str:
        """Says it in words: "Linux 6.1.0-26-amd64, Debian GNU/Linux 12 (bookworm), in a docker container"."""
        parts = [f"Linux {self.kernel}", self.distribution]
        if self.wsl:
            parts.append("WSL2")
        if self.ci:
            parts.append({"github": "GitHub Actions", "gitlab": "GitLab CI"}[self.ci])
        if self.container:
            what = "a container" if self.container == "other" else f"a {self.container} container"
            parts.append(f"in {what}, rootless" if self.rootless else f"in {what}")
        if self.hypervisor:
            parts.append("in a virtual machine")
        return ", ".join(parts)


def _assignments(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value.strip("\"'") for name, equals, value in pairs if equals}


def _family(release: Mapping[str, str]) -> str:
    names = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if names & {"debian", "ubuntu"}:
        return "debian"
    return "fedora" if names & {"fedora", "rhel", "centos"} else "other"


def _ci(environ: Mapping[str, str]) -> str:
    if environ.get("GITHUB_ACTIONS") == "true":
        return "github"
    return "gitlab" if environ.get("GITLAB_CI") == "true" else ""


def _container(files: Files, environ: Mapping[str, str]) -> str:
    if files.text("proc/2/comm") == "kthreadd":  # a container has its own pids, and no kernel threads among them
        return ""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    if files.exists("run/.containerenv"):
        return "podman"
    if files.exists(".dockerenv"):
        return "docker"
    # systemd's convention: https://systemd.io/CONTAINER_INTERFACE
    kind = files.text("run/systemd/container") or environ.get("container", "")
    return {"systemd-nspawn": "nspawn", "lxc-libvirt": "lxc"}.get(
        kind, kind if kind in _KINDS else "other" if kind else ""
    )


_KINDS = ("docker", "podman", "lxc")


def _is_rootless(files: Files) -> bool:
    mapping = files.text("proc/self/uid_map").split()
    return bool(mapping) and mapping[:3] != ["0", "0", "4294967295"]
