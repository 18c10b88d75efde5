"""CLIP's tokenizer.json, read strictly: this one form or a refusal.

The form is that of transformers' CLIPTokenizerFast, versions 4 and 5, of the published checkpoints and of
`ldm-export train` (https://github.com/huggingface/tokenizers has the format):

    version         "1.0"
    truncation      any object or null: no effect here
    padding         the same
    added_tokens    of each: id, content, single_word, lstrip, rstrip, normalized, special
    normalizer      NFC, then every run of white space to one space, then lower case
    pre_tokenizer   Split by CLIP's words (`WORDS`, or with the begin and end tokens before them), then ByteLevel
    post_processor  RobertaProcessing or TemplateProcessing: begin token, text, end token; or null
    decoder         ByteLevel, or null
    model           BPE: end_of_word_suffix "</w>", no continuing_subword_prefix, no dropout; vocab and merges,
                    each merge as "left right" or ["left", "right"]

The ids of vocab are 0 to n - 1, each once; added tokens have their id there, or the next ones from n up. A merge joins
two tokens of vocab to a third.
"""

import json
import operator
from collections.abc import Mapping
from typing import Any, NoReturn

from ldm_runtime.checks import given, shown
from ldm_runtime.errors import FormatError
from ldm_runtime.files import strict_json
from ldm_runtime.text.added_tokens import AddedToken
from ldm_runtime.text.byte_pairs import END_OF_WORD
from ldm_runtime.text.clip_tokenizer import NORMALIZERS, SPECIAL_WORDS, WORDS, ClipTokenizer

_FORM, _VOCABULARY = "tokenizer.form", "tokenizer.vocabulary"
_MERGES, _ADDED = "tokenizer.merges", "tokenizer.added-tokens"

MAX_FILE_BYTES = 2**24  # CLIP's own has 3.6 MB
MAX_TOKENS = 2**20  # CLIP has 49,408
MAX_TOKEN_LENGTH = 1024  # characters; CLIP's longest has 23
MAX_ADDED_LENGTH = 2**20  # characters of all added tokens together

_FILE_KEYS = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
)  # fmt: skip
# The allowed values of a BPE model; a key may be left out where None is one of them.
_MODEL: dict[str, tuple[Any, ...]] = {
    "type": ("BPE", None),
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (END_OF_WORD,),
    "fuse_unk": (False, None),
    "byte_fallback": (False, None),
    "ignore_merges": (False, None),
}
_SPLIT: dict[str, tuple[Any, ...]] = {
    "type": ("Split",),
    "pattern": ({"Regex": WORDS}, {"Regex": SPECIAL_WORDS}),
    "behavior": ("Removed",),
    "invert": (True,),
}
_BYTE_LEVEL: dict[str, tuple[Any, ...]] = {
    "type": ("ByteLevel",),
    "add_prefix_space": (False,),
    "trim_offsets": (True, False, None),
    "use_regex": (True, None),
}
_DECODER: dict[str, tuple[Any, ...]] = {**_BYTE_LEVEL, "add_prefix_space": (True, False, None)}
_ROBERTA: dict[str, tuple[Any, ...]] = {
    "type": ("RobertaProcessing",),
    "trim_offsets": (True, False, None),
    "add_prefix_space": (True, False, None),
}


def read_tokenizer(content: bytes, where: str) -> ClipTokenizer:
    """Read the content of a tokenizer.json; `where` names the file in messages.

    Raises:
        FormatError: it is larger than `MAX_FILE_BYTES` or not of CLIP's form; one sentence says where.
    """
    if len(content) > MAX_FILE_BYTES:
        what = f"has {len(content)} bytes; expected a tokenizer of at most {MAX_FILE_BYTES}"
        raise FormatError(where, what, "file.too-large")
    value = strict_json.parse(strict_json.decode(content, where), where)
    _keys(value, where, allowed=_FILE_KEYS, needed=("model",))
    _one_of(value.get("version"), ("1.0", None), f"{where}: version")
    for name in ("truncation", "padding"):
        if not isinstance(value.get(name), dict | None):
            _fail(f"{where}: {name}", "an object or null", value[name])
    _check_normalizer(value.get("normalizer"), f"{where}: normalizer")
    splits_special = _read_pre_tokenizer(value.get("pre_tokenizer"), f"{where}: pre_tokenizer")
    if value.get("decoder") is not None:
        _table(value["decoder"], _DECODER, f"{where}: decoder")
    model = _keys(value["model"], f"{where}: model", allowed=(*_MODEL, "unk_token", "vocab", "merges"))
    _table({key: item for key, item in model.items() if key in _MODEL}, _MODEL, f"{where}: model")
    vocabulary = check_vocabulary(model.get("vocab"), f"{where}: vocab")
    merges = check_merges(model.get("merges"), vocabulary, f"{where}: merges")
    added = _read_added(value.get("added_tokens", []), vocabulary, f"{where}: added_tokens")
    known = {**vocabulary, **{token.content: token.id for token in added}}
    begin, end = _read_ends(value.get("post_processor"), known, f"{where}: post_processor")
    unknown = model.get("unk_token")
    if unknown is not None and (not isinstance(unknown, str) or unknown not in vocabulary):
        _fail(f"{where}: unk_token", "a token of vocab, or null", unknown)
    return ClipTokenizer(vocabulary, merges, added, unknown, begin, end, splits_special)


def check_vocabulary(value: Any, where: str) -> dict[str, int]:
    """Return `value` as a vocabulary: token -> id, 0 to n - 1, each once. FormatError if it is none."""
    if not isinstance(value, dict) or not value:
        _fail(where, "an object of tokens and their ids", value, _VOCABULARY)
    if len(value) > MAX_TOKENS:
        raise FormatError(where, f"has {len(value)} tokens; expected at most {MAX_TOKENS}", _VOCABULARY)
    for token, index in value.items():
        if not 0 < len(token) <= MAX_TOKEN_LENGTH:
            what = f"has a token of {len(token)} characters; expected 1 to {MAX_TOKEN_LENGTH}"
            raise FormatError(where, what, _VOCABULARY)
        if type(index) is not int or not 0 <= index < len(value):
            _fail(
                f"{where}[{shown(token)}]",
                f"an id from 0 to {len(value) - 1}, for {len(value)} tokens",
                index,
                _VOCABULARY,
            )
    if len(set(value.values())) != len(value):
        seen: dict[int, str] = {}
        for token, index in value.items():
            if index in seen:
                what = f"gives the id {index} to {shown(seen[index])} and {shown(token)}"
                raise FormatError(where, what, _VOCABULARY)
            seen[index] = token
    return value


def check_merges(value: Any, vocabulary: Mapping[str, int], where: str) -> tuple[tuple[str, str], ...]:
    """Return `value` as merges of tokens in `vocabulary`, each a pair or "left right". FormatError if it is none."""
    if not isinstance(value, list):
        _fail(where, "a list of pairs", value, _MERGES)
    if len(value) > MAX_TOKENS:
        raise FormatError(where, f"has {len(value)} pairs; expected at most {MAX_TOKENS}", _MERGES)
    pairs = [item.split(" ") if isinstance(item, str) else item for item in value]
    spaced = {token for token in vocabulary if token.split() != [token]}
    merges = _sound_merges(pairs, vocabulary, spaced)
    if merges is None:
        _refuse_merges(value, pairs, vocabulary, spaced, where)
    return given(merges)


def _sound_merges(
    pairs: list[Any], vocabulary: Mapping[str, int], spaced: set[str]
) -> tuple[tuple[str, str], ...] | None:
    """Return all pairs, None if one is wrong; without a loop in Python, for CLIP has 48,894 of them."""
    if not pairs:
        return ()
    if set(map(type, pairs)) != {list} or set(map(len, pairs)) != {2}:
        return None
    lefts, rights = zip(*pairs, strict=True)
    if {*map(type, lefts), *map(type, rights)} != {str}:
        return None
    parts = {*lefts, *rights}
    known = vocabulary.keys() >= parts and all(map(vocabulary.__contains__, map(operator.add, lefts, rights)))
    merges = tuple(zip(lefts, rights, strict=True))
    return merges if known and spaced.isdisjoint(parts) and len(set(merges)) == len(merges) else None


def _refuse_merges(
    value: list[Any], pairs: list[Any], vocabulary: Mapping[str, int], spaced: set[str], where: str
) -> None:
    """Raise FormatError for the first that is wrong."""
    seen: set[tuple[str, str]] = set()
    for index, (item, pair) in enumerate(zip(value, pairs, strict=True)):
        if not isinstance(pair, list) or [type(part) for part in pair] != [str, str]:
            _fail(f"{where}[{index}]", "a pair of tokens", item, _MERGES)
        left, right = pair
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise FormatError(f"{where}[{index}]", f"needs the token {shown(token)}, which vocab lacks", _MERGES)
        if left in spaced or right in spaced:
            _fail(f"{where}[{index}]", "tokens without white space", item, _MERGES)
        if (left, right) in seen:
            raise FormatError(f"{where}[{index}]", f"repeats the pair {strict_json.spelt(item)}", _MERGES)
        seen.add((left, right))


def _read_added(value: Any, vocabulary: Mapping[str, int], where: str) -> tuple[AddedToken, ...]:
    """Read the added tokens, by id; one that the vocabulary lacks has the next free id, as in `tokenizers`."""
    found = strict_json.read(tuple[AddedToken, ...], value, where)
    for token in found:
        if not 0 < len(token.content) <= MAX_TOKEN_LENGTH:
            what = f"has a token of {len(token.content)} characters; expected 1 to {MAX_TOKEN_LENGTH}"
            raise FormatError(where, what, _ADDED)
    if len({token.content for token in found}) != len(found):
        raise FormatError(where, "has a token twice", _ADDED)
    if sum(len(token.content) for token in found) > MAX_ADDED_LENGTH:
        raise FormatError(where, f"has more than {MAX_ADDED_LENGTH} characters", _ADDED)
    found = tuple(sorted(found, key=lambda token: token.id))
    new = (token for token in found if token.content not in vocabulary)
    expected = {token.content: index for index, token in enumerate(new, len(vocabulary))}
    for token in found:
        wanted = vocabulary.get(token.content, expected.get(token.content))
        if token.id != wanted:
            reason = "its id in vocab" if token.content in vocabulary else "the next free id"
            what = f"has {shown(token.content)} as {shown(token.id)}; expected {wanted}, {reason}"
            raise FormatError(where, what, _ADDED)
    return found


def _check_normalizer(value: Any, where: str) -> None:
    if value != {"type": "Sequence", "normalizers": NORMALIZERS}:
        _fail(where, f"CLIP's, {json.dumps(NORMALIZERS)} in sequence", value)


def _read_pre_tokenizer(value: Any, where: str) -> bool:
    """Return whether the begin and end tokens are words."""
    steps = _keys(value, where, allowed=("type", "pretokenizers"), needed=("pretokenizers",))["pretokenizers"]
    if value.get("type") != "Sequence" or not isinstance(steps, list) or len(steps) != 2:
        _fail(where, "a Sequence of Split and ByteLevel, as transformers writes it from version 4.17 on", value)
    split = _table(steps[0], _SPLIT, f"{where}: Split")
    _table(steps[1], _BYTE_LEVEL, f"{where}: ByteLevel")
    return bool(split["pattern"] == {"Regex": SPECIAL_WORDS})


def _read_ends(value: Any, known: Mapping[str, int], where: str) -> tuple[str | None, str | None]:
    """Return the begin and end tokens of a post-processor, None where there is none."""
    if value is None:
        return None, None
    if not isinstance(value, dict):
        _fail(where, "an object or null", value)
    if value.get("type") == "TemplateProcessing":
        return _template_ends(value, known, where)
    _keys(value, where, allowed=(*_ROBERTA, "sep", "cls"), needed=("sep", "cls"))
    _table({key: item for key, item in value.items() if key in _ROBERTA}, _ROBERTA, where)
    for name in ("cls", "sep"):
        token = value[name]
        if not isinstance(token, list) or len(token) != 2 or not isinstance(token[0], str):
            _fail(f"{where}.{name}", "a token and its id", token)
        if token[0] not in known or type(token[1]) is not int or known[token[0]] != token[1]:
            _fail(f"{where}.{name}", "a token of the vocabulary with its id", token)
    return value["cls"][0], value["sep"][0]


def _template_ends(value: dict[str, Any], known: Mapping[str, int], where: str) -> tuple[str, str]:
    """Return the begin and end tokens of a template "begin, text, end"."""
    tokens = value.get("special_tokens")
    names = [name for name in tokens if name in known] if isinstance(tokens, dict) and len(tokens) <= 2 else []
    for begin in names:
        for end in names:
            single = [
                {"SpecialToken": {"id": begin, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": end, "type_id": 0}},
            ]
            entries = {text: {"id": text, "ids": [known[text]], "tokens": [text]} for text in {begin, end}}
            if value.get("single") == single and tokens == entries:
                return begin, end
    _fail(where, "a template of one begin token, the text and one end token", value)


def _keys(value: Any, where: str, *, allowed: tuple[str, ...], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        _fail(where, "an object", value)
    for key in value:
        if key not in allowed:
            raise FormatError(where, f"has the key {shown(key)}, which CLIP's tokenizer does not have", _FORM)
    for key in needed:
        if key not in value:
            raise FormatError(where, f"lacks the key {key!r}, so it is not a tokenizer", _FORM)
    return value


def _table(value: Any, table: Mapping[str, tuple[Any, ...]], where: str) -> dict[str, Any]:
    """Require an object with the keys of `table`, each with one of its values."""
    found = _keys(value, where, allowed=tuple(table))
    for key, accepted in table.items():
        _one_of(found.get(key), accepted, f"{where}.{key}")
    return found


def _one_of(value: Any, accepted: tuple[Any, ...], where: str) -> None:
    if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in accepted):
        _fail(where, " or ".join("null" if each is None else json.dumps(each) for each in accepted), value)


def _fail(where: str, expected: str, value: Any, code: str = _FORM) -> NoReturn:
    raise FormatError(
        where, f"is {strict_json.spelt(value)}, so it is not a tokenizer of CLIP's form; expected {expected}", code
    )
