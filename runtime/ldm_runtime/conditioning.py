"""From texts to what the UNet attends to: tokens, windows, the text encoder, weights, the negative prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ldm_runtime.arguments import Request
from ldm_runtime.checks import given
from ldm_runtime.errors import InputError
from ldm_runtime.package import Package
from ldm_runtime.prompt import pad_windows, weigh, windows
from ldm_runtime.tokenizer import Tokenizer


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

    def embed(self, texts: Sequence[str], syntax: str) -> Embedded:
        """Of each text; texts of more windows than others make all as long. Raises InputError for too many windows."""
        if syntax == "weighted":
            return Embedded(self._weighted(texts), [])
        encoded = self.tokenizer.encode(texts)
        limit = self._contract.tokenizer.max_length
        notices = [
            f"the text is longer than {limit} tokens; this was left out: {dropped!r}"
            for dropped in dict.fromkeys(encoded.dropped)
            if dropped
        ]
        return Embedded(np.stack([self._encode(row) for row in encoded.ids]), notices)

    def context(self, request: Request) -> Embedded:
        """Of a run, for the UNet: (B, T, D), or with guidance (2B, T, D) with the negative prompts first."""
        texts = [*(request.negatives if request.is_guided else ())]
        texts += [] if request.prompts is None else request.prompts
        if not texts:
            return Embedded(given(request.prompt_embeds), [])
        unique = list(dict.fromkeys(texts))
        embedded = self.embed(unique, request.syntax)
        known = dict(zip(unique, embedded.states, strict=True))
        states = np.stack([known[text] for text in texts])
        if request.prompts is None:
            states = _beside(states, given(request.prompt_embeds))
        return Embedded(states, embedded.notices)

    def _weighted(self, texts: Sequence[str]) -> np.ndarray:
        embeddings = []
        for text in texts:
            parts = [weigh(self._encode(window.ids), window.weights) for window in windows(text, self.tokenizer)]
            embeddings.append(np.stack(parts))
        most = max(len(one) for one in embeddings)
        if any(len(one) < most for one in embeddings):
            empty = self._encode(self.tokenizer.window([]))
            embeddings = pad_windows(embeddings, most, empty)
        joined = np.stack([one.reshape(-1, one.shape[-1]) for one in embeddings])
        tokens = self._contract.tensor("unet", "encoder_hidden_states").dims[1]
        limit = self._contract.range_of(tokens)[1]
        if joined.shape[1] > limit:
            window = self._contract.tokenizer.max_length
            raise InputError(
                f"the prompt takes {most} windows of {window} tokens, but the package takes at most {limit // window};"
                " shorten it, or use fewer BREAKs"
            )
        return joined


def _beside(negative: np.ndarray, embeds: np.ndarray) -> np.ndarray:
    """The negative prompts, repeated to as many windows as the given embeddings have, before those."""
    windows, rest = divmod(embeds.shape[1], negative.shape[1])
    if rest != 0:
        raise InputError(
            f"prompt_embeds has {embeds.shape[1]} tokens; with guidance, expected a multiple of {negative.shape[1]},"
            " the window of the negative prompt"
        )
    return np.concatenate([np.tile(negative, (1, windows, 1)), embeds])
