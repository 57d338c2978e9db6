"""README and the guides do what they say: their programs and commands run and print what is shown."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from PIL import Image

from kvmbind.cli import build_parser
from kvmbind.doctor import Place
from kvmbind.doctor.remedies import remedy_for
from kvmbind.pytest_plugin.documents import Document

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Languages whose blocks are run or checked here, and those that are no program.
CHECKED = {"python", "console", "toml"}
PROSE = {"", "text", "yaml", "dockerfile", "ini", "asm", "c"}

#: What a console block may call that is not this project's: it is not run.
FOREIGN = {"pip", "pipx", "uv", "sudo", "docker", "podman", "git", "qemu-system-x86_64", "gdb"}

#: Options with which a command waits for another program. The tests of `kvmbind run` have that.
WAITS = {"--gdb", "--irq-socket"}

#: As last options of `kvmbind bench`: what it prints has the same form.
FEW = ("-n", "20", "--repeat", "2", "--warmup", "1")


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

    @property
    def commands(self) -> Iterator[Command]:
        """What is typed at its prompts, and what is shown below each."""
        for part in re.split(r"^\$ ", self.text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            words = shlex.split(line, comments=True)
            environ = [word for word in words if "=" in word.partition("/")[0]]
            program, *arguments = words[len(environ) :]
            yield Command(program, arguments, shown)


class Command(NamedTuple):
    """A command of a console block, without the variables before it, and what is shown that it prints."""

    program: str
    arguments: list[str]
    shown: str

    @property
    def is_bench(self) -> bool:
        """Whether it measures: then what it prints has other numbers each time."""
        return self.program == "kvmbind" and self.arguments[0] == "bench" and self.arguments[1:2] != ["compare"]

    @property
    def runs(self) -> bool:
        """Whether it is this project's and ends by itself."""
        return self.program in ("kvmbind", "pytest") and WAITS.isdisjoint(self.arguments)

    def run(self, folder: Path) -> str:
        """Runs it in a folder and returns what it prints."""
        command = [str(Path(sys.executable).with_name(self.program)), *self.arguments, *(FEW if self.is_bench else ())]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
        may_find_faults = self.program == "pytest" or self.arguments[:2] == ["bench", "compare"]
        assert done.returncode in ((0, 1) if may_find_faults else (0,)), done.stdout + done.stderr
        return done.stdout

    def prints(self, printed: str) -> bool:
        """Tells whether this is what is shown: three dots stand for any lines, a benchmark's number for any number."""
        shown = self.shown
        if self.is_bench:
            shown, printed = (re.sub(r"[\d.,]*\d[\d.,]*k?", "#", text) for text in (shown, printed))
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        return not shown or doctest.OutputChecker().check_output(shown, printed, options)


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
    """Runs a test with each block of a language, once if several pages have it."""
    blocks = {block.text: block for block in BLOCKS if block.language == language and block.is_test is is_test}
    chosen = blocks.values()
    return pytest.mark.parametrize("block", chosen, ids=[f"{block.page}:{block.line}" for block in chosen])


def run(folder: Path, *command: str) -> str:
    """Runs a Python in a folder and returns what it prints."""
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.mark.kvm
@each("python")
def test_a_program_prints_what_is_shown(tmp_path: Path, block: Block) -> None:
    printed = run(tmp_path, "-X", "dev", "-W", "error", "-c", block.text)
    if block.output is not None:
        assert printed == block.output


@pytest.mark.kvm
@each("python", is_test=True)
def test_a_test_passes(tmp_path: Path, block: Block) -> None:
    (tmp_path / "test_block.py").write_text(block.text)
    without = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    run(tmp_path, "-m", "pytest", "-q", "-W", "error", *without, "--kvm=require")


@each("console")
def test_a_command_exists_and_takes_these_arguments(block: Block) -> None:
    for program, arguments, _ in block.commands:
        if program == "kvmbind":
            if "--version" not in arguments:
                build_parser().parse_args(arguments)
        elif program == "make":
            subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
        else:
            assert program in {"pytest", *FOREIGN}, f"{block.page}:{block.line} calls {program}, which no test knows"


@pytest.mark.kvm
@each("console")
def test_a_command_prints_what_is_shown_and_draws_the_picture_of_the_page(tmp_path: Path, block: Block) -> None:
    tmp_path.joinpath("examples").symlink_to(ROOT / "examples")
    tmp_path.joinpath("docs/pictures").mkdir(parents=True)
    for name, text in files_of(block.page):
        tmp_path.joinpath(name).write_text(text)
    for command in block.commands:
        if command.runs:
            printed = command.run(tmp_path)
            assert command.prints(printed), printed
    for path in tmp_path.glob("docs/pictures/*"):
        assert last_frame(path) == last_frame(ROOT / path.relative_to(tmp_path)), f"{path.name}: run make pictures"


def files_of(page: str) -> Iterator[tuple[str, str]]:
    """Yields the files that a page shows: their first line is a comment with the name."""
    for block in BLOCKS:
        named = re.match(r"# (\S+\.kvmbind\.toml)\n", block.text)
        if block.page == page and named:
            yield named[1], block.text


def last_frame(path: Path) -> bytes:
    """Returns the pixels of a picture, or of the last one of a moving picture."""
    with Image.open(path) as image:
        image.seek(getattr(image, "n_frames", 1) - 1)
        return image.convert("RGB").tobytes()


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


def test_the_step_that_opens_the_device_on_github_is_the_same_in_ci_in_the_guide_and_from_the_doctor() -> None:
    texts = [
        (ROOT / name).read_text(encoding="utf-8") for name in (".github/actions/kvm/action.yml", "docs/testing.md")
    ]
    steps = [re.search(r"echo 'KERNEL.*--name-match=kvm --settle$", text, re.MULTILINE | re.DOTALL) for text in texts]
    ours, guides = (step[0].split() for step in steps if step is not None)
    doctors = " ".join(line.removeprefix("$ ") for line in remedy_for("group", Place("6.8", ci="github"), {})[1:])
    assert ours == guides == doctors.replace(" && ", " ").split()
