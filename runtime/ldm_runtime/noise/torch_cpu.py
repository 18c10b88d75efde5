"""The noise of `torch.Generator("cpu")`, without torch: a seed from diffusers gives the same image here.

torch draws with MT19937 and Box-Muller, in float32 and with vectorised kernels whose logarithms, sines and cosines
differ in the last bits between processors. This module's are correctly rounded, so it is equal to torch to about 5e-7,
never to the bit.
Source: ATen's DistributionTemplates.h and its MT19937 engine; compared with torch 2.13.
"""

import math

import numpy as np

BLOCK = 16  # torch transforms uniform numbers in blocks: cosines in the first half, sines in the second


class TorchGenerator:
    """The stream of a generator seeded with `manual_seed(seed)`; each draw goes on where the last one stopped."""

    def __init__(self, seed: int) -> None:
        self._engine = np.random.RandomState(seed % 2**32)  # MT19937; torch too takes the low 32 bits only
        self._spare: float | None = None  # of small draws, which torch makes two at a time

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw what `torch.randn(shape, generator=…)` does, to rounding: float32 of that shape."""
        count = math.prod(shape)
        values = self._blocks(count) if count >= BLOCK else self._pairs(count)
        return values.astype(np.float32).reshape(shape)

    def _blocks(self, count: int) -> np.ndarray:
        uniform = self._uniform24(count)
        whole = count - count % BLOCK
        values = np.empty(count)
        values[:whole] = _box_muller(uniform[:whole])
        if whole != count:  # the last block is drawn again, over some numbers of the one before
            values[-BLOCK:] = _box_muller(self._uniform24(BLOCK))
        return values

    def _pairs(self, count: int) -> np.ndarray:
        values = []
        for _ in range(count):
            if self._spare is None:
                angle, radius = 2.0 * math.pi * self._uniform53(), math.sqrt(-2.0 * math.log1p(-self._uniform53()))
                values.append(radius * math.cos(angle))
                self._spare = radius * math.sin(angle)
            else:
                values.append(self._spare)
                self._spare = None
        return np.array(values)

    def _words(self, count: int) -> np.ndarray:
        return self._engine.randint(0, 2**32, count, dtype=np.uint32)

    def _uniform24(self, count: int) -> np.ndarray:
        return (self._words(count) & np.uint32(2**24 - 1)).astype(np.float64) * 2.0**-24

    def _uniform53(self) -> float:
        high, low = (int(word) for word in self._words(2))
        return ((high << 32 | low) & (2**53 - 1)) * 2.0**-53


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    """Turn blocks of 16 uniform numbers in [0, 1) into normal ones: (n * 16,). Rounded to float32 where torch's are."""
    blocks = uniform.reshape(-1, BLOCK)
    radius = _rounded(np.sqrt(-2.0 * _rounded(np.log(1.0 - blocks[:, : BLOCK // 2]))))
    angle = _rounded(float(np.float32(2.0 * math.pi)) * blocks[:, BLOCK // 2 :])
    return np.concatenate([radius * _rounded(np.cos(angle)), radius * _rounded(np.sin(angle))], axis=1).reshape(-1)


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)
