"""Tokenizers: tokenizer.json of a package, and all files of a checkpoint's tokenizer folder."""

import hashlib
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from ldm_runtime.package.open import open_package
from tests.fuzz.kind import GOLDEN, Kind
from tests.fuzz.mutate import json_input, mutate_bytes, mutate_text
from tests.runtime.tiny_package import tokenizer_of

TEXTS = ["a red apple", "Ünïcode \U0001f34e it's 3d", "<|startoftext|> x <|endoftext|>", "\0", "a" * 100]
FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def _prepare(folder: Path) -> tuple[Path, list[Any]]:
    """The golden package, and the tokenizers: CLIP's form in small, and variants of its parts."""
    package = folder / "package"
    shutil.copytree(GOLDEN / "package", package)
    small = json.loads((package / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    foreign = {
        **small,
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "!",
        },
    }  # fmt: skip
    pairs = {**small, "model": {**small["model"], "merges": [["r", "e"], ["re", "d</w>"]]}}
    return package, [small, small, small, pairs, foreign]


def _make(random: Random, prepared: tuple[Path, list[Any]]) -> bytes:
    return json_input(random, random.choice(prepared[1]))


def _read(content: bytes, prepared: tuple[Path, list[Any]]) -> None:
    """With the right size and hash in the manifest, as the author of a hostile package would write them."""
    package, name = prepared[0], "tokenizer/tokenizer.json"
    (package / name).write_bytes(content)
    manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (package / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    tokenizer_of(open_package(package, check="size")).encode(TEXTS)


def _prepare_folder(folder: Path) -> dict[str, Any]:
    """name -> content of the files of a checkpoint's tokenizer: parsed JSON, or text."""
    import ldm_export.checkpoint.tokenizer  # noqa: F401  # what importing takes is no input's

    small = json.loads((GOLDEN / "package" / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    begin, end = "<|startoftext|>", "<|endoftext|>"
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in small["model"]["merges"]]
    return {
        "tokenizer.json": small,
        "vocab.json": small["model"]["vocab"],
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "tokenizer_config.json": {
            "bos_token": {"__type": "AddedToken", "content": begin, "lstrip": False, "normalized": True},
            "eos_token": end, "unk_token": end, "pad_token": end, "model_max_length": 12,
            "tokenizer_class": "CLIPTokenizer",
        },
        "special_tokens_map.json": {
            "bos_token": begin, "eos_token": {"content": end}, "unk_token": end, "pad_token": end,
        },
        "added_tokens.json": {},
    }  # fmt: skip


def _make_folder(random: Random, files: dict[str, Any]) -> bytes:
    """One file changed, some left out: name and hexadecimal content, as JSON."""
    name = random.choice(FILES)
    kept = [each for each in FILES if each == name or random.random() < 0.7]
    contents = {}
    for each in kept:
        content = files[each]
        as_it_is = content if isinstance(content, str) else json.dumps(content)
        if each != name:
            contents[each] = as_it_is.encode().hex()
        elif isinstance(content, str):
            changed = mutate_text(random, content).encode("utf-8", "surrogatepass")
            contents[each] = (changed if random.random() < 0.7 else mutate_bytes(random, changed)).hex()
        else:
            contents[each] = json_input(random, content).hex()
    return json.dumps(contents).encode()


def _read_folder(content: bytes, files: dict[str, Any]) -> None:
    from ldm_export.checkpoint.tokenizer import complete_tokenizer

    source, out = Path("source"), Path("out")
    for folder in (source, out):
        shutil.rmtree(folder, ignore_errors=True)
    source.mkdir()
    for name, text in json.loads(content).items():
        (source / name).write_bytes(bytes.fromhex(text))
    complete_tokenizer(source, window=12, vocab_size=517).write(out)


KINDS = [
    Kind("tokenizer", _prepare, _make, _read),
    Kind("tokenizer_files", _prepare_folder, _make_folder, _read_folder),
]
