"""Prompts to token ids: the tokenizer.json of the package (CLIP fast), the padding of its contract."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ldm_runtime.clip_tokenizer import MAX_FILE_BYTES, read_tokenizer
from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.package import TOKENIZER, Package


@dataclasses.dataclass(frozen=True)
class Encoded:
    """ids: int64 (B, max_length). dropped: of each prompt the text that did not fit the window, or ""."""

    ids: np.ndarray
    dropped: tuple[str, ...]


class Tokenizer:
    """The tokenizer of a package; begin, end and padding tokens come from the contract, not from its file.

    Raises PackageError if tokenizer.json is not of CLIP's form or knows tokens that the text encoder does not have.
    """

    def __init__(self, package: Package) -> None:
        import tokenizers  # not at the top: 20 ms that `import ldm_runtime` need not pay

        self._facts = package.manifest.contract.tokenizer
        file = package.path / TOKENIZER
        clip = read_tokenizer(package.folder.read(TOKENIZER, MAX_FILE_BYTES), str(file))
        if clip.size > self._facts.vocab_size:
            raise PackageError(
                f"{file} has tokens up to {clip.size - 1}, but the text encoder knows {self._facts.vocab_size}; "
                f"build the package again"
            )
        # Not the file itself: what is not of CLIP's form can make the library panic, hang or end the process.
        self._tokenizer: Any = tokenizers.Tokenizer.from_str(clip.to_json())

    @property
    def room(self) -> int:
        """Tokens of text in a window."""
        return self._facts.max_length - 2

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, however many, without begin and end. InputError if it is not valid Unicode."""
        return list(self._encoding(text).ids)

    def window(self, tokens: Sequence[int]) -> np.ndarray:
        """Begin, at most `room` tokens, end, then padding: int64 (max_length,)."""
        facts = self._facts
        ids = np.full(facts.max_length, facts.pad_token_id, dtype=np.int64)
        ids[: len(tokens) + 2] = [facts.bos_token_id, *tokens, facts.eos_token_id]
        return ids

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Token ids of each prompt: begin, at most max_length - 2 tokens, end, then padding.

        Raises InputError for a prompt that is not valid Unicode text.
        """
        rows, dropped = [], []
        for prompt in prompts:
            encoding = self._encoding(prompt)
            rows.append(self.window(encoding.ids[: self.room]))
            overflow = encoding.offsets[self.room][0] if len(encoding.ids) > self.room else len(prompt)
            dropped.append(prompt[overflow:].strip())
        ids = np.stack(rows) if rows else np.empty((0, self._facts.max_length), np.int64)
        return Encoded(ids, tuple(dropped))

    def _encoding(self, text: str) -> Any:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the prompt is not valid Unicode text at character {error.start}; give it as UTF-8"
            ) from None
        return self._tokenizer.encode(text, add_special_tokens=False)
