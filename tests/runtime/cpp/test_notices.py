"""Notices about random prompts, which are full of the syntax of other programs: both runtimes say the same."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ldm_runtime
from ldm_runtime.errors import InputError
from ldm_runtime.pipeline import Pipeline
from tests.runtime.cpp.context import Refusal
from tests.runtime.cpp.library import Library
from tests.runtime.notices import said

pytestmark = pytest.mark.slow

BITS = [
    "(", ")", "[", "]", "{", "}", "<", ">", ":", "|", "\\", "_", "__", ".", "-", "+", "/", "*", " ", " ", "  ",
    "\u3000", "\u2003", "\x1c", "\n", "\u200b", "1", "2.5", ".5", "3.", "٣", "०", "²", "½", "Ⅷ", "a", "é",
    "e\u0301", "red", "AND", "BREAK", "AND ", " BREAK ", "A", "BC", "<lora:", "<hypernet:x", "init__", "doc__",
    "(a:1.2)", "[a:b:0.5]", "[a|b]", "{a|b}", "__c__", "(a:-1)", "'", '"', "日本", "\u00ad", "\ue000",
    "👩\u200d🚀", "x" * 30, "word " * 12,
]  # fmt: skip
SYNTAXES = ("plain", "weighted")


def random_prompt(draw: random.Random) -> str:
    return "".join(draw.choice(BITS) for _ in range(draw.randrange(1, 16)))


def differences(pipe: Pipeline, library: Library, count: int, seed: int) -> tuple[list[str], int]:
    """Return the prompts of which the runtimes say something else, and how many notices there were."""
    draw = random.Random(seed)
    different, notices = [], 0
    for index in range(count):
        prompt, syntax = random_prompt(draw), SYNTAXES[index % 2]
        try:
            expected = said(pipe.sample(prompt, syntax=syntax, guidance=1.0, steps=1))
        except InputError as error:
            expected = [str(error)]
        try:
            found = library.sample(prompt, syntax=syntax, guidance=1.0, steps=1).notices
        except Refusal as refusal:
            found = [refusal.text]
        notices += len(expected)
        if found != expected:
            different.append(f"{prompt!r}, {syntax}: {found}, expected {expected}")
    return different, notices


@pytest.fixture(scope="module")
def library(library_file: Path, onnxruntime_library: Path, tiny: Path) -> Iterator[Library]:
    with Library(library_file, onnxruntime_library, tiny) as opened:
        yield opened


def test_random_prompts(pipe: Pipeline, library: Library) -> None:
    different, notices = differences(pipe, library, 600, seed=3)
    assert different == [] and notices > 600


if __name__ == "__main__":  # python -m tests.runtime.cpp.test_notices LIBRARY ONNXRUNTIME PACKAGE COUNT [SEED]
    files = [Path(each) for each in sys.argv[1:4]]
    with ldm_runtime.load(files[2]) as python, Library(*files) as native:
        found, total = differences(python, native, int(sys.argv[4]), int((sys.argv[5:] or ["0"])[0]))
    print(*found[:20], f"{len(found)} of {sys.argv[4]} prompts differ; {total} notices", sep="\n")
