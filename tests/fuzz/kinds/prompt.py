"""Prompts, plain and weighted, up to what the text encoder makes of them."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import ldm_runtime
from ldm_runtime.notice import Notice
from ldm_runtime.text.weighting import parse_prompt
from tests.fuzz.kind import GOLDEN, Kind
from tests.fuzz.mutate import TEXTS, mutate_text

SEEDS = (
    "a red apple, 3d style",
    "a (red:1.3) apple",
    "((a [cat]:1.2), dog:0.5) BREAK (x:0)",
    r"\(a\) \[b\] \\",
    "(((((a)))))",
    "a lighthouse at dusk, " * 12,
    "<lora:name:0.8> [a:b:0.5] AND c (d:-1)",
)
WORDS = (
    *TEXTS, "(", ")", "[", "]", "((((", "))))", "(:", ":1.3)", ":10)", "(x:10)", ":0)", ":-1)", ":1e9)", ":.5)", ":1.)",
    " BREAK ", "BREAK", " AND ", "<lora:a:1>", "[a:b:0.5]", "\\(", "\\", ",", " , ", "red",
)  # fmt: skip


def _prepare(folder: Path) -> tuple[Any, tuple[str, ...]]:
    cases = json.loads((GOLDEN / "prompts.json").read_text())["parse"]
    golden = tuple(case["prompt"] for case in cases if isinstance(case.get("prompt"), str))
    return ldm_runtime.load(GOLDEN / "package", engine="ort", threads=1), (*SEEDS, *golden)


def _make(random: Random, prepared: tuple[Any, tuple[str, ...]]) -> bytes:
    return mutate_text(random, random.choice(prepared[1]), WORDS).encode("utf-8", "surrogatepass")


def _read(content: bytes, prepared: tuple[Any, tuple[str, ...]]) -> None:
    pipe, text = prepared[0], content.decode("utf-8", "surrogatepass")
    failure = None
    notices: list[Notice] = []

    def embed(prompt: str, syntax: str = "plain") -> np.ndarray:
        return pipe.embed(prompt, syntax=syntax, notices=notices)

    for read in (parse_prompt, lambda prompt: embed(prompt, "weighted"), embed):
        try:
            made = read(text)
        except ldm_runtime.LdmError as error:
            failure = error
            continue
        if isinstance(made, np.ndarray):
            assert np.isfinite(made).all(), "an embedding that is not finite came out"
            longest = max((len(str(notice)) for notice in notices), default=0)
            assert longest <= 2000, f"a notice of {longest} characters"
    if failure is not None:
        raise failure


KINDS = [Kind("prompt", _prepare, _make, _read)]
