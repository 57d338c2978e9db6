"""Checks that the type of every public name is written down, as other type checkers and editors see it.

usage: python tests/packaging/check_public_types.py

Public is what `kvmbind` and `kvmbind.bench` export, with all that the modules define where it comes from, and the
calls, images, doctor, pytest plugin. basedpyright looks at the whole package (`--verifytypes`), of which the layers
below are not for users. Docstrings are ruff's to check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import kvmbind
import kvmbind.bench

ROOT = Path(__file__).resolve().parents[2]
DOORS = ("kvmbind.zx", "kvmbind.guests", "kvmbind.doctor", "kvmbind.pytest_plugin")


def main() -> None:
    """Exits with one line for each public name whose type is unknown, or is left to the checker to guess."""
    public = (*DOORS, *sorted(homes()))
    symbols = [symbol for symbol in verify_types() if is_of(symbol["name"], public)]
    bad = [(symbol["name"], reasons) for symbol in symbols if (reasons := own_faults(symbol))]
    for name, reasons in bad:
        print(f"{name}: {'; '.join(reasons)}")
    if bad or not symbols:
        sys.exit(f"{len(bad)} of {len(symbols)} public names have no complete type")
    print(f"all {len(symbols)} public names have a complete type")


def own_faults(symbol: dict[str, Any]) -> list[str]:
    """Returns what is wrong with the declaration of a name.

    A type that is written down is complete, also if it is a class of the layers below whose own attributes are left to
    the checker to infer ("partially unknown"), as `Machine.pc` is.
    """
    reasons = [found["message"].partition("\n")[0] for found in symbol["diagnostics"]]
    faults = [reason for reason in reasons if not reason.endswith("is partially unknown")]
    is_unknown = not symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]
    return [*faults, "its type is unknown"] if is_unknown else faults


def homes() -> set[str]:
    """Returns the modules that define what `kvmbind` and `kvmbind.bench` export."""
    exporters = (kvmbind, kvmbind.bench)
    values = (getattr(exporter, name) for exporter in exporters for name in dir(exporter) if not name.startswith("_"))
    return {value.__module__ for value in values if getattr(value, "__module__", "").startswith("kvmbind.")}


def is_of(name: str, modules: tuple[str, ...]) -> bool:
    """Tells whether a name is one of these modules', and no private one."""
    inside = any(name.startswith(f"{module}.") for module in modules)
    return inside and not any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def verify_types() -> list[dict[str, Any]]:
    """Returns what basedpyright says of each name of the package."""
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    command += ["--verifytypes", "kvmbind", "--ignoreexternal", "--outputjson"]
    with tempfile.TemporaryDirectory() as elsewhere:  # in the checkout it would look for a project
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=elsewhere, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    symbols: list[dict[str, Any]] = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    return symbols


if __name__ == "__main__":
    main()
