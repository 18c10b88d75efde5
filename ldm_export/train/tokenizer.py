"""Training of a byte-level BPE tokenizer on captions, written in every form in which CLIP's tokenizer is read.

Byte-pair encoding after Sennrich et al. 2016; normaliser, word pattern, byte alphabet and `</w>` are CLIP's, checked
against transformers' CLIPTokenizer and CLIPTokenizerFast. The result is a pure function of the captions: ties between
pairs are broken by the pair's text, unlike in `tokenizers`' own trainer, whose order depends on a hash seed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from ldm_export.checkpoint.tokenizer import DEFAULTS, clip_tokenizer
from ldm_export.errors import TrainingError
from ldm_export.recipes.train_rules import SMALLEST_VOCABULARY
from ldm_runtime.text.byte_pairs import END_OF_WORD, byte_alphabet, visible
from ldm_runtime.text.characters import normalise
from ldm_runtime.text.clip_encoder import words
from ldm_runtime.text.clip_tokenizer import BOS, EOS


def train_tokenizer(captions: Iterable[str], *, vocab_size: int, max_length: int, folder: Path) -> int:
    """Learn a vocabulary of at most `vocab_size` tokens and write it to `folder`; return its size.

    Ids are laid out as CLIP's: bytes, bytes ending a word, merges in the order learnt, BOS, EOS (also the padding).
    The learning stops early when no pair occurs twice.

    Raises:
        TrainingError: `vocab_size` is too small for the bytes and the special tokens.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise TrainingError(f"vocab_size is {vocab_size}; a byte-level vocabulary starts at {SMALLEST_VOCABULARY}")
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(visible(word) for _, word in words(normalise(caption)))
    merges = learn_merges(counts, vocab_size - SMALLEST_VOCABULARY)
    alphabet = byte_alphabet()
    tokens = alphabet + [byte + END_OF_WORD for byte in alphabet]
    tokens += [left + right for left, right in merges] + [BOS, EOS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    _write(folder, vocabulary, merges, max_length)
    return len(vocabulary)


def learn_merges(counts: Mapping[str, int], limit: int) -> list[tuple[str, str]]:
    """Learn at most `limit` merges in order: each time the most frequent pair, of several the first by its text.

    A merge that would produce an existing token (by another route) is skipped, so that the vocabulary stays unique.
    """
    words = [([*word[:-1], word[-1] + END_OF_WORD], count) for word, count in sorted(counts.items())]
    pairs: Counter[tuple[str, str]] = Counter()
    for symbols, count in words:
        for pair in pairwise(symbols):
            pairs[pair] += count
    merges: list[tuple[str, str]] = []
    tokens: set[str] = set()
    while len(merges) < limit:
        usable = [(-count, pair) for pair, count in pairs.items() if count > 1 and "".join(pair) not in tokens]
        if not usable:
            break
        best = min(usable)[1]
        merges.append(best)
        tokens.add("".join(best))
        _apply(best, words, pairs)
    return merges


def _apply(pair: tuple[str, str], words: list[tuple[list[str], int]], pairs: Counter[tuple[str, str]]) -> None:
    """Merge `pair` in every word and update the pair counts."""
    for symbols, count in words:
        if pair[0] not in symbols or pair not in pairwise(symbols):
            continue
        for old in pairwise(symbols):
            pairs[old] -= count
        index = 0
        while index < len(symbols) - 1:
            if (symbols[index], symbols[index + 1]) == pair:
                symbols[index : index + 2] = ["".join(pair)]
            index += 1
        for new in pairwise(symbols):
            pairs[new] += count


def _write(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]], max_length: int) -> None:
    """Write the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    content = clip_tokenizer(vocabulary, merges, DEFAULTS).to_dict()
    (folder / "tokenizer.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(DEFAULTS, indent=2))
    config = {
        **DEFAULTS,
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_length,
        "do_lower_case": True,
        "errors": "replace",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
