"""The guide "From Zircon to KVM" has every call, under its name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from kvmbind import zx

GUIDE = Path(__file__).resolve().parents[2] / "docs/zircon.md"


def test_every_call_has_a_section_and_no_other_has() -> None:
    sections = set(re.findall(r"^### (\w+)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    calls = {name for name, value in vars(zx).items() if inspect.isfunction(value)}
    assert calls == sections
