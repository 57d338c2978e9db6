"""`kvmbind doctor`: whether guests run on this machine, and what to do where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from kvmbind.cli import Commands
    from kvmbind.doctor import Finding, Place

_TOPIC_WIDTH = 13


def register(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "doctor", help="look whether guests run here, and what to do if not", description=_ABOUT
    )
    parser.add_argument(
        "--device", default="/dev/kvm", metavar="PATH", help="the device to open (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.set_defaults(run=_run)


_ABOUT = """Opens the device, makes a virtual machine, and lets a guest count interrupts that reach it by an irqfd.
Tells how KVM is set, and which limits are tight. Each fault has its remedy for this distribution, container or CI
service. Exit status: 0 if guests run, 1 if there is a fault."""


def _run(args: argparse.Namespace) -> int:
    import os

    from kvmbind import __version__
    from kvmbind.doctor import Files, Level, Place, examine

    files = Files()
    place = Place.look(files, os.environ)
    findings = []
    if not args.json:
        print(f"kvmbind {__version__} on {place}\n", flush=True)
    for finding in examine(place, files, args.device):
        findings.append(finding)
        if not args.json:
            print(*_lines(finding), sep="\n", flush=True)
    print(_as_json(place, findings) if args.json else f"\n{_verdict(findings)}")
    return int(any(finding.level is Level.FAULT for finding in findings))


def _lines(finding: Finding) -> Iterator[str]:
    from kvmbind.doctor import Level

    word = finding.level.upper() if finding.level is Level.FAULT else finding.level
    yield f"{word:8} {finding.topic:{_TOPIC_WIDTH}} {finding.summary}"
    for line in finding.remedy:
        yield f"             {line}"


def _verdict(findings: list[Finding]) -> str:
    from kvmbind.doctor import Level

    faults = [finding.fault for finding in findings if finding.level is Level.FAULT]
    warnings = [finding.fault for finding in findings if finding.level is Level.WARNING]
    sentence = f"Guests do not run here: {', '.join(faults)}." if faults else "Guests run here."
    return f"{sentence} Warnings: {', '.join(warnings)}." if warnings else sentence


def _as_json(place: Place, findings: list[Finding]) -> str:
    import json

    from kvmbind import __version__
    from kvmbind.doctor import Level

    return json.dumps(
        {
            "kvmbind": __version__,
            "guests_run": not any(finding.level is Level.FAULT for finding in findings),
            "place": place._asdict(),
            "findings": [{**finding._asdict(), "facts": dict(finding.facts)} for finding in findings],
        },
        indent=2,
    )
