"""Runs an example where KVM is not as it should be. No test: a program that tests run.

What is wrong begins when the device is opened: by then everything is imported, so that a user who may not even read the
interpreter's files can still be the one to whom it happens.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from unittest import mock

from kvmbind.kvm.system import System
from kvmbind.zircon import resource

capability = System.capability


def main() -> None:
    """Changes what opening the device does, and runs the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", help="path")
    parser.add_argument("--device", help="the device that is opened instead of /dev/kvm")
    parser.add_argument("--user", type=int, help="the user and group who open it; needs root")
    parser.add_argument("--without", type=int, help="number of a KVM_CAP_ that the device does not have")
    args = parser.parse_args()

    def open_device(device: str) -> System:
        if args.user is not None:
            os.setgroups([])
            os.setresgid(args.user, args.user, args.user)
            os.setresuid(args.user, args.user, args.user)
        return System(args.device or device)

    def answer(system: System, number: int) -> int:
        return 0 if number == args.without else capability(system, number)

    sys.argv = [args.example]
    with mock.patch.object(resource, "System", open_device), mock.patch.object(System, "capability", answer):
        runpy.run_path(args.example, run_name="__main__")


if __name__ == "__main__":
    main()
