"""Token ids equal CLIP's fast tokenizer in transformers; what does not fit the window is reported."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from diffusers.loaders import TextualInversionLoaderMixin
from transformers import CLIPTokenizerFast

import ldm_runtime
from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.interpolate import interpolate
from ldm_runtime.package.open import open_package
from ldm_runtime.text.tokenizer import Tokenizer, _start_of_word
from ldm_runtime.text.weighting import windows
from tests.runtime import tiny_package
from tests.runtime.tiny_package import TOKENIZER, tokenizer_of

TEXTS = [
    "",
    "red",
    "RED Apple, 3D style",
    "a  b\t\nc",
    "naïve café 中文 😀",
    "e\u0301 İstanbul",
    "don't stop <|endoftext|> here",
    "a" * 40,
    " ",
    "\u200b\u00ad\ufeff",
    "nul \0 byte",
]


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return tokenizer_of(open_package(tiny))


@pytest.fixture(scope="module")
def oracle(tiny: Path) -> CLIPTokenizerFast:
    return CLIPTokenizerFast(
        tokenizer_file=str(tiny / TOKENIZER),
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=tiny_package.WINDOW,
    )


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_those_of_transformers(tokenizer: Tokenizer, oracle: CLIPTokenizerFast, text: str) -> None:
    expected = oracle([text], padding="max_length", truncation=True, return_tensors="np")["input_ids"]
    got = tokenizer.encode([text]).ids
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, expected)


def test_ids_of_a_batch_equal_those_of_its_texts(tokenizer: Tokenizer) -> None:
    together = tokenizer.encode(TEXTS).ids
    assert together.shape == (len(TEXTS), tiny_package.WINDOW)
    for row, text in zip(together, TEXTS, strict=True):
        np.testing.assert_array_equal(row, tokenizer.encode([text]).ids[0])


def test_text_past_the_window_is_named(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(["red red red red red red red red red red APPLE, 3d 中", "red"])
    assert encoded.dropped == ("APPLE, 3d 中", "")


def test_text_that_just_fits_loses_nothing(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode([" ".join(["red"] * 10)])
    assert encoded.dropped == ("",) and encoded.ids[0, -1] == 515


def test_pad_token_comes_from_the_contract(package_copy: Path) -> None:
    tiny_package.edit_manifest(package_copy, "contract", "text", 0, "tokenizer", "pad_token_id", value=3)
    ids = tokenizer_of(open_package(package_copy)).encode(["red"]).ids
    assert list(ids[0][-3:]) == [3, 3, 3]


def test_settings_of_the_file_do_not_truncate_or_pad(package_copy: Path) -> None:
    file = package_copy / TOKENIZER
    content = json.loads(file.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(content))
    tiny_package.rehash(package_copy)
    encoded = tokenizer_of(open_package(package_copy)).encode(["red red red red red"])
    assert encoded.dropped == ("",)


def test_text_that_is_not_unicode_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="not valid Unicode text at character 3"):
        tokenizer.encode(["red\udcff"])


@pytest.mark.parametrize(("name", "what"), [("bos_token_id", "begin"), ("eos_token_id", "end")])
def test_ends_of_a_text_are_those_of_the_tokenizer(package_copy: Path, name: str, what: str) -> None:
    tiny_package.edit_manifest(package_copy, "contract", "text", 0, "tokenizer", name, value=1)
    with pytest.raises(PackageError, match=f"has the {what} token .*, not 1 as in the manifest") as refused:
        tokenizer_of(open_package(package_copy))
    assert refused.value.code == "manifest.text"


@pytest.mark.parametrize(
    ("changes", "ids", "message"),
    [
        ({}, {"bos_token_id": 5}, "has the begin token '<|startoftext|>', which is 514, not 5 as in the manifest"),
        ({}, {"eos_token_id": 514}, "has the end token '<|endoftext|>', which is 515, not 514"),
        ({"<|startoftext|>": "<s>"}, {"bos_token_id": 7}, "has 2 special tokens, and none is the begin token 7"),
        ({}, {"pad_token_id": 518}, "has the tokens 0 to 516, and none is the padding token 518"),
        ({"<|startoftext|>": "<s>", "special": True}, {"bos_token_id": 518}, "none is the begin token 518"),
        ({}, {}, None),
        ({"<|startoftext|>": "<s>"}, {}, None),
        ({"<|startoftext|>": "<s>", "special": True}, {"bos_token_id": 7}, None),  # nothing says otherwise
    ],
)
def test_ends_that_only_special_tokens_name_are_those_of_the_tokenizer(
    changes: dict[str, object], ids: dict[str, int], message: str | None, package_copy: Path
) -> None:
    file = package_copy / TOKENIZER
    text = json.dumps({**json.loads(file.read_text()), "post_processor": None})
    for old, new in changes.items():
        text = (
            text.replace('"special": true', '"special": false') if new is True else text.replace(f'"{old}"', f'"{new}"')
        )
    file.write_text(text)
    tiny_package.rehash(package_copy)
    facts = dataclasses.replace(tiny_package.CONTRACT.text[0].tokenizer, vocab_size=519, **ids)
    if message is None:
        assert Tokenizer(open_package(package_copy), facts).window([]).tolist()[0] == facts.bos_token_id
        return
    with pytest.raises(PackageError, match=re.escape(message)) as refused:
        Tokenizer(open_package(package_copy), facts)
    assert refused.value.code == "manifest.text"


def test_vocabulary_beyond_the_text_encoder_is_refused(package_copy: Path) -> None:
    tiny_package.edit_manifest(package_copy, "contract", "text", 0, "tokenizer", "vocab_size", value=516)
    with pytest.raises(PackageError, match="has tokens up to 516, but the text encoder knows 516"):
        tokenizer_of(open_package(package_copy))


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": {"type": "Magic"}}'])
def test_file_that_is_no_tokenizer_is_refused(package_copy: Path, content: str) -> None:
    (package_copy / TOKENIZER).write_text(content)
    tiny_package.rehash(package_copy)
    with pytest.raises(PackageError, match=r"tokenizer\.json"):
        tokenizer_of(open_package(package_copy))


# --- textual inversion ---

ADDED = ["<x>", "<x>_1", "<x>_2", "<one>", "<gap>", "<gap>_2", "toy", "toy_1"]
INVERSIONS = [
    "<x>", "a <x> cat", "red<x>red", "<x> and <one>, <x>", "<gap> red", "a toy, toys", "<y> <x", "red " * 8 + "<x> red",
]  # fmt: skip


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The good package with embeddings of several vectors, as diffusers' `load_textual_inversion` names them."""
    folder = tmp_path_factory.mktemp("inverted") / "package"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_package, "VOCABULARY", tiny_package.VOCABULARY + len(ADDED))
        facts = dataclasses.replace(tiny_package.CONTRACT.text[0].tokenizer, vocab_size=tiny_package.VOCABULARY)
        tiny_package.make(folder, text=(dataclasses.replace(tiny_package.CONTRACT.text[0], tokenizer=facts),))
    made = tiny_package.clip_like_tokenizer()
    assert made.add_tokens(ADDED) == len(ADDED)
    made.save(str(folder / TOKENIZER))
    tiny_package.rehash(folder)
    return folder


@pytest.fixture(scope="module")
def expanding(inverted: Path) -> Tokenizer:
    return tokenizer_of(open_package(inverted))


def as_diffusers(folder: Path, text: str) -> str:
    oracle = CLIPTokenizerFast(tokenizer_file=str(folder / TOKENIZER))
    return str(TextualInversionLoaderMixin().maybe_convert_prompt(text, oracle))


@pytest.mark.parametrize("text", INVERSIONS)
def test_a_textual_inversion_of_several_vectors_is_expanded_as_in_diffusers(
    inverted: Path, expanding: Tokenizer, text: str
) -> None:
    oracle = CLIPTokenizerFast(
        tokenizer_file=str(inverted / TOKENIZER), pad_token="<|endoftext|>", model_max_length=tiny_package.WINDOW
    )
    converted = as_diffusers(inverted, text)
    expected = oracle([converted], padding="max_length", truncation=True, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(expanding.encode([text]).ids, expected)
    assert expanding.tokens(text) == oracle(converted, add_special_tokens=False)["input_ids"]


def test_only_the_first_token_stands_for_all(inverted: Path, expanding: Tokenizer) -> None:
    first, second, third, one, gap = range(tiny_package.VOCABULARY, tiny_package.VOCABULARY + 5)
    assert as_diffusers(inverted, "<x>") == "<x> <x>_1 <x>_2"
    assert expanding.tokens("<x>") == [first, second, third]
    assert expanding.tokens("<x>_1 <x>_2") == [second, third]
    assert expanding.tokens("<one> <gap>") == [one, gap]


def test_an_expanded_token_that_does_not_fit_is_named(expanding: Tokenizer) -> None:
    encoded = expanding.encode(["red " * 8 + "<x> red", "red " * 7 + "<x>"])
    assert encoded.dropped == ("<x> red", "")


def test_weights_and_windows_hold_for_all_its_vectors(expanding: Tokenizer) -> None:
    vectors = expanding.tokens("<x>")
    first, second = windows("red " * 8 + "(<x>:1.5) red", expanding)
    assert first.ids[9:11].tolist() == [515, 515]  # the vectors stay together
    assert second.ids[1:4].tolist() == vectors and second.weights[1:5].tolist() == [1.5, 1.5, 1.5, 1]
    (only,) = windows("red " * 7 + "(<x>:1.5)", expanding)
    assert only.ids[8:11].tolist() == vectors


def test_prompt_negative_embed_and_interpolation_expand_it(inverted: Path) -> None:
    with ldm_runtime.load(inverted) as pipe:
        written_out = pipe.embed("red <x>_1")  # one vector differs from all three
        for syntax in ("plain", "weighted"):
            embedded = pipe.embed("red <x>", syntax=syntax)
            assert np.abs(embedded - written_out).max() > 0.01
            drawn = list(pipe.sample("red", negative="red <x>", seed=1, steps=2, syntax=syntax))[-1].latents
            first = list(pipe.sample("red", negative="red", seed=1, steps=2, syntax=syntax))[-1].latents
            assert np.abs(drawn - first).max() > 1e-4
            by_embeds = list(pipe.sample(prompt_embeds=embedded, seed=1, steps=2))[-1].images()[0]
            assert by_embeds.tobytes() == pipe("red <x>", seed=1, steps=2, syntax=syntax)[0].tobytes()
            *_, last = interpolate(pipe, ("red", "red <x>"), (1, 1), 2, steps=2, syntax=syntax)
            assert last.tobytes() == by_embeds.tobytes()


def test_a_cut_inside_a_word_is_told_from_its_start(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(["red " * 8 + "apple blue", "red " * 9 + ", apple"])
    assert encoded.dropped == ("apple blue", "apple")
    assert _start_of_word("x" * 300, 30) == 0
    assert _start_of_word("x" * 300, 200) == 200  # no word is that long
