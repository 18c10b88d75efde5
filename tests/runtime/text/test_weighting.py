"""The weighted prompt syntax: what is read, how it becomes windows, what weights do to an embedding."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_runtime.checks import given
from ldm_runtime.errors import InputError
from ldm_runtime.notice import Notice
from ldm_runtime.package.manifest import TokenizerFacts
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.text.clip_encoder import ClipEncoder
from ldm_runtime.text.clip_form import read_tokenizer
from ldm_runtime.text.conditioning import TextEncoder
from ldm_runtime.text.notices import read_as_words
from ldm_runtime.text.tokenizer import Tokenizer
from ldm_runtime.text.weighting import parse_prompt, weigh, windows
from tests.runtime.notices import said
from tests.runtime.tiny_package import WINDOW

CASES: dict[str, list[list[tuple[str, float]]]] = {
    "": [[]],
    "a red cat": [[("a red cat", 1)]],
    "a (red:1.3) cat": [[("a ", 1), ("red", 1.3), (" cat", 1)]],
    "a (red) [cat]": [[("a ", 1), ("red", 1.1), (" ", 1), ("cat", 1 / 1.1)]],
    "((a) b)": [[("a", 1.1 * 1.1), (" b", 1.1)]],
    "((a:2) b:0.5)": [[("a", 1), (" b", 0.5)]],
    "([a])": [[("a", 1 / 1.1 * 1.1)]],
    r"\(x\) \[y\] \\": [[(r"(x) [y] " + "\\", 1)]],
    r"\n": [[(r"\n", 1)]],
    "a (b c": [[("a ", 1), ("b c", 1.1)]],
    "a [b (c": [[("a ", 1), ("b ", 1 / 1.1), ("c", 1.1 / 1.1)]],
    "a ) b ]": [[("a ) b ]", 1)]],
    "a:1.3) b": [[("a:1.3) b", 1)]],
    "(a:b)": [[("a:b", 1.1)]],
    "(a: 1.5 )": [[("a", 1.5)]],
    "(a:.5)": [[("a", 0.5)]],
    "(a:1.2:1.5)": [[("a:1.2", 1.5)]],
    "(a:0)": [[("a", 0)]],
    "[a:1.2]": [[("a:1.2", 1 / 1.1)]],
    "(a]": [[("a]", 1.1)]],
    "one BREAK two": [[("one ", 1)], [(" two", 1)]],
    "BREAK": [[], []],
    "BREAKFAST unBREAK BREAK,": [[("BREAKFAST unBREAK BREAK,", 1)]],
    "(a BREAK b)": [[("a ", 1.1)], [(" b)", 1)]],
    "日本 (語:1.2)": [[("日本 ", 1), ("語", 1.2)]],
}


@pytest.mark.parametrize("prompt", CASES)
def test_a_prompt_is_read_as_defined(prompt: str) -> None:
    read = [[(piece.text, piece.weight) for piece in part] for part in parse_prompt(prompt)]
    assert [[text for text, _ in part] for part in read] == [[text for text, _ in part] for part in CASES[prompt]]
    weights = [[weight for _, weight in part] for part in CASES[prompt]]
    assert [[weight for _, weight in part] for part in read] == [pytest.approx(part) for part in weights]


def test_a_weight_beyond_10_is_refused() -> None:
    with pytest.raises(InputError, match="a weight in the prompt is 11; expected a number from 0 to 10"):
        parse_prompt("(a:11)")


OUT_OF_RANGE = {
    "(a:12345)": "a weight in the prompt is 12345; expected a number from 0 to 10",
    "(a:" + "9" * 900 + ")": r"a weight in the prompt is 99999999999999999\.\.\.; expected a number from 0 to 10",
    "(a:0.0000009)": "a weight in the prompt is 0.0000009; expected 0, or 0.000001 at least",
    "((a:10):10.0) (((b:10):10):1.1)": "the brackets around 'b' in the prompt multiply to a weight of more than 100",
    "(" * 1_000 + "a": "the brackets around 'a' in the prompt multiply to a weight of more than 100; use fewer of them",
    "(" * 90_000 + "a": "of more than 100",
    "[" * 1_000 + "a": "of less than 0.000001",
    "[" * 90_000 + "a": "of less than 0.000001",
    "(" * 400 + "a" + ":10)" * 400: "of more than 100",
    "(" * 400
    + "b (a:0)"
    + ":10)" * 400: "the brackets around 'b ' in the prompt multiply to a weight of more than 100",
}


@pytest.mark.parametrize("prompt", OUT_OF_RANGE, ids=lambda prompt: prompt[:20])
def test_a_weight_or_product_out_of_range_is_refused(prompt: str) -> None:
    started = time.process_time()
    with pytest.raises(InputError, match=OUT_OF_RANGE[prompt]) as refused:
        parse_prompt(prompt)
    assert time.process_time() - started < 10 and len(str(refused.value)) < 200


@pytest.mark.parametrize("prompt", ["((a:10):10)", "(" * 48 + "a", "[" * 144 + "a", "(a:0.000001)", "(" * 90_000])
def test_a_weight_in_range_is_read(prompt: str) -> None:
    for piece in parse_prompt(prompt)[0]:
        assert 1e-6 <= piece.weight <= 100


def test_nothing_times_anything_is_nothing() -> None:
    ((piece,),) = parse_prompt("(" * 400 + "(a:0)" + ":10)" * 400)
    assert (piece.text, piece.weight) == ("a", 0.0)


def test_a_hostile_prompt_takes_no_time() -> None:
    started = time.process_time()
    blanks, digits = " " * 25_000, "9" * 25_000
    repeated = (
        "[",
        "[a",
        "[|",
        "(",
        "(:",
        "{",
        "{|",
        "<lora:",
        "__",
        "__a",
        ":-1",
        ": ",
        "(a:1",
        "[:1",
        "()",
        "(])",
        r"\(",
    )
    for prompt in ("(a:" + blanks + digits, "[a:" + digits + blanks, *(text * 15_000 for text in repeated)):
        for syntax in ("plain", "weighted"):
            read_as_words("the prompt", prompt, syntax)
    for prompt in (
        "(a:" + blanks + digits,
        ":1" * 25_000,
        "()" * 25_000,
        "(])" * 20_000,
        r"\(" * 25_000,
        " BREAK" * 16_000,
    ):
        assert len(parse_prompt(prompt)) in (1, 16_001)
    assert time.process_time() - started < 20  # quadratic time is minutes


# --- windows ---

WEBUI = json.loads((Path(__file__).parent / "webui_windows.json").read_text("ascii"))


class GoldenTokenizer(Tokenizer):
    """Of the golden tokenizer file, without a package."""

    def __init__(self) -> None:
        file = Path(__file__).parents[2] / "golden" / "tokenizer" / "tokenizer.json"
        clip = read_tokenizer(file.read_bytes(), file.name)
        self._encoder = ClipEncoder(clip)
        begin, end = (given(clip.id_of(token)) for token in ("<|startoftext|>", "<|endoftext|>"))
        self._facts = TokenizerFacts(file.name, 77, begin, end, end, clip.size)
        self.comma, self._vectors = clip.id_of(",</w>"), {}


@pytest.mark.parametrize("case", WEBUI, ids=lambda case: case["prompt"][:20])
def test_windows_are_those_of_the_web_ui(case: dict[str, Any]) -> None:
    made = windows(case["prompt"], GoldenTokenizer())
    assert len(made) == len(case["windows"])
    for window, expected in zip(made, case["windows"], strict=True):
        ids = [token for _, run in expected for token in run]
        weights = [weight for weight, run in expected for _ in run]
        end = len(ids) + 1
        assert window.ids[1:end].tolist() == ids and len(set(window.ids[end:].tolist())) == 1
        np.testing.assert_allclose(window.weights[1:end], weights, rtol=1e-12)
        assert window.weights[0] == 1 and (window.weights[end:] == 1).all()


def words_in(prompt: str, tokenizer: Tokenizer) -> list[int]:
    return [int((window.ids != window.ids[-1]).sum()) - 1 for window in windows(prompt, tokenizer)]


def test_a_phrase_moves_to_the_next_window_behind_its_comma() -> None:
    tokenizer = GoldenTokenizer()
    assert words_in("red " * 55 + "," + " blue" * 19 + " (red:2)", tokenizer) == [56, 20]
    assert words_in("red " * 54 + "," + " blue" * 20 + " (red:2)", tokenizer) == [75, 1]  # it is the 21st from the end
    assert words_in("red " * 55 + "," + " blue" * 19 + ", red", tokenizer) == [75, 2]  # a comma does not push it
    assert words_in("red " * 55 + "," + " blue" * 19, tokenizer) == [75]


def test_weights_go_with_the_phrase_that_moves() -> None:
    first, second = windows("red " * 71 + ", red (blue apple:2) (cat:3)", GoldenTokenizer())
    assert (first.weights == 1).all() and second.weights[1:5].tolist() == [1, 2, 2, 3]


def test_windows_are_full_and_weights_stand_with_their_tokens(pipe: Pipeline) -> None:
    tokenizer = pipe._conditioner.encoders[0].tokenizer
    room = tokenizer.room
    text = "red apple " * room
    ids = tokenizer.tokens(text)
    made = windows(f"({text}:1.5) BREAK blue", tokenizer)
    assert len(made) == -(-len(ids) // room) + 1
    assert [int(i) for window in made[:-1] for i in window.ids[1 : 1 + room]][: len(ids)] == ids
    for window in made[:-1]:
        assert window.ids.shape == window.weights.shape == (WINDOW,)
        assert window.weights[0] == 1 and window.weights[-1] == 1
    assert (made[0].weights[1 : 1 + room] == 1.5).all() and (made[-1].weights == 1).all()


def test_a_plain_short_prompt_is_the_same_in_both_syntaxes(pipe: Pipeline) -> None:
    np.testing.assert_array_equal(pipe.embed("red apple", syntax="weighted"), pipe.embed("red apple"))
    assert np.abs(pipe.embed("(red) apple") - pipe.embed("(red) apple", syntax="weighted")).max() > 1e-3


def test_weights_scale_their_tokens_and_keep_the_windows_length() -> None:
    embedding = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    weights = np.array([1, 1, 2, 1, 0.5, 1])
    weighed = weigh(embedding, weights)
    assert np.square(weighed).mean() == pytest.approx(np.square(embedding).mean(), rel=1e-6)
    ratios = (weighed / embedding).mean(axis=1)
    np.testing.assert_allclose(ratios / ratios[0], weights, rtol=1e-6)
    assert weigh(embedding, np.ones(6)) is embedding


def test_shorter_prompts_are_followed_by_empty_windows(pipe: Pipeline) -> None:
    both = pipe.embed(["red", "red BREAK blue"], syntax="weighted")
    red, blue, empty = (pipe.embed(text)[0] for text in ("red", "blue", ""))
    np.testing.assert_array_equal(both[0], np.concatenate([red, empty]))
    np.testing.assert_array_equal(both[1], np.concatenate([red, blue]))


@pytest.fixture
def encoded(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every run of the text encoder."""
    runs: list[int] = []
    encode = TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda encoder, ids: (runs.append(1), encode(encoder, ids))[1])
    return runs


@pytest.mark.parametrize("prompt", [" BREAK ".join(["red"] * 40), " ".join(["BREAK"] * 16_000), "red " * 20_000])
def test_too_many_windows_are_refused_with_the_number_before_any_is_encoded(
    pipe: Pipeline, encoded: list[int], prompt: str
) -> None:
    needed = {40: "40", 16_000: "16001", 20_000: "2000"}[len(prompt.split()) if "red B" not in prompt else 40]
    with pytest.raises(InputError, match=rf"the prompt takes {needed} windows of {WINDOW} tokens, but .* at most 4;"):
        pipe.embed(prompt, syntax="weighted")
    with pytest.raises(InputError, match=r"prompt 2 takes \d+ windows"):
        pipe.embed(["red", prompt], syntax="weighted")
    assert encoded == []


def test_a_negative_of_too_many_windows_is_called_so(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="the negative prompt takes 6 windows"):
        pipe.sample("red", negative=" BREAK ".join(["red"] * 6), syntax="weighted")
    with pytest.raises(InputError, match="a weight in the negative prompt is 11"):
        pipe.sample("red", negative="(red:11)", syntax="weighted")
    with pytest.raises(InputError, match="the brackets around 'red' in negative prompt 2 multiply"):
        pipe.sample(["red", "blue"], negative=["red", "(((red:9):9):9)"], syntax="weighted")


@pytest.mark.parametrize("prompt", ["(red:0)", "((red)) [(blue:0)] (", "(red:0) BREAK (blue:0)"])
def test_a_prompt_of_which_nothing_counts_is_refused(pipe: Pipeline, encoded: list[int], prompt: str) -> None:
    nothing = prompt.replace("((red)) [(blue:0)] (", "((red:0)) [(blue:0)] (")
    with pytest.raises(InputError, match="every word of the prompt has weight 0; leave at least one"):
        pipe.embed(nothing, syntax="weighted")
    with pytest.raises(InputError, match="every word of the negative prompt has weight 0"):
        pipe.sample("red", negative=nothing, syntax="weighted")
    assert encoded == []


@pytest.mark.parametrize("prompt", ["(red:0) blue", "(red:0) BREAK blue", "", "(:0)", "(a:0) b"])
def test_a_prompt_of_which_something_counts_or_that_is_empty_is_read(pipe: Pipeline, prompt: str) -> None:
    assert np.isfinite(pipe.embed(prompt, syntax="weighted")).all()


# --- what other programs read ---

FOREIGN = {
    "a <lora:style:0.8> cat": "'<lora:style:0.8>' in the prompt is read as words: prompts load no networks",
    "a <hypernet:h> cat": "'<hypernet:h>' in",
    "a [cat:dog:0.5]": "'[cat:dog:0.5]' in the prompt is read as words: a prompt stays the same for all steps",
    "a [dog:10]": "'[dog:10]' in",
    "a [dog::.5]": "'[dog::.5]' in",
    "a [cat|dog]": "'[cat|dog]' in the prompt is read as words: words do not take turns",
    "a cat AND a dog": "'AND' in the prompt is read as words: prompts are not combined",
    "a cat AND\na dog": "'AND' in",
    "a cat in 4K AND a dog": "'AND' in",
    "a cat AND NASA's rocket": "'AND' in",
    "a [cat:dog: 0.5 ]": "'[cat:dog: 0.5 ]' in",
    "a (cat:-1)": "':-1)' in the prompt is read as words: a weight has no sign",
    "a {red|blue} cat": "'{red|blue}' in the prompt is read as words: nothing is chosen at random",
    "a __colour__ cat": "'__colour__' in the prompt is read as words: nothing is filled in",
}
PLAIN_ONLY = {
    "a (cat:1.3)": "'(cat:1.3)' in the prompt is read as words: weights need the weighted syntax (--weighted)",
    "a (big cat:2)": "'(big cat:2)' in",
    "(room 101:1.5)": "'(room 101:1.5)' in",
    "a cat BREAK a dog": "'BREAK' in the prompt is read as words: BREAK needs the weighted syntax (--weighted)",
}
WEIGHTED_ONLY = {
    "a cat, BREAK, a dog": "'BREAK' in the prompt is read as words: BREAK needs white space on both sides",
    "(a cat BREAK)": "'BREAK' in",
}
PROSE = [
    "a cat and a dog, 3d style", "SAND, BRAND and ANDROID", "a cat (sitting), [smiling]", "a sign: 10:30 (at noon)",
    "format (16:9)", "(Genesis 1:3)", "note [1], <3, a < b > c", "snake_case and __", "BREAKFAST", "50% {off}", "a|b",
    "((masterpiece))", "SALT AND PEPPER", "a jar that says SALT AND PEPPER", "[note: 3]", "(see fig: 2)",
    "def __init__",
    "C++ (language)", "x:-1", "",
]  # fmt: skip


@pytest.mark.parametrize("prompt", FOREIGN)
@pytest.mark.parametrize("syntax", ("plain", "weighted"))
def test_what_other_programs_read_is_a_notice(prompt: str, syntax: str) -> None:
    (notice,) = read_as_words("the prompt", prompt, syntax)
    assert notice.startswith(FOREIGN[prompt]) and len(notice) < 200


@pytest.mark.parametrize("prompt", {**PLAIN_ONLY, **WEIGHTED_ONLY})
def test_what_the_other_syntax_reads_is_a_notice(prompt: str) -> None:
    by_syntax = {"plain": PLAIN_ONLY.get(prompt), "weighted": WEIGHTED_ONLY.get(prompt)}
    for syntax, expected in by_syntax.items():
        notices = read_as_words("the prompt", prompt, syntax)
        assert [notice.startswith(expected or "no") for notice in notices] == [True] * (expected is not None)


@pytest.mark.parametrize("prompt", PROSE)
@pytest.mark.parametrize("syntax", ("plain", "weighted"))
def test_prose_is_no_notice(prompt: str, syntax: str) -> None:
    assert read_as_words("the prompt", prompt, syntax) == []


def test_an_escaped_bracket_opens_nothing() -> None:
    assert read_as_words("the prompt", r"\[cat|dog\] \[cat:2\]", "weighted") == []


def test_each_kind_is_said_once_and_with_the_name_of_its_text(pipe: Pipeline) -> None:
    run = pipe.sample("[a:b:1] <lora:x:1> <lora:y:1> [c|d]", negative="<lora:z:1>", syntax="weighted")
    negative, lora, schedule, turns = said(run)
    assert negative.startswith("'<lora:z:1>' in the negative prompt is read as words")
    assert lora.startswith("'<lora:x:1>' in the prompt") and schedule.startswith("'[a:b:1]' in the prompt")
    assert turns.startswith("'[c|d]' in the prompt")
    run = pipe.sample("<lora:" + "long name " * 5_000 + ">", steps=1)
    assert len(said(run)) == 2 and max(map(len, said(run))) < 200


# --- hostile text ---

HOSTILE = {
    "NUL": "\0" * 90_000,
    "combining": "a" + "\u0301\u0323" * 45_000,
    "right to left": "\u202eabc\u2066" * 20_000,
    "emoji": "\U0001f469\u200d" * 45_000,
    "one word": "a" * 90_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("syntax", ("plain", "weighted"))
def test_hostile_text_is_a_result_or_one_sentence(pipe: Pipeline, name: str, syntax: str) -> None:
    started = time.process_time()
    try:
        notices: list[Notice] = []
        assert pipe.embed(HOSTILE[name], syntax=syntax, notices=notices).shape[1] == WINDOW
        sentence = str(notices[-1])
    except InputError as error:
        sentence = str(error)
    assert len(sentence) < 500 and ("longer than" in sentence or "windows" in sentence)
    assert time.process_time() - started < 20


@pytest.mark.parametrize("syntax", ("plain", "weighted"))
def test_text_beyond_the_maximum_or_unicode_is_one_sentence(pipe: Pipeline, syntax: str) -> None:
    for text, message in (
        ("a" * 100_001, "the prompt has 100001 characters; expected at most 100000"),
        ("\ud800" * 10_000_000, "the prompt has 10000000 characters; expected at most 100000"),
        ("red \ud800", "the prompt is not valid Unicode text at character 4; give it as UTF-8"),
    ):
        with pytest.raises(InputError, match=message):
            pipe.embed(text, syntax=syntax)
        with pytest.raises(InputError, match=message.replace("the prompt", "the negative prompt")):
            pipe.sample("red", negative=text, syntax=syntax)


def test_an_unknown_syntax_is_refused(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="syntax is 'a1111'; expected plain or weighted"):
        pipe.embed("red", syntax="a1111")


def test_embed_calls_prompts_by_the_names_that_are_given(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="a weight in the caption is 11"):
        pipe.embed(["red", "(red:11)"], syntax="weighted", names=["the title", "the caption"])
    with pytest.raises(InputError, match="names has 1 texts for 2 prompts; give one for each"):
        pipe.embed(["red", "blue"], names=["the title"])


def test_the_syntax_changes_an_image_and_is_told(pipe: Pipeline) -> None:
    plain = pipe("(red:1.8) apple", seed=1, steps=2)[0]
    weighted = pipe("(red:1.8) apple", seed=1, steps=2, syntax="weighted")[0]
    assert np.abs(np.asarray(plain, float) - np.asarray(weighted, float)).max() > 0
    assert weighted.info["syntax"] == "weighted" and "syntax" not in plain.info
