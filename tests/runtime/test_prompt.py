"""The weighted prompt syntax: what is read, how it becomes windows, what weights do to an embedding."""

import numpy as np
import pytest

from ldm_runtime.errors import InputError
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.prompt import parse_prompt, weigh, windows
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


def test_a_hostile_prompt_takes_no_time() -> None:
    assert len(parse_prompt("(" * 20_000 + "a" + ":1" * 20_000)) == 1
    assert len(parse_prompt("(a:" + " " * 20_000 + "9" * 20_000)) == 1


def test_windows_are_full_and_weights_stand_with_their_tokens(pipe: Pipeline) -> None:
    tokenizer = pipe._conditioner.tokenizer
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


def test_too_many_windows_are_refused_with_the_number(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match=rf"takes 40 windows of {WINDOW} tokens, but the package takes at most \d+"):
        pipe.embed(" BREAK ".join(["red"] * 40), syntax="weighted")


def test_an_unknown_syntax_is_refused(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="syntax is 'a1111'; expected plain or weighted"):
        pipe.embed("red", syntax="a1111")


def test_the_syntax_changes_a_picture_and_is_told(pipe: Pipeline) -> None:
    plain = pipe("(red:1.8) apple", seed=1, steps=2)[0]
    weighted = pipe("(red:1.8) apple", seed=1, steps=2, syntax="weighted")[0]
    assert np.abs(np.asarray(plain, float) - np.asarray(weighted, float)).max() > 0
    assert weighted.info["syntax"] == "weighted" and "syntax" not in plain.info
