"""Token ids equal CLIP's fast tokenizer in transformers; what does not fit the window is reported."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizerFast

from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.package import TOKENIZER, open_package
from ldm_runtime.tokenizer import Tokenizer
from tests.runtime import tiny_package

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
    return Tokenizer(open_package(tiny))


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
    tiny_package.edit_manifest(package_copy, "contract", "tokenizer", "pad_token_id", value=3)
    ids = Tokenizer(open_package(package_copy)).encode(["red"]).ids
    assert list(ids[0][-3:]) == [3, 3, 3]


def test_settings_of_the_file_do_not_truncate_or_pad(package_copy: Path) -> None:
    file = package_copy / TOKENIZER
    content = json.loads(file.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(content))
    tiny_package.rehash(package_copy)
    encoded = Tokenizer(open_package(package_copy)).encode(["red red red red red"])
    assert encoded.dropped == ("",)


def test_text_that_is_not_unicode_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="not valid Unicode text at character 3"):
        tokenizer.encode(["red\udcff"])


def test_vocabulary_beyond_the_text_encoder_is_refused(package_copy: Path) -> None:
    tiny_package.edit_manifest(package_copy, "contract", "tokenizer", "vocab_size", value=516)
    with pytest.raises(PackageError, match="has tokens up to 516, but the text encoder knows 516"):
        Tokenizer(open_package(package_copy))


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": {"type": "Magic"}}'])
def test_file_that_is_no_tokenizer_is_refused(package_copy: Path, content: str) -> None:
    (package_copy / TOKENIZER).write_text(content)
    tiny_package.rehash(package_copy)
    with pytest.raises(PackageError, match=r"tokenizer\.json"):
        Tokenizer(open_package(package_copy))
