"""Writes docs/troubleshooting.md from the doctor's table of remedies; a test checks that it is up to date.

usage: python docs/make_troubleshooting.py
"""

from __future__ import annotations

from pathlib import Path

from kvmbind.doctor.remedies import REMEDIES, Remedy

GUIDE = Path(__file__).with_name("troubleshooting.md")

NAMES = {
    "github": "GitHub Actions",
    "gitlab": "GitLab CI",
    "wsl2": "WSL2",
    "docker": "Docker",
    "podman": "Podman",
    "kubernetes": "Kubernetes",
    "lxc": "LXC, Incus",
    "nspawn": "systemd-nspawn",
    "container": "Another container",
    "debian": "Debian, Ubuntu",
    "fedora": "Fedora, RHEL",
    "any": "Anywhere else",
}

HEAD = """<!-- Written by docs/make_troubleshooting.py from kvmbind/doctor/remedies.py. -->

# Troubleshooting

`kvmbind doctor` finds out which of these it is, fills in what stands in braces here, and shows the remedy for the place
that it runs in. The name of a fault is the one that it prints at the end, and `fault` in `kvmbind doctor --json`.
"""


def render() -> str:
    """Returns the text of the guide."""
    return "\n".join([HEAD, *(_section(fault, remedy) for fault, remedy in REMEDIES.items())])


def _section(fault: str, remedy: Remedy) -> str:
    ways = [(key, remedy.steps[key]) for key in NAMES if key in remedy.steps]
    parts = [f"## {fault}\n", f"{remedy.meaning}\n"]
    for key, steps in ways:
        if len(ways) > 1:
            parts.append(f"{NAMES[key]}:\n")
        text = "\n".join(line.replace("{{", "{").replace("}}", "}") for line in steps)
        parts.append(f"```text\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    GUIDE.write_text(render(), encoding="utf-8")
