"""From prompts to the denoiser's context: tokens, windows, text encoders, weights, the negative prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ldm_runtime.checks import given
from ldm_runtime.errors import InputError
from ldm_runtime.notice import Notice
from ldm_runtime.package.manifest import Contract, TextRole
from ldm_runtime.text.notices import left_out, read_as_words
from ldm_runtime.text.tokenizer import Tokenizer
from ldm_runtime.text.weighting import pad_windows, weigh, windows


class TextEngine(Protocol):
    """The engine of a text encoder."""

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder of a package: its role in the contract, its tokenizer and its engine."""

    role: TextRole
    dtype: str  # token ids'
    tokenizer: Tokenizer
    engine: TextEngine

    def encode(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode one window, int64 (T,): hidden states (T, D) and pooled output (P,); P is 0 where nothing reads it."""
        outputs = self.engine.run({self.role.input: ids[None].astype(self.dtype)})
        pooled = np.empty(0, np.float32) if self.role.pooled is None else outputs[self.role.pooled][0]
        return np.asarray(outputs[self.role.output][0]), np.asarray(pooled)


@dataclass(frozen=True)
class Conditioning:
    """Encoder hidden states, float32 (B, T, D), pooled outputs (B, P), and notices about the prompts."""

    context: np.ndarray
    pooled: np.ndarray
    notices: list[Notice]

    def after_zeros(self) -> "Conditioning":
        """Put as many zeros first: what some models take in place of a negative prompt."""
        context, pooled = (np.concatenate([np.zeros_like(each), each]) for each in (self.context, self.pooled))
        return Conditioning(context, pooled, self.notices)


# Token ids (T,) of one window, and the weights of its tokens (T,) where the syntax has any.
_Window = tuple[np.ndarray, np.ndarray | None]


class Conditioner:
    """The text encoders of a package, each with its tokenizer.

    Each window is encoded alone: an embedding does not depend on its neighbours in a batch. Threads share it.
    """

    def __init__(self, encoders: Sequence[TextEncoder], contract: Contract) -> None:
        self.encoders = tuple(encoders)
        self._contract = contract

    def embed(self, texts: Sequence[str], names: Mapping[str, str], syntax: str) -> Conditioning:
        """Embed each text. Shorter texts are padded to the longest one's number of windows.

        names: what errors and notices call each text.

        Raises InputError for a text that cannot be read or has too many windows, before any is encoded.
        """
        called = [names.get(text, "the prompt") for text in texts]
        for text, name in zip(texts, called, strict=True):
            self.encoders[0].tokenizer.check(text, name)
        said = [words for text, name in zip(texts, called, strict=True) for words in read_as_words(name, text, syntax)]
        read = self._weighted if syntax == "weighted" else self._plain
        prepared = [read(encoder.tokenizer, texts, called, said) for encoder in self.encoders]
        most = max(len(each) for windows_ in prepared for each in windows_)
        states, pooled = [], []
        for encoder, windows_ in zip(self.encoders, prepared, strict=True):
            encoded = [[_weighed(encoder, *window) for window in each] for each in windows_]
            embeddings = [np.stack([state for state, _ in each]) for each in encoded]
            states.append(_padded(embeddings, most, encoder))  # (B, W, T, D)
            pooled.append(np.stack([each[0][1] for each in encoded]))  # the first window's
        joined = np.concatenate(states, axis=-1)
        context = joined.reshape(len(texts), -1, joined.shape[-1])
        notices = [Notice("text", sentence) for sentence in dict.fromkeys(said)]
        return Conditioning(context, np.concatenate(pooled, axis=-1), notices)

    def context(
        self,
        prompts: Sequence[str] | None,
        negatives: Sequence[str],
        embeds: np.ndarray | None,
        pooled_embeds: np.ndarray | None,
        *,
        names: Mapping[str, str],
        syntax: str,
    ) -> Conditioning:
        """Condition a run: (B, T, D), or with negative prompts (2B, T, D), theirs first.

        prompts: None where `embeds`, float32 (B, T, D), take their place, and `pooled_embeds` (B, P), which is None
        where nothing is pooled. negatives: empty without guidance.
        """
        texts = [*negatives, *([] if prompts is None else prompts)]
        if prompts is None and pooled_embeds is None:
            pooled_embeds = np.empty((len(given(embeds)), 0), np.float32)
        if not texts:
            return Conditioning(given(embeds), given(pooled_embeds), [])
        unique = list(dict.fromkeys(texts))
        embedded = self.embed(unique, names, syntax)
        places = [unique.index(text) for text in texts]
        context, pooled = embedded.context[places], embedded.pooled[places]
        if prompts is None:
            context = self._before(context, given(embeds))
            pooled = np.concatenate([pooled, given(pooled_embeds)])
        return Conditioning(context, pooled, embedded.notices)

    def _plain(
        self, tokenizer: Tokenizer, texts: Sequence[str], names: Sequence[str], said: list[str]
    ) -> list[list[_Window]]:
        encoded = tokenizer.encode(texts, names)
        limit = self._contract.window
        said += [
            left_out(name, dropped, limit) for name, dropped in zip(names, encoded.dropped, strict=True) if dropped
        ]
        return [[(row, None)] for row in encoded.ids]

    def _weighted(
        self, tokenizer: Tokenizer, texts: Sequence[str], names: Sequence[str], said: list[str]
    ) -> list[list[_Window]]:
        prepared: list[list[_Window]] = []
        for text, name in zip(texts, names, strict=True):
            prepared.append([(window.ids, window.weights) for window in windows(text, tokenizer, name)])
            self._check_windows(len(prepared[-1]), name)
        return prepared

    def _check_windows(self, needed: int, name: str) -> None:
        window = self._contract.window
        most = self._contract.range_of(self._contract.context.dims[1])[1] // window
        if needed > most:
            raise InputError(
                f"{name} takes {needed} windows of {window} tokens, but the package takes at most {most};"
                " shorten it, or use fewer BREAKs",
                code="request.prompt",
            )

    def _before(self, negative: np.ndarray, embeds: np.ndarray) -> np.ndarray:
        """Put negative prompts (B, T, D) before given embeddings (B, T', D), padded alike: (2B, T or T', D)."""
        window = self._contract.window
        if embeds.shape[1] % window != 0:
            raise InputError(
                f"prompt_embeds has {embeds.shape[1]} tokens; with guidance, expected a multiple of {window},"
                " the window of the negative prompt",
                code="request.array",
            )
        width = embeds.shape[-1]
        embeddings = [one.reshape(-1, window, width) for one in (*negative, *embeds)]
        joined = _padded(embeddings, max(len(one) for one in embeddings), *self.encoders)
        return joined.reshape(2 * len(embeds), -1, width)


def _weighed(encoder: TextEncoder, ids: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    states, pooled = encoder.encode(ids)
    return (states if weights is None else weigh(states, weights)), pooled


def _padded(embeddings: Sequence[np.ndarray], most: int, *encoders: TextEncoder) -> np.ndarray:
    """Pad embeddings (W_b, T, D) of these encoders, joined, with windows of the empty prompt: (B, most, T, D)."""
    if all(len(one) == most for one in embeddings):
        return np.stack(embeddings)
    empty = [encoder.encode(encoder.tokenizer.window([]))[0] for encoder in encoders]
    return np.stack(pad_windows(embeddings, most, np.concatenate(empty, axis=-1)))
