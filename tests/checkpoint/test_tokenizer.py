"""Whichever form of CLIP's tokenizer a checkpoint has, a package has all, as transformers reads them."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from ldm_export.checkpoint.tokenizer import complete_tokenizer
from ldm_export.errors import CheckpointError
from ldm_runtime.package.manifest import TokenizerFacts
from ldm_runtime.text.clip_encoder import ClipEncoder
from ldm_runtime.text.clip_form import read_tokenizer
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
    with pytest.raises(CheckpointError, match=f"tokens up to {SIZE} .'<pad>'., but the text encoder's vocab_size"):
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


BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def as_object(content, normalized=True, **switches):
    """A token as SD's files write it."""
    off = {"lstrip": False, "rstrip": False, "single_word": False}
    return {"content": content, "normalized": normalized, **off, **switches}


def as_typed(content):
    return {"__type": "AddedToken", **as_object(content)}


SD_CONFIG = {"bos_token": as_typed(BEGIN), "eos_token": as_typed(END), "unk_token": as_typed(END), "pad_token": END,
             "model_max_length": 77, "add_prefix_space": False, "errors": "replace"}  # fmt: skip
SD_MAP = {"bos_token": as_object(BEGIN), "eos_token": as_object(END), "unk_token": as_object(END), "pad_token": END}
PLAIN_MAP = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": "!"}
MODERN = {
    "bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": "!",
    "added_tokens_decoder": {
        "0": as_object("!", False, special=True),
        str(SIZE): as_object("<cat>", special=False),
        str(SIZE - 2): as_object(BEGIN, special=True),
        str(SIZE - 1): as_object(END, special=True),
        str(SIZE + 1): as_object("<Dog>", False, special=False, lstrip=True, rstrip=True),
        str(SIZE + 2): as_object("<ox>", special=False, single_word=True),
    },
}  # fmt: skip
ADDED = {"<cat>": SIZE, "<Dog>": SIZE + 1, "<ox>": SIZE + 2}
# tokenizer_config.json, special_tokens_map.json, added_tokens.json; None where the folder lacks it.
SETTINGS = {
    "nothing": (None, None, None),
    "sd15": (SD_CONFIG, SD_MAP, None),
    "sd2": (SD_CONFIG, {**SD_MAP, "pad_token": "!"}, None),
    "config-alone": ({"pad_token": "!"}, None, None),
    "map-alone": (None, PLAIN_MAP, None),
    "modern-config-wins": (MODERN, {**SD_MAP}, None),
    "added": (None, PLAIN_MAP, ADDED),
    "added-and-others": (None, {**PLAIN_MAP, "additional_special_tokens": ["<cat>", "red", as_object("3d")]}, ADDED),
    "other-roles": ({**SD_CONFIG, "mask_token": "<mask>", "cls_token": BEGIN, "sep_token": None}, SD_MAP, None),
}
HARD = (
    *TEXTS, "a photo of a cat!", "wow!!", "! !", "!red!apple !", "red ！", "<cat> and<Dog>and <DOG> <ox>,<ox>y",
    "<|ENDOFTEXT|> <|StartOfText|>", "3d 3D red RED", "“curly” ‘quotes’ it’s", "ｆｕｌｌ－ｗｉｄｔｈ",
    "一只red猫、カタカナ한국어",
    "zero\u200bwidth\u200djoiner\ufeff \u00ad", "\x00\x07\x1f \ufffd", "ΟΔΟΣ 'ſ K İ ŉ", "😀🫨👩‍👩‍👧 🇩🇪", "½²Ⅷ٣",
    "x\u2028y\u3000z\u0085w", "&amp; &lt;b&gt;", "e\u0301\u0327 ṩ s\u0323\u0307", "a" * 200, "<mask>!", "ﬁ ǅ",
)  # fmt: skip


@pytest.mark.parametrize("with_tokenizer", [False, True], ids=["bpe", "tokenizer-json"])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_special_and_added_token_is_one_as_in_transformers(source, tmp_path, name, with_tokenizer):
    from transformers import CLIPTokenizerFast

    partial = tmp_path / "partial"
    partial.mkdir()
    for file in ("vocab.json", "merges.txt", *(["tokenizer.json"] if with_tokenizer else [])):
        shutil.copyfile(source / file, partial / file)
    for file, content in zip(FILES[3:] + ("added_tokens.json",), SETTINGS[name], strict=True):
        if content is not None:
            (partial / file).write_text(json.dumps(content))
    theirs = CLIPTokenizerFast.from_pretrained(partial)
    facts = completed(partial, tmp_path / "out", window=77, vocab_size=SIZE + 8)
    assert facts.pad_token_id == theirs.pad_token_id
    file = tmp_path / "out" / "tokenizer.json"
    ours = ClipEncoder(read_tokenizer(file.read_bytes(), str(file)))  # as the runtime opens it
    for text in HARD:
        assert ids(tmp_path / "out", text) == theirs(text)["input_ids"], text
        assert list(ours.encode(text)) == theirs(text, add_special_tokens=False)["input_ids"], text
    again = CLIPTokenizerFast.from_pretrained(tmp_path / "out")  # what other programs open
    for text in HARD:
        assert again(text)["input_ids"] == theirs(text)["input_ids"], text


def test_the_padding_of_sd2_is_a_token_of_a_prompt(source, tmp_path):
    """As published: no tokenizer.json, and "!" only in special_tokens_map.json. Both classes of transformers agree."""
    from transformers import CLIPTokenizer

    (source / "tokenizer.json").unlink()
    for file, content in zip(FILES[3:], (SD_CONFIG, {**SD_MAP, "pad_token": "!"}), strict=True):
        (source / file).write_text(json.dumps(content))
    completed(source, tmp_path / "out", window=77, vocab_size=SIZE)
    got = ids(tmp_path / "out", "a photo of a cat!")
    assert got == CLIPTokenizer.from_pretrained(source)("a photo of a cat!")["input_ids"]
    assert got[-2] == 0 != tiny_vocabulary()[0]["!</w>"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "added_tokens.json",
            {"<cat>": SIZE + 5},
            f"gives the token '<cat>' the id {SIZE + 5}; expected {SIZE}, the next",
        ),
        ("added_tokens.json", {"!": 7}, "gives the token '!' the id 7; expected 0, its id in the vocabulary"),
        ("added_tokens.json", {"<cat>": True}, "gives '<cat>' the id True; expected an integer"),
        ("added_tokens.json", {"": SIZE}, "has the special token ''; expected a text"),
        ("special_tokens_map.json", {"additional_special_tokens": "red"}, "are 'red'; expected a list"),
        ("special_tokens_map.json", {"additional_special_tokens": [5]}, "has the special token 5; expected a text"),
        ("special_tokens_map.json", {"additional_special_tokens": ["x"] * 70_000}, "are 70000; expected at most"),
        ("special_tokens_map.json", {"pad_token": as_object("!", "yes")}, "token '!' has normalized = 'yes'"),
        ("tokenizer_config.json", {"added_tokens_decoder": ["!"]}, "added_tokens_decoder is .*; expected an object"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"one": as_object("!")}}, "expected an object of ids"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1": as_object("!")}}, "gives the token '!' the id 1"),
    ],
)
def test_senseless_tokens_are_refused_in_a_sentence(source, tmp_path, file, content, message):
    (source / "tokenizer.json").unlink()
    (source / "tokenizer_config.json").unlink()
    (source / file).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        completed(source, tmp_path / "out", window=77, vocab_size=SIZE + 8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "[" * 100_000, "tokenizer.json nests its JSON too deeply"),
        ("vocab.json", '{"a": 5}', r"vocab.json\['a'\] is 5, .* expected an id from 0 to 0"),
        ("vocab.json", '{"a": true}', r"vocab.json\['a'\] is true"),
        ("merges.txt", "#version: 0.2\nr e\nr e\n", r"merges.txt\[1\] repeats the pair"),
        ("merges.txt", "#version: 0.2\nq q\n", r"merges.txt\[0\] needs the token 'qq'"),
        ("merges.txt", "#version: 0.2\nr e x\n", r'merges.txt\[0\] is "r e x"'),
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
