"""From texts to what the UNet attends to: tokens, windows, the text encoder, weights, the negative prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ldm_runtime.checks import given
from ldm_runtime.errors import InputError
from ldm_runtime.package.open import Package
from ldm_runtime.request import Request
from ldm_runtime.text.notices import left_out, read_as_words
from ldm_runtime.text.tokenizer import Tokenizer
from ldm_runtime.text.weighting import pad_windows, weigh, windows


@dataclass(frozen=True)
class Embedded:
    """Text encoder states, float32 (B, T, D), and what there is to say of the texts, as sentences."""

    states: np.ndarray
    notices: list[str]


class Conditioner:
    """Embeds texts with a package's tokenizer and its text encoder.

    encode: int64 ids (T,) of one window -> float32 (T, D). Each window is encoded alone: an embedding does not depend
    on its neighbours in a batch.
    """

    def __init__(self, package: Package, encode: Callable[[np.ndarray], np.ndarray]) -> None:
        self.tokenizer = Tokenizer(package)
        self._contract = package.manifest.contract
        self._encode = encode

    def embed(self, texts: Sequence[str], names: Mapping[str, str], syntax: str) -> Embedded:
        """Of each text; texts of more windows than others make all as long. names: what sentences call each.

        Raises InputError for a text that cannot be read or has too many windows, before any is encoded.
        """
        called = [names.get(text, "the prompt") for text in texts]
        for text, name in zip(texts, called, strict=True):
            self.tokenizer.check(text, name)
        notices = [say for text, name in zip(texts, called, strict=True) for say in read_as_words(name, text, syntax)]
        if syntax == "weighted":
            return Embedded(self._weighted(texts, called), list(dict.fromkeys(notices)))
        encoded = self.tokenizer.encode(texts, called)
        limit = self._contract.tokenizer.max_length
        notices += [
            left_out(name, dropped, limit) for name, dropped in zip(called, encoded.dropped, strict=True) if dropped
        ]
        return Embedded(np.stack([self._encode(row) for row in encoded.ids]), list(dict.fromkeys(notices)))

    def context(self, request: Request, names: Mapping[str, str]) -> Embedded:
        """Of a run, for the UNet: (B, T, D), or with guidance (2B, T, D) with the negative prompts first."""
        texts = [*(request.negatives if request.is_guided else ())]
        texts += [] if request.prompts is None else request.prompts
        if not texts:
            return Embedded(given(request.prompt_embeds), [])
        unique = list(dict.fromkeys(texts))
        embedded = self.embed(unique, names, request.syntax)
        known = dict(zip(unique, embedded.states, strict=True))
        states = np.stack([known[text] for text in texts])
        if request.prompts is None:
            states = self._beside(states, given(request.prompt_embeds))
        return Embedded(states, embedded.notices)

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
        """Embeddings (W_b, T, D), each followed by windows of the empty prompt: (B, W, T, D)."""
        most = max(len(one) for one in embeddings)
        if all(len(one) == most for one in embeddings):
            return np.stack(embeddings)
        empty = self._encode(self.tokenizer.window([]))
        return np.stack(pad_windows(embeddings, most, empty))

    def _beside(self, negative: np.ndarray, embeds: np.ndarray) -> np.ndarray:
        """The negative prompts (B, T, D) before given embeddings (B, T', D), of as many windows: (2B, T or T', D)."""
        window = self._contract.tokenizer.max_length
        if embeds.shape[1] % window != 0:
            raise InputError(
                f"prompt_embeds has {embeds.shape[1]} tokens; with guidance, expected a multiple of {window},"
                " the window of the negative prompt"
            )
        width = embeds.shape[-1]
        joined = self._padded([one.reshape(-1, window, width) for one in (*negative, *embeds)])
        return joined.reshape(2 * len(embeds), -1, width)
