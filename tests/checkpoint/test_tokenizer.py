"""Whichever form of CLIP's tokenizer a checkpoint has, a package has all, as transformers reads them."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from ldm_export.checkpoint.tokenizer import complete_tokenizer
from ldm_export.errors import CheckpointError
from ldm_runtime.package.manifest import TokenizerFacts
from tests.oracles import build_tiny_tokenizer, tiny_vocabulary

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
TEXTS = (
    "red apple, 3d style",
    "",
    "  A   PHOTO\tof\nthe cat!! ",
    "İstanbul café e\u0301 naïve",
    "it's 2024 dogs' \u00a0 ™ 日本語 🍎",
    "<|startoftext|>red<|endoftext|> apple",
)
SIZE = len(tiny_vocabulary()[0])


def completed(source: Path, out: Path, **limits: int) -> TokenizerFacts:
    """Complete the tokenizer in `source`, write it to `out` and return its facts."""
    made = complete_tokenizer(source, **limits)
    made.write(out)
    return made.facts


@pytest.fixture
def source(tmp_path: Path) -> Path:
    build_tiny_tokenizer(tmp_path / "source")
    return tmp_path / "source"


def ids(folder: Path, text: str) -> list[int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids


def edit(path: Path, **changes: object) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, **changes}, ensure_ascii=False), encoding="utf-8")


def test_a_complete_folder_is_copied(source, tmp_path):
    completed(source, tmp_path / "out", window=77, vocab_size=SIZE)
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize(
    "kept",
    [
        ("tokenizer.json",),
        ("tokenizer.json", "tokenizer_config.json"),
        ("vocab.json", "merges.txt"),
        ("vocab.json", "merges.txt", "special_tokens_map.json"),
    ],
    ids=lambda kept: "+".join(name.partition(".")[0] for name in kept),
)
def test_missing_forms_are_made_and_equal_the_original(source, tmp_path, kept):
    from transformers import CLIPTokenizer, CLIPTokenizerFast

    partial = tmp_path / "partial"
    partial.mkdir()
    for name in kept:
        shutil.copyfile(source / name, partial / name)
    facts = completed(partial, tmp_path / "out", window=77, vocab_size=SIZE)
    assert {file.name for file in (tmp_path / "out").iterdir()} >= set(FILES)
    fast = CLIPTokenizerFast.from_pretrained(source)
    slow = CLIPTokenizer.from_pretrained(tmp_path / "out")
    for text in TEXTS:
        assert ids(tmp_path / "out", text) == fast(text)["input_ids"]
    for text in TEXTS[:3]:  # the slow class normalises accents and signs in its own way
        assert slow(text)["input_ids"] == fast(text)["input_ids"]
    assert (facts.max_length, slow.model_max_length) == (77, 77)
    assert (facts.bos_token_id, facts.eos_token_id, facts.pad_token_id) == (SIZE - 2, SIZE - 1, SIZE - 1)


@pytest.mark.parametrize("modern", [False, True])
def test_the_padding_is_the_one_that_transformers_takes(source, tmp_path, modern):
    """SD 2's two files disagree; which one counts depends on how old the config is."""
    from transformers import CLIPTokenizer

    edit(source / "special_tokens_map.json", pad_token="!")
    edit(source / "tokenizer_config.json", pad_token="<|endoftext|>")
    if not modern:
        config = json.loads((source / "tokenizer_config.json").read_text())
        config.pop("added_tokens_decoder", None)
        (source / "tokenizer_config.json").write_text(json.dumps(config))
    facts = completed(source, tmp_path / "out", window=77, vocab_size=SIZE)
    theirs = CLIPTokenizer.from_pretrained(source)
    assert facts.pad_token_id == theirs.pad_token_id
    assert CLIPTokenizer.from_pretrained(tmp_path / "out").pad_token_id == theirs.pad_token_id
    assert (facts.pad_token_id == 0) == (not modern)


def test_the_window_is_the_smaller_of_tokenizers_and_encoders(source, tmp_path):
    shorter = completed(source, tmp_path / "a", window=20, vocab_size=SIZE)
    assert shorter.max_length == 20
    edit(source / "tokenizer_config.json", model_max_length=10)
    assert completed(source, tmp_path / "b", window=20, vocab_size=SIZE).max_length == 10
    edit(source / "tokenizer_config.json", model_max_length=int(1e30))  # transformers' "not known"
    assert completed(source, tmp_path / "c", window=20, vocab_size=SIZE).max_length == 20


def test_a_vocabulary_larger_than_the_encoders_is_refused(source, tmp_path):
    with pytest.raises(CheckpointError, match="vocab_size"):
        completed(source, tmp_path / "out", window=77, vocab_size=SIZE - 1)


def test_a_special_token_outside_the_vocabulary_is_refused(source, tmp_path):
    edit(source / "special_tokens_map.json", pad_token="<pad>")
    edit(source / "tokenizer_config.json", pad_token="<pad>")
    with pytest.raises(CheckpointError, match="<pad>"):
        completed(source, tmp_path / "out", window=77, vocab_size=SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}'), "CLIP's form"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"model": {}}'), "CLIP's form"),
    ],
    ids=["truncated", "another-kind", "empty"],
)
def test_what_is_no_clip_tokenizer_is_refused(source, tmp_path, change, message):
    (source / "vocab.json").unlink()
    change(source)
    with pytest.raises(CheckpointError, match=message):
        completed(source, tmp_path / "out", window=77, vocab_size=SIZE)


def test_an_unknown_key_is_said_as_of_a_checkpoint_not_of_a_package(source, tmp_path):
    added = [{"id": SIZE, "content": "<my-cat>", "special": True, "surprise": 1}]
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    (source / "tokenizer.json").write_text(json.dumps({**tokenizer, "added_tokens": added}))
    with pytest.raises(CheckpointError, match="'surprise'.*; fetch or make the checkpoint again$") as caught:
        completed(source, tmp_path / "out", window=77, vocab_size=SIZE + 1)
    assert caught.value.code == "json.unknown-key"


def test_added_tokens_without_their_tokenizer_are_refused(source, tmp_path):
    (source / "tokenizer.json").unlink()
    (source / "added_tokens.json").write_text(json.dumps({"<my-cat>": SIZE}))
    with pytest.raises(CheckpointError, match="<my-cat>"):
        completed(source, tmp_path / "out", window=77, vocab_size=SIZE + 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "[" * 100_000, "tokenizer.json nests its JSON too deeply"),
        ("vocab.json", '{"a": 5}', r"vocab.json\['a'\] is 5, .* expected an id from 0 to 0"),
        ("vocab.json", '{"a": true}', r"vocab.json\['a'\] is True"),
        ("merges.txt", "#version: 0.2\nr e\nr e\n", r"merges.txt\[1\] repeats the pair"),
        ("merges.txt", "#version: 0.2\nq q\n", r"merges.txt\[0\] needs the token 'qq'"),
        ("merges.txt", "#version: 0.2\nr e x\n", r"merges.txt\[0\] is 'r e x'"),
        ("merges.txt", "\ufeff", "byte order mark"),
        ("tokenizer_config.json", '{"model_max_length": 1}', "model_max_length is 1; expected 2"),
        ("tokenizer_config.json", '{"model_max_length": -5e300}', "model_max_length is -5e"),
        ("tokenizer_config.json", '{"model_max_length": "77"}', "model_max_length is '77'"),
    ],
)
def test_a_damaged_file_is_refused_by_name(source, tmp_path, name, content, message):
    (source / name).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        completed(source, tmp_path / "out", window=77, vocab_size=SIZE)


def test_merges_with_line_ends_of_windows_are_the_same(source, tmp_path):
    (source / "tokenizer.json").unlink()
    text = (source / "merges.txt").read_text(encoding="utf-8")
    completed(source, tmp_path / "a", window=77, vocab_size=SIZE)
    (source / "merges.txt").write_bytes(text.replace("\n", "\r\n").encode())
    completed(source, tmp_path / "b", window=77, vocab_size=SIZE)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_a_vocabulary_without_its_special_tokens_is_refused(source, tmp_path):
    (source / "tokenizer.json").unlink()
    (source / "merges.txt").write_text("#version: 0.2\n")
    (source / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(CheckpointError, match="lacks its own bos_token '<|startoftext|>', eos_token"):
        completed(source, tmp_path / "out", window=77, vocab_size=SIZE)
