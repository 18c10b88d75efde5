"""The noise of a run: `philox` (the default), or that of torch on a CPU or on a GPU.

`philox` has a stream for each purpose, so nothing depends on what was drawn before. `torch` and `cuda` draw one
number after the other as diffusers does: for each image a generator seeded seed + b, in the order of the calls.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.noise import philox as rng
from ldm_runtime.noise.cuda import THREADS_PER_BLOCK, CudaGenerator
from ldm_runtime.noise.torch_cpu import TorchGenerator

NOISES = ("philox", "torch", "cuda", "cuda:RESIDENT_THREADS")
VAE_STREAM = rng.RESERVED_STREAMS  # the sample that is drawn from the moments of the VAE encoder
MASKED_STREAM = rng.RESERVED_STREAMS + 1  # the same for the masked image of an inpainting model
KEPT_ROWS = 2  # a row may read the noise of the row before once more


class _Generator(Protocol):
    def normal(self, shape: tuple[int, ...]) -> np.ndarray: ...


class Noise:
    """Unit-variance noise for a batch of latents of `shape`, each from its seed: float32 (B, C, h, w)."""

    def __init__(self, mode: str, seeds: Sequence[int], shape: tuple[int, ...]) -> None:
        self._seeds, self._shape = seeds, shape
        make = _generator(mode)
        self._generators = None if make is None else [make(seed) for seed in seeds]
        self._rows: dict[int, np.ndarray] = {}

    def initial(self) -> np.ndarray:
        return self.stream(rng.INITIAL_STREAM)

    def row(self, row: int) -> np.ndarray:
        """Return the noise of a plan's row. The next row may ask for it again and gets the same array."""
        if row not in self._rows:
            self._rows[row] = self.stream(1 + row)
            self._rows.pop(row - KEPT_ROWS, None)
        return self._rows[row]

    def stream(self, stream: int) -> np.ndarray:
        """Draw the noise of one stream. The torch and cuda generators have none: they return their next numbers."""
        if self._generators is None:
            images = [rng.philox_normal(seed, stream, self._shape) for seed in self._seeds]
        else:
            images = [generator.normal(self._shape) for generator in self._generators]
        return np.stack(images)


def check_noise(mode: str, *, correlated: bool, sampler: str) -> str:
    """Return the name of a noise; raise InputError for an unknown one, or one without the sampler's streams."""
    make = _generator(mode)
    if make is not None and correlated:
        raise InputError(
            f"sampler {sampler!r} reads one noise in several rows, which only noise 'philox' can give; got {mode!r}",
            code="request.noise",
        )
    return mode


def _generator(mode: str) -> Callable[[int], _Generator] | None:
    if mode == "philox":
        return None
    if mode == "torch":
        return TorchGenerator
    if mode == "cuda":
        return CudaGenerator
    name, _, count = mode.partition(":")
    if name == "cuda" and count.isascii() and count.isdecimal() and len(count) < 9 and int(count) >= THREADS_PER_BLOCK:
        return lambda seed: CudaGenerator(seed, int(count))
    raise InputError(f"noise is {mode!r}; expected {', '.join(NOISES)}, for example cuda:270336", code="request.noise")
