"""The noise of `torch.Generator("cuda")`, without torch or a GPU: cuRAND's Philox4x32-10 and Box-Muller.

On a GPU element i is drawn by thread i, as long as there is a resident thread for each element: then every GPU
gives the same numbers. Larger latents are drawn in several rounds, and which thread draws an element depends on how
many threads the GPU keeps resident, so that has to be told. CUDA's own float32 functions differ from these, which
are float64 rounded once, by about 5e-7: equal to rounding, never to the bit.
Source: ATen's cuda/DistributionTemplates.h, cuRAND's curand_philox4x32_x.h and curand_normal.h.
"""

import math

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.noise.philox import philox4x32

THREADS_PER_BLOCK = 256
NUMBERS_PER_THREAD = 4  # in one draw
# Up to this many (64x64 latents), any GPU that runs such models has a resident thread for each number.
MAX_PORTABLE_NUMBERS = 16_384


class CudaGenerator:
    """The stream of a CUDA generator seeded with `manual_seed(seed)`; each draw goes on where the last one stopped."""

    def __init__(self, seed: int, resident_threads: int | None = None) -> None:
        self._key = seed & 0xFFFFFFFF, seed >> 32
        self._resident = resident_threads
        self._offset = 0  # in groups of four numbers

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw what `torch.randn(shape, generator=…, device="cuda")` does, to rounding: float32 of that shape.

        Raises InputError for a size whose numbers depend on the GPU, which is not known.
        """
        count = math.prod(shape)
        blocks = -(-count // THREADS_PER_BLOCK)
        if self._resident is not None:
            blocks = min(blocks, self._resident // THREADS_PER_BLOCK)
        elif count > MAX_PORTABLE_NUMBERS:
            raise InputError(
                f"noise 'cuda' of {count} numbers for one image depends on the GPU; give the number of its resident"
                f" threads (multi_processor_count * max_threads_per_multi_processor of torch's device properties), as"
                f" in noise 'cuda:270336'; up to {MAX_PORTABLE_NUMBERS} numbers are the same on every GPU",
                code="request.noise",
            )
        threads = blocks * THREADS_PER_BLOCK
        rounds = -(-count // (threads * NUMBERS_PER_THREAD))
        values = np.concatenate([self._round(self._offset + index, threads) for index in range(rounds)])
        self._offset += rounds
        return values[:count].astype(np.float32).reshape(shape)

    def _round(self, offset: int, threads: int) -> np.ndarray:
        """Draw four numbers of each thread: all first ones, then all second ones, …: float64 (4 * threads,)."""
        counters = np.zeros((threads, 4), np.uint32)
        counters[:, 0] = offset
        counters[:, 2] = np.arange(threads)
        words = philox4x32(counters, self._key).astype(np.float64)
        uniform = words[:, 0::2] * 2.0**-32 + 2.0**-33
        angle = (words[:, 1::2] * 2.0**-32 + 2.0**-33) * 2.0 * math.pi
        radius = np.sqrt(-2.0 * np.log(uniform))
        pairs = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=2)  # (threads, 2 pairs, 2)
        return pairs.reshape(threads, NUMBERS_PER_THREAD).T.reshape(-1)
