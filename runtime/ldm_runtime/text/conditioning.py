"""From prompts to what the UNet attends to: tokens, windows, the text encoder, weights, the negative prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ldm_runtime.checks import given
from ldm_runtime.errors import InputError
from ldm_runtime.notice import Notice
from ldm_runtime.package.manifest import Contract
from ldm_runtime.text.notices import left_out, read_as_words
from ldm_runtime.text.tokenizer import Tokenizer
from ldm_runtime.text.weighting import pad_windows, weigh, windows


class TextEngine(Protocol):
    """The text encoder."""

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Conditioning:
    """Encoder hidden states, float32 (B, T, D), and notices about the prompts."""

    context: np.ndarray
    notices: list[Notice]


class Conditioner:
    """A tokenizer and a text encoder.

    Each window is encoded alone: an embedding does not depend on its neighbours in a batch. Threads share it.
    """

    def __init__(self, tokenizer: Tokenizer, engine: TextEngine, contract: Contract) -> None:
        self.tokenizer = tokenizer
        self._engine = engine
        self._contract = contract
        self._dtype = contract.tensor("text_encoder", "input_ids").dtype

    def embed(self, texts: Sequence[str], names: Mapping[str, str], syntax: str) -> Conditioning:
        """Embed each text. Shorter texts are padded to the longest one's number of windows.

        names: what errors and notices call each text.

        Raises InputError for a text that cannot be read or has too many windows, before any is encoded.
        """
        called = [names.get(text, "the prompt") for text in texts]
        for text, name in zip(texts, called, strict=True):
            self.tokenizer.check(text, name)
        said = [words for text, name in zip(texts, called, strict=True) for words in read_as_words(name, text, syntax)]
        if syntax == "weighted":
            context = self._weighted(texts, called)
        else:
            encoded = self.tokenizer.encode(texts, called)
            limit = self._contract.tokenizer.max_length
            said += [
                left_out(name, dropped, limit) for name, dropped in zip(called, encoded.dropped, strict=True) if dropped
            ]
            context = np.stack([self._encode(row) for row in encoded.ids])
        return Conditioning(context, [Notice("text", sentence) for sentence in dict.fromkeys(said)])

    def context(
        self,
        prompts: Sequence[str] | None,
        negatives: Sequence[str],
        embeds: np.ndarray | None,
        *,
        names: Mapping[str, str],
        syntax: str,
    ) -> Conditioning:
        """Condition a run: (B, T, D), or with negative prompts (2B, T, D), theirs first.

        prompts: None where `embeds`, float32 (B, T, D), take their place. negatives: empty without guidance.
        """
        texts = [*negatives, *([] if prompts is None else prompts)]
        if not texts:
            return Conditioning(given(embeds), [])
        unique = list(dict.fromkeys(texts))
        embedded = self.embed(unique, names, syntax)
        known = dict(zip(unique, embedded.context, strict=True))
        context = np.stack([known[text] for text in texts])
        if prompts is None:
            context = self._before(context, given(embeds))
        return Conditioning(context, embedded.notices)

    def _encode(self, ids: np.ndarray) -> np.ndarray:
        """Encode one window: int64 (T,) -> float32 (T, D)."""
        outputs = self._engine.run({"input_ids": ids[None].astype(self._dtype)})
        return np.asarray(outputs["last_hidden_state"][0])

    def _weighted(self, texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
        prepared = []
        for text, name in zip(texts, names, strict=True):
            prepared.append(windows(text, self.tokenizer, name))
            self._check_windows(len(prepared[-1]), name)
        embeddings = [
            np.stack([weigh(self._encode(window.ids), window.weights) for window in made]) for made in prepared
        ]
        joined = self._padded(embeddings)
        return joined.reshape(len(texts), -1, joined.shape[-1])

    def _check_windows(self, needed: int, name: str) -> None:
        tokens = self._contract.tensor("unet", "encoder_hidden_states").dims[1]
        window = self._contract.tokenizer.max_length
        most = self._contract.range_of(tokens)[1] // window
        if needed > most:
            raise InputError(
                f"{name} takes {needed} windows of {window} tokens, but the package takes at most {most};"
                " shorten it, or use fewer BREAKs"
            )

    def _padded(self, embeddings: Sequence[np.ndarray]) -> np.ndarray:
        """Pad embeddings (W_b, T, D) with windows of the empty prompt: (B, W, T, D)."""
        most = max(len(one) for one in embeddings)
        if all(len(one) == most for one in embeddings):
            return np.stack(embeddings)
        empty = self._encode(self.tokenizer.window([]))
        return np.stack(pad_windows(embeddings, most, empty))

    def _before(self, negative: np.ndarray, embeds: np.ndarray) -> np.ndarray:
        """Put negative prompts (B, T, D) before given embeddings (B, T', D), padded alike: (2B, T or T', D)."""
        window = self._contract.tokenizer.max_length
        if embeds.shape[1] % window != 0:
            raise InputError(
                f"prompt_embeds has {embeds.shape[1]} tokens; with guidance, expected a multiple of {window},"
                " the window of the negative prompt"
            )
        width = embeds.shape[-1]
        joined = self._padded([one.reshape(-1, window, width) for one in (*negative, *embeds)])
        return joined.reshape(2 * len(embeds), -1, width)
