"""Only CLIP's form of tokenizer.json is read; what makes the `tokenizers` library panic, hang or abort is not."""

import base64
import copy
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers

from ldm_runtime.errors import FormatError
from ldm_runtime.pipeline import builtin_package
from ldm_runtime.text import clip_form
from ldm_runtime.text.added_tokens import AddedToken
from ldm_runtime.text.clip_encoder import ClipEncoder
from ldm_runtime.text.clip_form import read_tokenizer
from ldm_runtime.text.clip_tokenizer import SPECIAL_WORDS, WORDS, ClipTokenizer
from tests.runtime.tiny_package import TOKENIZER, clip_like_tokenizer

FILE: dict[str, Any] = json.loads(clip_like_tokenizer().to_str())
SIZE = len(FILE["model"]["vocab"])
TEXT = "A  red café\t3D <|startoftext|> naïve 中文 don't <my-cat>s"


def read(file: Any) -> ClipTokenizer:
    text = file if isinstance(file, str) else json.dumps(file)
    return read_tokenizer(text.encode(errors="surrogatepass"), "tokenizer.json")


def changed(*path: Any, value: Any) -> dict[str, Any]:
    """The file with one value of it replaced."""
    file = copy.deepcopy(FILE)
    at: Any = file
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return file


def with_added(*contents: str, first: int = SIZE) -> dict[str, Any]:
    """The file with added tokens, as textual inversion makes them."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    new = [{"id": first + index, "content": text, **flags} for index, text in enumerate(contents)]
    return changed("added_tokens", value=[*FILE["added_tokens"], *new])


def same_function(file: dict[str, Any]) -> bool:
    """Whether what was read is the library's tokenizer of the file, and so is what is written of it."""
    clip = read(file)
    ours = list(ClipEncoder(clip).encode(TEXT))
    readers = [tokenizers.Tokenizer.from_str(json.dumps(each)) for each in (file, clip.to_dict())]
    return len(ours) > 10 and all(each.encode(TEXT, add_special_tokens=False).ids == ours for each in readers)


# --- what is read ---


def test_the_builtin_tokenizer_is_read_as_the_library_reads_it() -> None:
    path = builtin_package() / TOKENIZER
    clip, theirs = read_tokenizer(path.read_bytes(), "x"), tokenizers.Tokenizer.from_file(str(path))
    assert clip.to_dict() == json.loads(theirs.to_str())
    assert same_function(FILE)


def test_an_older_file_is_read() -> None:
    """That of openai/clip-vit-large-patch14: merges as texts, and none of the keys that came later."""
    file = copy.deepcopy(FILE)
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    file["model"]["continuing_subword_prefix"] = ""
    for key in ("type", "byte_fallback", "ignore_merges"):
        del file["model"][key]
    for part in (file["pre_tokenizer"]["pretokenizers"][1], file["decoder"]):
        del part["use_regex"]
    assert read(file) == read(FILE)
    file["model"]["type"] = "BPE"  # which the library wants
    assert same_function(file)


@pytest.mark.parametrize("pattern", [WORDS, SPECIAL_WORDS])
def test_both_patterns_of_words_are_read(pattern: str) -> None:
    file = changed("pre_tokenizer", "pretokenizers", 0, "pattern", value={"Regex": pattern})
    assert same_function(file)
    assert read(file).splits_special == (pattern == SPECIAL_WORDS)


def test_tokens_of_textual_inversion_are_read() -> None:
    file = with_added("<my-cat>", "<my-cat>_1")
    assert read(file).added[-1] == AddedToken(SIZE + 1, "<my-cat>_1", False, False, False, True, False)
    assert read(file).size == SIZE + 2 and read(file).id_of("<my-cat>") == SIZE
    assert same_function(file)
    file["added_tokens"].reverse()  # the library would give them other ids than the file says
    assert read(file) == read(with_added("<my-cat>", "<my-cat>_1"))


def test_a_template_with_the_same_ends_is_read() -> None:
    ids = {
        text: {"id": text, "ids": [index], "tokens": [text]} for text, index in (("<|startoftext|>", 514), ("re", 512))
    }
    single: list[dict[str, Any]] = [
        {"SpecialToken": {"id": "<|startoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "re", "type_id": 0}},
    ]
    template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": ids}
    tokenizer = read(changed("post_processor", value=template))
    assert (tokenizer.begin, tokenizer.end) == ("<|startoftext|>", "re")
    ids["re"]["ids"] = [5]
    with pytest.raises(FormatError, match="post_processor is .* expected a template"):
        read(changed("post_processor", value=template))


def test_the_files_own_truncation_and_padding_have_no_effect() -> None:
    truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 99}
    assert read(changed("truncation", value=truncation)) == read(FILE)


# --- what the library cannot bear: found with it in a process of its own ---

REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 30}
HOSTILE: dict[str, dict[str, Any]] = {
    "aborts: 8 GB": changed(
        "normalizer",
        "normalizers",
        value=[{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff\xff\xff\xff\0\0\0\0").decode()}],
    ),
    "hangs: 30^30 characters": changed("normalizer", "normalizers", value=[REPLACE] * 30),
    "panics: empty pattern": changed(
        "normalizer", "normalizers", value=[{"type": "Replace", "pattern": {"String": ""}, "content": "aaaaaaaa"}]
    ),
    "panics: prefix beyond a token": changed("model", "continuing_subword_prefix", value="####"),
    "panics: retries of a regular expression": changed(
        "pre_tokenizer", "pretokenizers", 0, "pattern", value={"Regex": "(x+x+)+y"}
    ),
    "panics: chunks of length 0": changed(
        "pre_tokenizer", "pretokenizers", 1, value={"type": "FixedLength", "length": 0}
    ),
    "panics: empty charsmap": changed("normalizer", value={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
}


@pytest.mark.parametrize("file", HOSTILE.values(), ids=HOSTILE)
def test_files_that_the_library_cannot_bear_are_refused(file: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="CLIP"):
        read(file)


# --- what is refused, and in which words ---

BAD: list[tuple[Any, str]] = [
    ("", "tokenizer.json is not valid JSON at line 1"),
    ("{}", "lacks the key 'model', so it is not a tokenizer"),
    ("[1]", r"tokenizer.json is \[1\], so it is not a tokenizer of CLIP's form; expected an object"),
    ("[" * 100_000, "nests its JSON too deeply"),
    ({**FILE, "flavour": 1}, "has the key 'flavour', which CLIP's tokenizer does not have"),
    (changed("version", value="2.0"), 'version is "2.0"'),
    (changed("model", "type", value="Unigram"), 'type is .Unigram., .* expected "BPE"'),
    (changed("model", "dropout", value=0.1), "dropout is 0.1"),
    (changed("model", "end_of_word_suffix", value=None), 'end_of_word_suffix is null, .* expected "</w>"'),
    (changed("model", "fuse_unk", value=True), "fuse_unk is true"),
    (changed("model", "ignore_merges", value=True), "ignore_merges is true"),
    (changed("model", "unk_token", value="nope"), 'unk_token is "nope"'),
    (changed("model", "unk_token", value=["x"]), "unk_token is "),
    (changed("model", "vocab", value=[]), "vocab is "),
    (changed("model", "vocab", value={}), "vocab is {}"),
    (changed("model", "vocab", "re", value=SIZE), rf"vocab\['re'\] is {SIZE}, .* expected an id from 0 to {SIZE - 1}"),
    (changed("model", "vocab", "re", value=2**32), r"vocab\['re'\] is 4294967296"),
    (changed("model", "vocab", "re", value=-1), r"vocab\['re'\] is -1"),
    (changed("model", "vocab", "re", value=1.5), r"vocab\['re'\] is 1.5"),
    (changed("model", "vocab", "re", value=True), r"vocab\['re'\] is true"),
    (changed("model", "vocab", "re", value=5), "vocab gives the id 5 to '.*' and 're'"),
    (changed("model", "vocab", "x" * 1025, value=0), "has a token of 1025 characters"),
    (changed("model", "merges", value={}), "merges is {}"),
    (changed("model", "merges", 0, value=["r"]), r'merges\[0\] is \["r"\]'),
    (changed("model", "merges", 0, value=["r", 1]), r'merges\[0\] is \["r", 1\]'),
    (changed("model", "merges", 0, value="r e d"), r'merges\[0\] is "r e d"'),
    (changed("model", "merges", 0, value=["r", "r"]), r"merges\[0\] needs the token 'rr', which vocab lacks"),
    (changed("model", "merges", 1, value=["r", "e"]), r"merges\[1\] repeats the pair"),
    (with_added("<cat>", first=SIZE + 1), f"has '<cat>' as {SIZE + 1}; expected {SIZE}, the next free id"),
    (with_added("re"), f"has 're' as {SIZE}; expected 512, its id in vocab"),
    (with_added("<cat>", "<cat>"), "added_tokens has a token twice"),
    (with_added(""), "added_tokens has a token of 0 characters; expected 1 to 1024"),
    (with_added("x" * 1025), "added_tokens has a token of 1025 characters"),
    (with_added("<cat>", first=2**64), "has '<cat>' as 18446744073709551616"),
    (with_added("\ud800"), "half of a character"),
    (changed("added_tokens", 0, "special", value=1), "special must be true or false"),
    (changed("normalizer", value=None), "normalizer is null, .* expected CLIP's"),
    (changed("pre_tokenizer", "pretokenizers", 0, "invert", value=False), "invert is false"),
    (changed("pre_tokenizer", "pretokenizers", 0, "invert", value=1), "invert is 1"),
    (changed("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", value=True), "add_prefix_space is true"),
    (changed("pre_tokenizer", value=FILE["pre_tokenizer"]["pretokenizers"][1]), "pre_tokenizer"),
    (changed("post_processor", "sep", value=["<|endoftext|>", 0]), "sep is .* expected a token of the vocabulary"),
    (changed("post_processor", "type", value="BertProcessing"), "post_processor"),
    (changed("decoder", value={"type": "Metaspace"}), "decoder"),
]


@pytest.mark.parametrize(("file", "message"), BAD, ids=range(len(BAD)))
def test_another_form_is_refused_in_one_short_sentence(file: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read(file)
    assert len(str(caught.value)) < 420


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match=r"has 16777217 bytes; expected a tokenizer of at most 16777216"):
        read_tokenizer(b" " * (clip_form.MAX_FILE_BYTES + 1), "tokenizer.json")
    for name, file, message in (
        ("MAX_TOKENS", FILE, "vocab has 517 tokens; expected at most 516"),
        ("MAX_ADDED_LENGTH", with_added("x" * 1000), "added_tokens has more than 516 characters"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(clip_form, name, SIZE - 1)
            with pytest.raises(FormatError, match=message):
                read(file)


def test_a_vocabulary_of_clips_size_is_read_in_a_moment() -> None:
    letters = [token for token in FILE["model"]["vocab"] if len(token) == 1]
    pairs = [[left, right] for left in letters for right in letters][:48_000]
    file = changed("model", "merges", value=pairs)
    file["model"]["vocab"] |= {left + right: SIZE + index for index, (left, right) in enumerate(pairs)}
    del file["model"]["vocab"]["re"], file["model"]["vocab"]["red</w>"]
    file["model"]["vocab"] = {token: index for index, token in enumerate([*file["model"]["vocab"], "re", "red</w>"])}
    file["added_tokens"], file["post_processor"] = [], None
    text = json.dumps(file)
    start = time.process_time()
    assert read(text).size == len(file["model"]["vocab"])
    assert time.process_time() - start < 5  # 0.2 s on a quiet machine


FRAGMENTS: list[Any] = [None, True, -1, 2**64, "a" * 2000, [], {"a": None}]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values but of most tokens and merges."""
    items: list[Any] = list(value.items() if isinstance(value, dict) else enumerate(value))[:12]
    below = [place for key, item in items if isinstance(item, dict | list) for place in places(item, (*path, key))]
    return [(*path, key) for key, _ in items] + below


def test_every_value_replaced_by_nonsense_is_refused_or_changes_nothing_unseen() -> None:
    """What is read all the same is what the library too can read, and it can encode with it."""
    accepted = 0
    for path in places(FILE):
        for fragment in FRAGMENTS:
            try:
                tokenizer = read(changed(*path, value=fragment))
            except FormatError:
                continue
            list(ClipEncoder(tokenizer).encode(TEXT))
            accepted += bool(tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_dict())))
    assert 0 < accepted < 60


Change = Callable[[str], str]


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: "\ufeff" + text, lambda text: text + "x"])
def test_damaged_text_is_refused(change: Change) -> None:
    with pytest.raises(FormatError, match=re.escape("tokenizer.json")):
        read(change(json.dumps(FILE)))
    with pytest.raises(FormatError, match="not UTF-8"):
        read_tokenizer(json.dumps(FILE).encode("utf-16"), "tokenizer.json")
