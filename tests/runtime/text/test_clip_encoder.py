"""Token ids equal those of the `tokenizers` library: for every character, for random texts and random added tokens."""

import importlib.util
import itertools
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from ldm_runtime.text import byte_pairs
from ldm_runtime.text.clip_encoder import ClipEncoder
from ldm_runtime.text.clip_form import read_tokenizer
from tests.runtime.text.random_texts import FLAGS, random_text, random_tokenizer

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "tokenizer" / "tokenizer.json"
SCRIPT = ROOT / "runtime" / "cpp" / "scripts" / "make_unicode_tables.py"


def of_both(file: dict[str, Any]) -> tuple[ClipEncoder, tokenizers.Tokenizer]:
    text = json.dumps(file)
    return ClipEncoder(read_tokenizer(text.encode(), "x")), tokenizers.Tokenizer.from_str(text)


OURS, THEIRS = of_both(json.loads(GOLDEN.read_text()))


def library_ids(library: tokenizers.Tokenizer, text: str) -> list[int]:
    return list(library.encode(text, add_special_tokens=False).ids)


def assert_equal(text: str) -> None:
    assert list(OURS.encode(text)) == library_ids(THEIRS, text), ascii(text)


def in_context(point: int) -> str:
    """A character alone, behind and before a letter and marks that join or move, before an ending, twice."""
    each = chr(point)
    return f"{each} e{each}\u0301\u0334'{each}1{each}{each}"


def test_characters_are_split_joined_and_lowered_as_by_the_library() -> None:
    """A sample, with the characters of which versions of Unicode differ; `every_character` has all."""
    differ = [*range(0x7F0, 0x800), *range(0x8C0, 0x8E0), *range(0xA7C0, 0xA7E0), *range(0x1C80, 0x1C90)]
    differ += [
        *range(0x10D40, 0x10D90, 3),
        *range(0x11380, 0x113E0),
        *range(0x11930, 0x11940),
        *range(0x16D60, 0x16D7A),
    ]
    for point in (
        *range(0x600),
        *range(0x600, 0x30000, 997),
        *differ,
        *range(0x16EA0, 0x16EC0),
        0xAC00,
        0xAC01,
        0x1161,
    ):
        if not 0xD800 <= point < 0xE000:
            assert_equal(in_context(point))


@pytest.mark.slow
def test_every_character_is() -> None:
    for point in (*range(0xD800), *range(0xE000, 0x32400), *range(0xE0000, 0xE0200)):
        assert_equal(in_context(point))


def test_random_texts_have_the_librarys_ids_with_added_tokens_of_every_kind() -> None:
    """100,000 by hand: `python -m tests.runtime.text.random_texts 100000`."""
    draw = random.Random(5)
    for _ in range(12):
        ours, theirs = of_both(random_tokenizer(draw))
        for _ in range(100):
            text = random_text(draw)
            assert list(ours.encode(text)) == library_ids(theirs, text), ascii(text)


def test_a_token_that_another_one_has_taken_is_not_there_at_the_end_of_a_text_either() -> None:
    """The last space is found by its own text, not as the begin of two."""
    file = json.loads(GOLDEN.read_text())
    ids = itertools.count(len(file["model"]["vocab"]))
    for content in ("zebra", " ", "  "):
        flags = dict.fromkeys(FLAGS, False) | {"rstrip": content == "zebra", "lstrip": content == " "}
        file["added_tokens"].append({"id": next(ids), "content": content, **flags})
    ours, theirs = of_both(file)
    for text in (" zebra ", "zebra  ", "a zebra zebra "):
        assert list(ours.encode(text)) == library_ids(theirs, text)


@pytest.mark.parametrize(
    "text",
    [
        "a red apple",
        " \t red\u3000apple,  3d",
        "naïve Café — “quotes”",
        "İstanbul 中文字 한국어",
        "👩‍🚀 don't <|endoftext|> x",
        "cafe\u0301BREAK re\u0301d a\u0323\u0301bc",
    ],
)
def test_places_of_tokens_are_those_of_the_library(text: str) -> None:
    offsets = THEIRS.encode(text, add_special_tokens=False).offsets
    assert [OURS.place_of(text, index) for index in range(len(offsets))] == [start for start, _ in offsets]
    assert OURS.place_of(text, len(offsets)) == len(text)


def test_a_long_word_takes_no_quadratic_time() -> None:
    def seconds(length: int) -> float:
        start = time.process_time()
        assert list(OURS.encode("ab" * length))
        return time.process_time() - start

    seconds(100)
    assert seconds(20_000) < 10 * max(seconds(5_000), 0.001)  # 4 times and a little


def test_merges_take_the_lowest_rank_first_and_then_the_first_place() -> None:
    ranks = {("a", "a"): 1, ("aa", "a"): 0, ("b", "c"): 2}
    assert byte_pairs.merge(list("aaaa"), ranks) == ["aaa", "a"]
    assert byte_pairs.merge(list("aabc"), ranks) == ["aa", "bc"]
    assert byte_pairs.merge(["a"], ranks) == ["a"] and byte_pairs.merge([], ranks) == []


@pytest.mark.slow
def test_the_tables_are_those_that_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_unicode_tables", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # which its dataclass looks for
    spec.loader.exec_module(script)
    known = script.ask()
    assert script.PYTHON.read_text() == script.python_module(known)
    assert script.CPP.read_text() == script.cpp_file(known)
