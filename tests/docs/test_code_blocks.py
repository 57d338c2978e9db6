"""README and the guides do what they say: their programs run and print what is shown, their commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest

from kvmbind.cli import build_parser
from kvmbind.pytest_plugin.documents import Document

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Languages whose blocks are run or checked here, and those that are no program.
CHECKED = {"python", "console", "toml"}
PROSE = {"", "text", "yaml", "dockerfile", "ini", "asm", "c"}

#: What a console block may call that is not this project's: it is not run.
FOREIGN = {"pip", "pipx", "uv", "sudo", "docker", "podman", "git", "qemu-system-x86_64", "gdb"}


class Block(NamedTuple):
    """A fenced block, and what it prints: the block without a language that follows it at once."""

    page: str
    line: int
    language: str
    text: str
    output: str | None

    @property
    def is_test(self) -> bool:
        """Whether pytest runs it."""
        return "\ndef test_" in self.text


def read_blocks() -> list[Block]:
    """Returns the blocks of all pages, in order."""
    blocks = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = list(FENCE.finditer(text))
        for fence, following in zip_longest(fences, fences[1:]):
            output = None
            if following is not None and not following[1] and not text[fence.end() : following.start()].strip():
                output = following[2]
            line = text.count("\n", 0, fence.start()) + 1
            blocks.append(Block(str(page.relative_to(ROOT)), line, fence[1], fence[2], output))
    return blocks


BLOCKS = read_blocks()


def each(language: str, *, is_test: bool = False) -> pytest.MarkDecorator:
    """Runs a test with each block of a language."""
    chosen = [block for block in BLOCKS if block.language == language and block.is_test is is_test]
    return pytest.mark.parametrize("block", chosen, ids=[f"{block.page}:{block.line}" for block in chosen])


def run(folder: Path, *command: str) -> str:
    """Runs a Python in a folder and returns what it prints."""
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.kvm
@each("python")
def test_a_program_prints_what_is_shown(tmp_path: Path, block: Block) -> None:
    printed = run(tmp_path, "-W", "error", "-c", block.text)
    if block.output is not None:
        assert printed == block.output


@pytest.mark.kvm
@each("python", is_test=True)
def test_a_test_passes(tmp_path: Path, block: Block) -> None:
    (tmp_path / "test_block.py").write_text(block.text)
    run(tmp_path, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--kvm=require")


@each("console")
def test_a_command_exists_and_takes_these_arguments(block: Block) -> None:
    for line in block.text.splitlines():
        if not line.startswith("$ "):
            continue
        words = [word for word in shlex.split(line[2:], comments=True) if "=" not in word.partition("/")[0]]
        program, *arguments = words
        if program == "kvmbind":
            if "--version" not in arguments:
                build_parser().parse_args(arguments)
        elif program == "make":
            subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
        elif program not in FOREIGN:
            pytest.fail(f"{block.page}:{block.line} calls {program}, which no test knows")


@each("toml")
def test_a_document_says_what_a_test_of_an_image_may_say(block: Block) -> None:
    table = tomllib.loads(block.text)
    if "image" in table:
        Document.parse(table)


def test_every_block_has_a_language_that_is_checked_or_is_no_program() -> None:
    assert {block.language for block in BLOCKS} - {"{toctree}", "{image}", "{eval-rst}"} <= CHECKED | PROSE


def test_the_troubleshooting_guide_is_that_of_the_doctors_table() -> None:
    guide = ROOT / "docs/troubleshooting.md"
    before = guide.read_text(encoding="utf-8")
    program = "import runpy; print(runpy.run_path('docs/make_troubleshooting.py')['render'](), end='')"
    assert run(ROOT, "-c", program) == before
