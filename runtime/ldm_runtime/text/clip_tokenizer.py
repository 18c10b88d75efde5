"""CLIP's tokenizer: byte-level BPE with its vocabulary, merges and added tokens, apart from any file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ldm_runtime.checks import shown
from ldm_runtime.text.added_tokens import AddedToken
from ldm_runtime.text.byte_pairs import END_OF_WORD

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
SPECIAL_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|" + WORDS
NORMALIZERS = [
    {"type": "NFC"},
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    {"type": "Lowercase"},
]


@dataclass(frozen=True)
class ClipTokenizer:
    """The content of a tokenizer.json beyond the form that all of them share."""

    vocabulary: Mapping[str, int]  # token -> id, 0 to n - 1
    merges: tuple[tuple[str, str], ...]  # the first is made first
    added: tuple[AddedToken, ...]  # by id
    unknown: str | None  # the token of a symbol that vocabulary lacks
    begin: str | None
    end: str | None
    splits_special: bool  # the begin and end tokens are words, also where the text has them in another case

    @property
    def size(self) -> int:
        """Return one more than the largest id."""
        return max(len(self.vocabulary), *(token.id + 1 for token in self.added), 0)

    def id_of(self, token: str) -> int | None:
        """Return the id of a token, None if there is none."""
        if token in self.vocabulary:
            return self.vocabulary[token]
        return next((added.id for added in self.added if added.content == token), None)

    def other_tokens(self, begin: int, end: int, pad: int) -> str | None:
        """Describe what the file says of the begin, end or padding token if these ids are others; None if they agree.

        A file that does not say what begins and ends a text has CLIP's names for it, or else other special tokens.
        """
        for what, token, index in (("begin", self.begin or BOS, begin), ("end", self.end or EOS, end)):
            known = self.id_of(token)
            if known not in (index, None):
                return f"has the {what} token {shown(token)}, which is {known}, not {index}"
            if known is None and index not in (special := [each.id for each in self.added if each.special] or [index]):
                return f"has {len(special)} special tokens, and none is the {what} token {index}"
        for what, index in (("begin", begin), ("end", end), ("padding", pad)):
            if index >= self.size:
                return f"has the tokens 0 to {self.size - 1}, and none is the {what} token {index}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a tokenizer.json as `tokenizers` 0.22 writes it."""
        pattern = SPECIAL_WORDS if self.splits_special else WORDS
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [asdict(token) for token in self.added],
            "normalizer": {"type": "Sequence", "normalizers": NORMALIZERS},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": self._post_processor(),
            "decoder": {**byte_level, "add_prefix_space": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": self.unknown,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": END_OF_WORD,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": dict(self.vocabulary),
                "merges": [list(pair) for pair in self.merges],
            },
        }

    def _post_processor(self) -> dict[str, Any] | None:
        if self.begin is None or self.end is None:
            return None
        begin, end = ([token, self.id_of(token)] for token in (self.begin, self.end))
        return {"type": "RobertaProcessing", "sep": end, "cls": begin, "trim_offsets": False, "add_prefix_space": False}
