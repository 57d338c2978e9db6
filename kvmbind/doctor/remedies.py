"""What to do about each fault, by place. docs/troubleshooting.md is made from this table.

A line that starts with "$ " is a command. Names in braces are facts of the finding, or of the place: {module}. What an
exception says too comes from `kvmbind.kvm.refusals`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvmbind.kvm.refusals import API, JOIN_GROUP, LACKING, RAISE_FD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvmbind.doctor.place import Place


class Remedy(NamedTuple):
    """What a fault means, in a sentence for the guide, and the steps that end it, by `Place.keys`."""

    meaning: str
    steps: Mapping[str, tuple[str, ...]]


def _sentence(remedy: str) -> str:
    return f"{remedy[0].upper()}{remedy[1:]}."


_JOIN_KVM = f"$ {JOIN_GROUP.format(group='kvm')}"
_MAKE_AND_JOIN_KVM = f"$ sudo groupadd --force --system kvm && {JOIN_GROUP.format(group='kvm')}"
_UDEV_RULE = (
    """$ echo 'KERNEL=="kvm", GROUP="kvm", MODE="{mode}", OPTIONS+="static_node=kvm"' """
    "| sudo tee /etc/udev/rules.d/99-kvm.rules",
    "$ sudo udevadm control --reload-rules && sudo udevadm trigger --name-match=kvm --settle",
)
_GITHUB = (
    "In the workflow, after every step that installs packages:",
    *(line.replace("{mode}", "0666") for line in _UDEV_RULE),
)
_GITHUB_CONTAINER = (
    "Of a job with `container:` in the workflow, say",
    "    container: {{image: IMAGE, options: --device /dev/kvm}}",
)
_GITLAB = (
    "Register a runner of your own on a host with /dev/kvm, and give its containers the device in config.toml:",
    "    [runners.docker]",
    '    devices = ["/dev/kvm"]',
)
_DOCKER = ("Start the container again with the device:", "$ docker run --device /dev/kvm ...")
_PODMAN = (
    "Start the container again with the device, and keep the groups of the user who starts it:",
    "$ podman run --device /dev/kvm --group-add keep-groups ...",
)
_KUBERNETES = (
    "Run a device plugin that offers /dev/kvm on the nodes, such as KubeVirt's, and ask for it in the pod:",
    "    resources: {{limits: {{devices.kubevirt.io/kvm: 1}}}}",
)
_LXC = (
    "Give the container the device, on its host:",
    "$ incus config device add CONTAINER kvm unix-char source=/dev/kvm mode=0666",
)
_WSL_NESTING = (
    "On Windows 11, in %UserProfile%\\.wslconfig:",
    "    [wsl2]",
    "    nestedVirtualization=true",
    "then, in PowerShell:",
    "$ wsl --shutdown",
)
_WSL_PERMISSION = (
    "Let WSL open the device to your group at each start:",
    _MAKE_AND_JOIN_KVM,
    "in /etc/wsl.conf:",
    "    [boot]",
    "    command = /bin/sh -c 'chgrp kvm /dev/kvm && chmod 660 /dev/kvm'",
    "then, in PowerShell:",
    "$ wsl --shutdown",
)
_INTO_CONTAINER = {
    "github": _GITHUB_CONTAINER,
    "gitlab": _GITLAB,
    "docker": _DOCKER,
    "podman": _PODMAN,
    "kubernetes": _KUBERNETES,
    "lxc": _LXC,
    "nspawn": (
        "Start the container again with the device:",
        "$ systemd-nspawn --bind=/dev/kvm --property='DeviceAllow=/dev/kvm rw' ...",
    ),
    "any": ("Let whoever starts this container give it the device /dev/kvm.",),
}

REMEDIES: Mapping[str, Remedy] = {
    "no-virtualization": Remedy(
        "The CPU offers no virtualization: it is switched off in the firmware, or the CPU has none.",
        {
            "any": (
                "Switch it on in the firmware's set-up (BIOS, UEFI), then switch the machine off and on:",
                "    Intel: Intel Virtualization Technology, or VT-x, below Advanced or CPU Configuration",
                "    AMD: SVM Mode, below Advanced or CPU Configuration",
            )
        },
    ),
    "no-nesting": Remedy(
        "This is a virtual machine, and the hypervisor under it does not let it make guests of its own.",
        {
            "github": (
                "Use a runner that has KVM: `runs-on: ubuntu-24.04` is one, ARM and macOS runners are none.",
                "A few nodes lack it all the same: run the job again.",
            ),
            "gitlab": (
                "GitLab's own runners have no /dev/kvm. Register a runner of your own on a host that has it:",
                *_GITLAB[1:],
            ),
            "wsl2": _WSL_NESTING,
            "any": (
                "Switch nested virtualization on in the outer hypervisor:",
                "    KVM, on the outer host: modprobe -r kvm_intel; modprobe kvm_intel nested=1; -cpu host for QEMU",
                "    VirtualBox: VBoxManage modifyvm NAME --nested-hw-virt on",
                "    VMware: Virtualize Intel VT-x/EPT or AMD-V/RVI, in the settings of the processor",
                "    Hyper-V: Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true",
                "    Cloud: take an instance type with nested virtualization, or a bare-metal one",
            ),
        },
    ),
    "no-module": Remedy(
        "The CPU can do it, but no module of KVM is loaded.",
        {
            "docker": ("On the host, outside the container:", "$ sudo modprobe {module}", *_DOCKER),
            "podman": ("On the host, outside the container:", "$ sudo modprobe {module}", *_PODMAN),
            "container": ("On the host, outside the container:", "$ sudo modprobe {module}"),
            "any": (
                "$ sudo modprobe {module}",
                "and for every start of the machine:",
                "$ echo {module} | sudo tee /etc/modules-load.d/kvm.conf",
                "If modprobe says that it is not supported or disabled by the BIOS, switch virtualization on there.",
            ),
        },
    ),
    "not-passed-in": Remedy(
        "The host has KVM, but this container was not given the device.",
        _INTO_CONTAINER,
    ),
    "no-node": Remedy(
        "KVM's module is loaded, but there is no device file: this /dev is not the kernel's own.",
        {"any": ("$ sudo mknod -m 660 {device} c 10 232 && sudo chgrp kvm {device}",)},
    ),
    "group": Remedy(
        "The device belongs to a group that this user is not in.",
        {
            "github": _GITHUB,
            "gitlab": (
                "Let the runner's containers run with the device's group, in config.toml:",
                "    [runners.docker]",
                '    devices = ["/dev/kvm"]',
                '    group_add = ["{gid}"]',
            ),
            "wsl2": _WSL_PERMISSION,
            "docker": (
                "Start the container again with the device's group:",
                "$ docker run --device {device} --group-add {gid} ...",
            ),
            "podman": _PODMAN,
            "any": (f"$ {JOIN_GROUP}", "then log in again."),
        },
    ),
    "login-again": Remedy(
        "This user is in the device's group, but logged in before that was so.",
        {"any": ("Log in again, or for one command:", "$ sg {group} -c 'kvmbind doctor'")},
    ),
    "owner-only": Remedy(
        "Only the device's owner may open it: no udev rule gives it to a group.",
        {
            "github": _GITHUB,
            "gitlab": (
                "On the runner's host:",
                *(line.replace("{mode}", "0666") for line in _UDEV_RULE),
                *_GITLAB[1:],
            ),
            "wsl2": _WSL_PERMISSION,
            "container": (
                "On the host, outside the container:",
                *(line.replace("{mode}", "0666") for line in _UDEV_RULE),
            ),
            "debian": (
                "The package udev brings the rule and the group kvm:",
                "$ sudo apt-get install udev && sudo udevadm trigger --name-match=kvm --settle",
                _JOIN_KVM,
                "then log in again. Without that package:",
                *(line.replace("{mode}", "0660") for line in _UDEV_RULE),
            ),
            "fedora": (
                "The package systemd-udev brings the rule, which opens the device to everybody:",
                "$ sudo dnf install systemd-udev && sudo udevadm trigger --name-match=kvm --settle",
            ),
            "any": (
                _MAKE_AND_JOIN_KVM,
                *(line.replace("{mode}", "0660") for line in _UDEV_RULE),
                "then log in again.",
            ),
        },
    ),
    "security-module": Remedy(
        "The file's mode lets this user in, but a security module, or a file system mounted with nodev, does not.",
        {
            "fedora": (
                "SELinux keeps containers from devices until told otherwise:",
                "$ sudo setsebool -P container_use_devices true",
                "What else it refused:",
                "$ sudo ausearch -m avc -ts recent",
            ),
            "podman": (
                "SELinux keeps containers from devices until told otherwise, on the host:",
                "$ sudo setsebool -P container_use_devices true",
            ),
            "any": (
                "Look at what refused it, and let it through there (SELinux, AppArmor, Landlock, nodev):",
                "$ sudo dmesg | grep -iE 'denied|apparmor'; findmnt -T {device} -o TARGET,OPTIONS",
            ),
        },
    ),
    "device-rule": Remedy(
        "The file's mode does not matter: the cgroup's device rules forbid it (EPERM).",
        {
            **_INTO_CONTAINER,
            "any": (
                "A systemd unit must allow it:",
                "    [Service]",
                "    DeviceAllow=/dev/kvm rw",
                "    PrivateDevices=no",
            ),
        },
    ),
    "no-fds": Remedy(
        "No file descriptor is left.",
        {"any": (f"$ {RAISE_FD_LIMIT}", "or, where the system has none left:", "$ sudo sysctl fs.file-max")},
    ),
    "device-error": Remedy(
        "The device does not open, for a reason of its own.",
        {"any": ("See what the kernel says of it:", "$ sudo dmesg | grep -i kvm")},
    ),
    "not-kvm": Remedy(
        "The file is there, but it is not KVM's device.",
        {
            "any": (
                "Name the right device:",
                "$ kvmbind doctor --device /dev/kvm",
                "If that is the one, something was put in its place: remove it, and load {module} again.",
            )
        },
    ),
    "api-version": Remedy(
        "The device speaks another version of KVM's API than 12, the only one since Linux 2.6.22.",
        {"any": (_sentence(API.remedy),)},
    ),
    "busy": Remedy(
        "Another hypervisor holds the CPU's virtualization.",
        {
            "any": (
                "Stop VirtualBox's, VMware's or another program's guests, and unload its modules:",
                "$ sudo modprobe -r vboxnetadp vboxnetflt vboxdrv vmmon",
            )
        },
    ),
    "vm-refused": Remedy(
        "The device opens, but KVM makes no virtual machine.",
        {
            "docker": (
                "A seccomp profile may forbid it; see whether it works without:",
                "$ docker run --device /dev/kvm --security-opt seccomp=unconfined ...",
            ),
            "any": ("See what the kernel says of it:", "$ sudo dmesg | grep -i kvm"),
        },
    ),
    "old-kernel": Remedy(
        "KVM lacks something that every guest needs.",
        {"any": (_sentence(LACKING.remedy),)},
    ),
    "capability": Remedy(
        "KVM lacks something that some guests need.",
        {"any": ("Use a newer kernel, or do without.",)},
    ),
    "shim": Remedy(
        "kvmbind's compiled part does not load.",
        {
            "any": (
                "Build it for this Python:",
                "$ {python} -m pip install --force-reinstall --no-deps kvmbind",
                "from source that needs gcc and Python's and Linux's headers:",
                "$ sudo apt-get install gcc libc6-dev python3-dev",
            ),
            "fedora": (
                "Build it for this Python:",
                "$ {python} -m pip install --force-reinstall --no-deps kvmbind",
                "from source that needs gcc and Python's and Linux's headers:",
                "$ sudo dnf install gcc kernel-headers python3-devel",
            ),
        },
    ),
    "guest": Remedy(
        "A guest of one VCPU could not be made or run.",
        {"any": ("See what the kernel says of it:", "$ sudo dmesg | grep -i kvm")},
    ),
    "interrupts": Remedy(
        "A guest runs, but interrupts bound to its VCPU do not all reach it without an exit.",
        {"any": ("Use the KVM of Linux itself, and a current kernel.",)},
    ),
    "unrestricted-guest": Remedy(
        "The CPU or the module cannot run real mode by itself: KVM emulates each instruction of it, slowly.",
        {
            "any": (
                "Where the CPU is of 2010 or newer, load the module with its defaults:",
                "$ sudo modprobe -r kvm_intel && sudo modprobe kvm_intel ept=1 unrestricted_guest=1",
            )
        },
    ),
    "nofile": Remedy(
        "This process may have few file descriptors open. A guest with a VCPU needs ten, each interrupt one or two.",
        {
            "docker": ("$ docker run --ulimit nofile=65536:65536 ...",),
            "podman": ("$ podman run --ulimit nofile=65536:65536 ...",),
            "any": (
                "$ ulimit -n {hard}",
                "and for good, in /etc/security/limits.conf:",
                "    * - nofile 65536",
            ),
        },
    ),
    "address-space": Remedy(
        "RLIMIT_AS bounds this process's addresses, and guest memory counts.",
        {"any": ("$ ulimit -v unlimited",)},
    ),
    "signals": Remedy(
        "RLIMIT_SIGPENDING is small. A VCPU that runs with a deadline needs a timer, which counts as one signal.",
        {"any": ("$ ulimit -i {hard}",)},
    ),
    "pids": Remedy(
        "The cgroup lets few more threads start. A VCPU has one in this process, and KVM may start one for each guest.",
        {
            "docker": ("$ docker run --pids-limit=-1 ...",),
            "podman": ("$ podman run --pids-limit=-1 ...",),
            "any": ("$ systemd-run --user --scope -p TasksMax=4096 COMMAND",),
        },
    ),
    "memory": Remedy(
        "The cgroup has little memory left, and guest memory counts: the kernel kills who takes too much.",
        {
            "docker": ("$ docker run --memory=2g ...",),
            "podman": ("$ podman run --memory=2g ...",),
            "any": ("$ systemd-run --user --scope -p MemoryMax=2G COMMAND",),
        },
    ),
}


def remedy_for(fault: str, place: Place, facts: Mapping[str, object]) -> tuple[str, ...]:
    """Returns the steps that end a fault in this place.

    Args:
        fault: A key of `REMEDIES`.
        place: Where this process is.
        facts: Of the finding; the steps name some of them.

    Returns:
        One line for each step. A command starts with "$ ".
    """
    steps = REMEDIES[fault].steps
    chosen = next(steps[key] for key in place.keys if key in steps)
    values = {"module": place.module, **facts}
    return tuple(line.format_map(values) for line in chosen)
