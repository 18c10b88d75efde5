"""Latents as bytes: quantised, with a factorised model of their symbols, written by a range coder."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ldm_runtime.errors import InputError

SMOOTHING = 0.5  # counts that every symbol has to begin with (Krichevsky and Trofimov 1981)
MARGIN = 2  # symbols beyond those that were seen, on either side


def quantise(latents: np.ndarray, step: float) -> np.ndarray:
    """Return the nearest multiple of `step` of each number, as an integer."""
    return np.rint(latents / step).astype(np.int64)


@dataclass(frozen=True)
class FactorisedModel:
    """The probability of each symbol, by channel and of nothing else.

    lowest: of each channel, the first symbol. probabilities: of each channel, of the symbols from there on.
    """

    lowest: tuple[int, ...]
    probabilities: tuple[np.ndarray, ...]

    @classmethod
    def learn(cls, symbols: np.ndarray) -> "FactorisedModel":
        """Count the symbols of images, (N, C, h, w)."""
        lowest, probabilities = [], []
        for channel in symbols.swapaxes(0, 1):
            first = int(channel.min()) - MARGIN
            counts = np.bincount((channel - first).ravel(), minlength=int(channel.max()) + MARGIN + 1 - first)
            lowest.append(first)
            probabilities.append((counts + SMOOTHING) / (counts.sum() + SMOOTHING * len(counts)))
        return cls(tuple(lowest), tuple(probabilities))

    def clip(self, symbols: np.ndarray) -> np.ndarray:
        """Return symbols (N, C, h, w) that the model has: the nearest, for those beyond."""
        first = np.array(self.lowest)[:, None, None]
        last = first + np.array([len(each) - 1 for each in self.probabilities])[:, None, None]
        return np.clip(symbols, first, last)

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """Return -log2 of the probability of each image's symbols, (N,): what an ideal coder takes."""
        channels = zip(symbols.swapaxes(0, 1), self.lowest, self.probabilities, strict=True)
        return np.sum([-np.log2(table[each - first]).sum(axis=(1, 2)) for each, first, table in channels], axis=0)

    def encode(self, symbols: np.ndarray) -> bytes:
        """Write all images' symbols as one stream."""
        stream = range_coder().stream
        coder = stream.queue.RangeEncoder()
        for channel, first, model in zip(symbols.swapaxes(0, 1), self.lowest, self._models(stream), strict=True):
            coder.encode((channel - first).ravel().astype(np.int32), model)
        return bytes(coder.get_compressed().astype("<u4").tobytes())

    def decode(self, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
        """Read what `encode` wrote of symbols of this shape, (N, C, h, w)."""
        stream = range_coder().stream
        coder = stream.queue.RangeDecoder(np.frombuffer(content, "<u4").astype(np.uint32))
        count, channels, height, width = shape
        read = [
            coder.decode(model, count * height * width).reshape(count, height, width) + first
            for first, model in zip(self.lowest, self._models(stream), strict=True)
        ]
        return np.stack(read, axis=1).astype(np.int64)

    def _models(self, stream: Any) -> list[Any]:
        return [stream.model.Categorical(each, perfect=False) for each in self.probabilities]


def range_coder() -> ModuleType:
    """Return the library constriction (Bamler 2022). Raises InputError where it is not installed."""
    try:
        import constriction
    except ModuleNotFoundError:
        raise InputError("constriction is not installed; install it with: pip install 'ldm-export[analyze]'") from None
    module: ModuleType = constriction
    return module
