"""CLIP's tokenizer in every form that programs read; checked against transformers 4.57.

`tokenizers` reads tokenizer.json, transformers' slow class vocab.json and merges.txt, and the tokens that begin,
end and pad a prompt are in tokenizer_config.json or special_tokens_map.json. A package has them all.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_export.checkpoint.json_files import MAX_JSON_BYTES, checkpoint_folder, read_object, refused
from ldm_export.checkpoint.special_tokens import read_special_tokens, with_special_tokens
from ldm_export.errors import CheckpointError
from ldm_runtime.checks import shown
from ldm_runtime.files import strict_json
from ldm_runtime.package.manifest import TokenizerFacts
from ldm_runtime.text.added_tokens import AddedToken
from ldm_runtime.text.clip_form import check_merges, check_vocabulary, read_tokenizer
from ldm_runtime.text.clip_tokenizer import BOS, EOS, ClipTokenizer

TOKENIZER, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
MAX_FILES = 64
CONFIG, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"

# Defaults of transformers' CLIPTokenizer.
DEFAULTS = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}


@dataclass(frozen=True)
class _Bpe:
    """A BPE model: token -> id, and the pairs that are merged, in order."""

    vocabulary: dict[str, int]
    merges: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CompleteTokenizer:
    """A tokenizer folder with every file that programs read, and the facts for the manifest (`file`: in it)."""

    files: dict[str, bytes]
    facts: TokenizerFacts

    def write(self, out: Path) -> None:
        """Write the files into the new folder `out`."""
        out.mkdir(parents=True)
        for name, content in self.files.items():
            (out / name).write_bytes(content)


@refused()
def complete_tokenizer(source: Path, *, window: int, vocab_size: int) -> CompleteTokenizer:
    """Read the tokenizer folder `source` and add the files that it lacks.

    window: the most tokens that the text encoder takes; vocab_size: how many it knows.

    Raises:
        CheckpointError: the files are incomplete or no CLIP tokenizer, or do not fit the text encoder.
    """
    folder = checkpoint_folder(source)
    files = {name: folder.read(name, MAX_JSON_BYTES) for name in folder.names(most=MAX_FILES)}
    config, special_map, added = (_object(source / name) for name in (CONFIG, SPECIAL, ADDED))
    tokens = read_special_tokens(config, special_map, added, DEFAULTS)
    bpe = _read_bpe(source)
    if VOCABULARY not in files or MERGES not in files:
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in bpe.merges)]
        files = {**files, VOCABULARY: _json(bpe.vocabulary), MERGES: ("\n".join(lines) + "\n").encode()}
    tokenizer = _read_file(source) if TOKENIZER in files else _of_bpe(bpe, tokens.roles)
    complete = with_special_tokens(tokenizer, tokens, str(source))
    if complete is not tokenizer or TOKENIZER not in files:
        files = {**files, TOKENIZER: _json(complete.to_dict())}
    facts = _facts(source, complete, tokens.roles, _window(config, window), vocab_size)
    special = {**special_map, **tokens.roles}
    config = {"tokenizer_class": "CLIPTokenizer", **config, **tokens.roles, "model_max_length": facts.max_length}
    return CompleteTokenizer({**files, SPECIAL: _json(special), CONFIG: _json(config)}, facts)


def _of_bpe(bpe: _Bpe, roles: Mapping[str, str]) -> ClipTokenizer:
    """Make the tokenizer of a folder that has no tokenizer.json, before any token is added."""
    ends = {role: roles[role] for role in ("bos_token", "eos_token", "unk_token")}
    _ids_of(ends, bpe.vocabulary.get)
    begin, end, unknown = ends.values()
    return ClipTokenizer(bpe.vocabulary, bpe.merges, (), unknown, begin, end, splits_special=False)


def clip_tokenizer(
    vocabulary: dict[str, int], merges: Iterable[tuple[str, str]], special: dict[str, str]
) -> ClipTokenizer:
    """Make CLIP's fast tokenizer: NFC, single spaces, lower case, words, byte-level BPE with `</w>`."""
    begin, end = special["bos_token"], special["eos_token"]
    added = tuple(
        AddedToken(vocabulary[token], token, False, False, False, normalized=token == begin, special=True)
        for token in dict.fromkeys((begin, end))
    )
    unknown = special["unk_token"]
    return ClipTokenizer(vocabulary, tuple(merges), added, unknown, begin, end, splits_special=False)


def _object(file: Path) -> dict[str, Any]:
    return read_object(file) if file.exists() else {}


def _read_bpe(source: Path) -> _Bpe:
    """Read vocab.json and merges.txt, or else tokenizer.json."""
    if not (source / VOCABULARY).exists() or not (source / MERGES).exists():
        tokenizer = _read_file(source)
        return _Bpe(dict(tokenizer.vocabulary), tokenizer.merges)
    vocabulary = check_vocabulary(_object(source / VOCABULARY), str(source / VOCABULARY))
    text = strict_json.decode(checkpoint_folder(source).read(MERGES, MAX_JSON_BYTES), str(source / MERGES))
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line and not line.startswith("#version")]
    return _Bpe(vocabulary, check_merges(lines, vocabulary, str(source / MERGES)))


def _read_file(source: Path) -> ClipTokenizer:
    return read_tokenizer(checkpoint_folder(source).read(TOKENIZER, MAX_JSON_BYTES), str(source / TOKENIZER))


def _window(config: dict[str, Any], window: int) -> int:
    """Return the tokens of a window: the text encoder's, or fewer where the tokenizer says so."""
    length = config.get("model_max_length", window)
    if isinstance(length, bool) or not isinstance(length, int | float) or not length >= 2:
        raise CheckpointError(f"the tokenizer's model_max_length is {shown(length)}; expected 2 tokens at least")
    return int(min(length, window))


def _facts(
    source: Path, tokenizer: ClipTokenizer, roles: Mapping[str, str], max_length: int, vocab_size: int
) -> TokenizerFacts:
    ids = _ids_of(roles, tokenizer.id_of)
    if tokenizer.size > vocab_size:
        last = next((token.content for token in tokenizer.added if token.id == tokenizer.size - 1), None)
        named = "" if last is None else f" ({shown(last)})"
        raise CheckpointError(
            f"the tokenizer has tokens up to {tokenizer.size - 1}{named}, but the text encoder's vocab_size is "
            f"{vocab_size}: they do not belong together"
        )
    others = tokenizer.other_tokens(ids["bos_token"], ids["eos_token"], ids["pad_token"])
    if others is not None:
        raise CheckpointError(f"{source / TOKENIZER} {others} as its special tokens; save the tokenizer again")
    return TokenizerFacts(
        file=TOKENIZER,
        max_length=max_length,
        bos_token_id=ids["bos_token"],
        eos_token_id=ids["eos_token"],
        pad_token_id=ids["pad_token"],
        vocab_size=vocab_size,
    )


def _ids_of(special: Mapping[str, str], id_of: Callable[[str], int | None]) -> dict[str, int]:
    """Map each role to its token's id. Raises CheckpointError for all that have none."""
    ids = {role: id_of(token) for role, token in special.items()}
    missing = [f"{role} {shown(special[role])}" for role, index in ids.items() if index is None]
    if missing:
        raise CheckpointError(f"the tokenizer's vocabulary lacks its own {', '.join(missing)}; fetch it again")
    return {role: index for role, index in ids.items() if index is not None}


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
