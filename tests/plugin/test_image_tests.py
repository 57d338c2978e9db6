"""Tests of images without Python: *.kvmbind.toml files."""

from __future__ import annotations

import tomllib
from collections.abc import Callable

import pytest

from kvmbind.pytest_plugin.documents import BadDocumentError, Document

Run = Callable[..., pytest.RunResult]

# Hypothesis is left out: each run would import it anew.
OPTIONS = ("-W", "error", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")

OK = bytes.fromhex("b40eb04fcd10b04bcd10fbf4ebfd")  # teletype O, K; STI; HLT for ever
ENDS_WITH_7 = bytes.fromhex("b8074ccd21")  # .COM: INT 21h/4Ch
ECHO = bytes.fromhex("b400cd16b40ecd10ebf6")  # a key, and it is written; for ever
# INT 40h's handler writes "!": AX = 0; ES = AX; vector; "R" for ready; STI; HLT for ever.
ANSWERS = bytes.fromhex("31c08ec026c70600011a7c26a30201b40eb052cd10fbf4ebfd9050b40eb021cd1058cf")

TWO_INTERRUPTS = '[[interrupts]]\nvector = 0x40\nafter = "R"\ntimes = 2\ngap_s = 0.2'


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest in a folder with an image and a test of it."""

    def run(image: bytes, document: str, *options: str) -> pytest.RunResult:
        pytester.path.joinpath("image.img").write_bytes(image)
        pytester.path.joinpath("image.kvmbind.toml").write_text(document)
        return pytester.runpytest_subprocess(*OPTIONS, *(options or ("--kvm=require",)))

    return run


@pytest.mark.kvm
@pytest.mark.parametrize(
    ("image", "document"),
    [
        (OK, 'expect = "OK"\nformat = "flat"'),
        (ENDS_WITH_7, 'exit_status = 7\nformat = "com"'),
        (ECHO, 'keys = "abc"\nexpect = ["a", "abc"]\nformat = "flat"\ntimeout_s = 60'),
        (ANSWERS, f'expect = "R!!"\nformat = "flat"\n{TWO_INTERRUPTS}'),
    ],
    ids=["expect", "exit_status", "keys", "interrupts"],
)
def test_an_image_that_does_what_its_file_says_passes(run: Run, image: bytes, document: str) -> None:
    result = run(image, f'image = "image.img"\n{document}', "-v", "--kvm=require")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["image.kvmbind.toml::image PASSED*"])


@pytest.mark.kvm
def test_a_text_that_does_not_come_is_said_in_a_sentence_with_what_is_on_the_screen(run: Run) -> None:
    result = run(OK, 'image = "image.img"\nformat = "flat"\nexpect = "KO"\ntimeout_s = 0.5')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["image.kvmbind.toml: 'KO' did not come in * s", "*- kvmbind machine -*", "screen:", "OK", "last exits:"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.kvm
def test_another_exit_status_is_said_with_the_reason(run: Run) -> None:
    result = run(ENDS_WITH_7, 'image = "image.img"\nformat = "com"\nexit_status = 0')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["image.kvmbind.toml: it ended with status 7 (terminated), not 0"])


@pytest.mark.kvm
def test_an_image_that_is_missing_is_said_in_a_sentence(run: Run) -> None:
    result = run(OK, 'image = "other.img"\nexpect = "OK"')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["image.kvmbind.toml: *other.img*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_it_needs_kvm(run: Run) -> None:
    result = run(OK, 'image = "image.img"\nexpect = "OK"', "--kvm=off")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["    image.kvmbind.toml::image"])


def test_a_file_that_is_wrong_is_an_error_of_collection(run: Run) -> None:
    result = run(OK, 'image = "image.img"\nexpects = "OK"', "--kvm=auto")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*image.kvmbind.toml: expects is no key of a .kvmbind.toml file*"])


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ('expect = "OK"', "image is missing"),
        ('image = 3\nexpect = "OK"', "image is 3: a text is wanted"),
        ('image = "a"', "it says neither expect nor exit_status: nothing could fail"),
        ('image = "a"\nexpect = [3]', "expect must be a text, or a list of texts"),
        ('image = "a"\nexpect = ""', "expect must be a text"),
        ('image = "a"\nexit_status = true', "exit_status is True: an integer is wanted"),
        ('image = "a"\nexpect = "b"\ntimeout_s = "1"', "timeout_s is '1': a number is wanted"),
        ('image = "a"\nexpect = "b"\n[[interrupts]]\nvectr = 1', "interrupts.vector is missing"),
        ('image = "a"\nexpect = "b"\n[[interrupts]]\nvector = 1\nevery = 1', "interrupts.every is no key"),
        ('image = "a"\nexpect = "b"\n[[interrupts]]\nvector = 256', "a vector of 0 to 255"),
        ('image = "a"\nexpect = "b"\ninterrupts = [1]', "interrupts must be a table"),
    ],
)
def test_what_a_file_may_not_say_is_named(document: str, sentence: str) -> None:
    with pytest.raises(BadDocumentError, match=sentence):
        Document.parse(tomllib.loads(document))
