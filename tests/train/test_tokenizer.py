"""The learnt tokenizer is one that CLIP's own readers open, and all of them agree on it."""

import json

import pytest
from tokenizers import Tokenizer
from transformers import CLIPTokenizer, CLIPTokenizerFast

from ldm_export.errors import TrainingError
from ldm_export.train.tokenizer import SMALLEST_VOCABULARY, learn_merges, train_tokenizer
from ldm_runtime.text.clip_tokenizer import BOS, EOS

CAPTIONS = ["red apple, 3d style", "green apple, 3d style", "red car, flat style", "man's red hat, 3d style"]
TEXTS = [
    *CAPTIONS,
    "A Café's  ÉTÉ naïve\n12 dogs!!",
    "",
    "  red\tapple  ",
    "🍎 emoji",
    "<|endoftext|> inside",
    "I'll go, you've seen 2048",
    "Straße ΑΒΓ",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(CAPTIONS, vocab_size=540, max_length=16, folder=folder)
    return folder


def test_all_readers_agree(folder):
    slow, fast = CLIPTokenizer.from_pretrained(folder), CLIPTokenizerFast.from_pretrained(folder)
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        ids = ours.encode(text).ids
        assert fast(text).input_ids == ids, text
        assert slow(text).input_ids == ids, text


def test_every_reader_knows_the_window_and_the_special_tokens(folder):
    for reader in (CLIPTokenizer, CLIPTokenizerFast):
        tokenizer = reader.from_pretrained(folder)
        assert tokenizer.model_max_length == 16
        assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BOS, EOS, EOS)
        padded = tokenizer("red apple", padding="max_length", truncation=True).input_ids
        assert len(padded) == 16 and padded[-1] == tokenizer.eos_token_id


def test_special_tokens_are_the_last_ids(folder):
    vocabulary = json.loads((folder / "vocab.json").read_text())
    assert vocabulary[BOS] == len(vocabulary) - 2
    assert vocabulary[EOS] == len(vocabulary) - 1
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


def test_frequent_words_are_single_tokens_and_decode_back(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len(tokenizer.encode("red").ids) == 3
    assert CLIPTokenizerFast.from_pretrained(folder).decode(tokenizer.encode("red apple").ids[1:-1]) == "red apple"


def test_learning_depends_on_the_captions_alone(folder, tmp_path):
    train_tokenizer(CAPTIONS[::-1], vocab_size=540, max_length=16, folder=tmp_path)
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_learning_stops_when_no_pair_repeats(tmp_path):
    size = train_tokenizer(["ab ab", "c"], vocab_size=5000, max_length=16, folder=tmp_path)
    assert size == SMALLEST_VOCABULARY + 1


def test_a_vocabulary_without_room_for_the_bytes_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="starts at 514"):
        train_tokenizer(CAPTIONS, vocab_size=513, max_length=16, folder=tmp_path)


def test_the_most_frequent_pair_is_merged_first_and_ties_go_by_text():
    counts = {"abab": 3, "cd": 3, "ab": 1}
    # a+b: 3, a+b</w>: 4, b+a: 3, c+d</w>: 3
    assert learn_merges(counts, 2) == [("a", "b</w>"), ("a", "b")]
