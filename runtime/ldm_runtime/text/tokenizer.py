"""Prompts to token ids: the tokenizer.json of the package (CLIP fast), the padding of its contract."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ldm_runtime.errors import FormatError, InputError
from ldm_runtime.package.manifest import TokenizerFacts
from ldm_runtime.package.open import Package, refused
from ldm_runtime.text.clip_encoder import ClipEncoder
from ldm_runtime.text.clip_form import MAX_FILE_BYTES, read_tokenizer

MOST_CHARACTERS = 100_000  # one prompt: tokenising takes seconds there, and a window holds some hundred
COMMA = ",</w>"
MOST_OF_A_WORD = 40  # characters


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Tokens of prompts. ids: int64 (B, max_length). dropped: each prompt's words that did not fit (the first may in
    part), or ""."""

    ids: np.ndarray
    dropped: tuple[str, ...]


class Tokenizer:
    """A tokenizer of a package; begin, end and padding tokens are those of the contract.

    Raises PackageError if tokenizer.json is not of CLIP's form, knows tokens that the text encoder does not have, or
    has other begin and end tokens, or no such padding token.
    """

    def __init__(self, package: Package, facts: TokenizerFacts) -> None:
        self._facts = facts
        file = package.path / facts.file
        with refused():
            clip = read_tokenizer(package.folder.read(facts.file, MAX_FILE_BYTES), str(file))
            if clip.size > facts.vocab_size:
                what = f"has tokens up to {clip.size - 1}, but the text encoder knows {facts.vocab_size}"
                raise FormatError(str(file), what, "tokenizer.vocabulary")
            others = clip.other_tokens(facts.bos_token_id, facts.eos_token_id, facts.pad_token_id)
            if others is not None:
                raise FormatError(str(file), f"{others} as in the manifest", "manifest.text")
        self._encoder = ClipEncoder(clip)
        self.comma: int | None = clip.id_of(COMMA)
        self._vectors = _vectors({token.content: token.id for token in clip.added})

    @property
    def room(self) -> int:
        """Return how many tokens of text a window holds."""
        return self._facts.max_length - 2

    def tokens(self, text: str) -> list[int]:
        """Return all tokens of a text, without begin and end. Raises as `check`."""
        return [token for unit in self.units(text) for token in unit]

    def units(self, text: str, name: str = "the prompt") -> Iterator[tuple[int, ...]]:
        """Yield the tokens of a text, those of one textual inversion together: mostly one at a time.

        <x> stands for all of <x>, <x>_1, <x>_2, which diffusers makes for an embedding of three vectors.
        """
        for token in self._encoder.encode(self.check(text, name)):
            yield (token, *self._vectors.get(token, ()))

    def check(self, text: str, name: str) -> str:
        """Return `text`. Raises InputError, which calls it `name`, if it is too long or not valid Unicode."""
        if len(text) > MOST_CHARACTERS:
            raise InputError(
                f"{name} has {len(text)} characters; expected at most {MOST_CHARACTERS}", code="request.prompt"
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            message = f"{name} is not valid Unicode text at character {error.start}; give it as UTF-8"
            raise InputError(message, code="request.prompt") from None
        return text

    def window(self, tokens: Sequence[int]) -> np.ndarray:
        """Return begin, at most `room` tokens, end, then padding: int64 (max_length,)."""
        facts = self._facts
        ids = np.full(facts.max_length, facts.pad_token_id, dtype=np.int64)
        ids[: len(tokens) + 2] = [facts.bos_token_id, *tokens, facts.eos_token_id]
        return ids

    def encode(self, prompts: Sequence[str], names: Sequence[str] | None = None) -> Encoded:
        """Encode each prompt: begin, at most max_length - 2 tokens, end, then padding.

        names: of the prompts in errors. Raises InputError for a prompt that is too long or not valid Unicode text.
        """
        rows, dropped = [], []
        for prompt, name in zip(prompts, names or ["the prompt"] * len(prompts), strict=True):
            kept: list[int] = []
            overflow = len(prompt)
            for index, token in enumerate(self._encoder.encode(self.check(prompt, name))):
                kept += (token, *self._vectors.get(token, ()))
                if len(kept) > self.room:
                    overflow = _start_of_word(prompt, self._encoder.place_of(prompt, index))
                    break
            rows.append(self.window(kept[: self.room]))
            dropped.append(prompt[overflow:].strip())
        ids = np.stack(rows) if rows else np.empty((0, self._facts.max_length), np.int64)
        return Encoded(ids, tuple(dropped))


def _vectors(added: dict[str, int]) -> dict[int, tuple[int, ...]]:
    """Map the first token of each textual inversion of several vectors to the others, diffusers' <x>_1, <x>_2."""
    found = {}
    for name, token in added.items():
        following = itertools.takewhile(added.__contains__, (f"{name}_{index}" for index in itertools.count(1)))
        others = tuple(added[each] for each in following)
        if others:
            found[token] = others
    return found


def _start_of_word(text: str, place: int) -> int:
    """Return `place`, or the begin of the word around it, if that is near."""
    start = place
    while place - start < MOST_OF_A_WORD and start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    return start if place - start < MOST_OF_A_WORD else place
