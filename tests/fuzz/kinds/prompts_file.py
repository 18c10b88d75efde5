"""The prompts of a budget, a file of a line each."""

from pathlib import Path
from random import Random
from typing import Any

from ldm_export.lossy.prompts import digest, read_prompts, seeds
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import TEXTS, as_bytes, mutate_bytes, mutate_text


def _prepare(folder: Path) -> list[str]:
    return [f"a red apple {index}, 3d style" for index in range(20)]


def _make(random: Random, lines: list[str]) -> bytes:
    ending = random.choice(("\n", "\n", "\r\n", "\r", "\u2028", "\x85"))
    text = mutate_text(random, ending.join([*lines, random.choice(TEXTS)]))
    content = random.choice((b"", b"", b"\xef\xbb\xbf", b"\xff\xfe")) + as_bytes(text)
    return mutate_bytes(random, content) if random.random() < 0.2 else content


def _read(content: bytes, lines: Any) -> None:
    file = Path("prompts.txt")
    file.write_bytes(content)
    found = read_prompts(file)
    assert not {*found.calibration} & {*found.held_out}
    for prompts in (found.calibration, found.held_out):
        assert 8 <= len(prompts) <= 16
        digest(prompts, seeds(1, len(prompts)))


KINDS = [Kind("prompts_file", _prepare, _make, _read)]
