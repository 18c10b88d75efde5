"""Philox noise of a batch whose seeds count up, for tests."""

import numpy as np

from ldm_runtime.noise import Noise
from ldm_runtime.noise.philox import batch_seeds


def initial_noise(seed: int, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """float32 (count, *shape)."""
    return Noise("philox", batch_seeds(seed, count), shape).initial()


def row_noise(seed: int, count: int, row: int, shape: tuple[int, ...]) -> np.ndarray:
    """What a plan's row adds: float32 (count, *shape)."""
    return Noise("philox", batch_seeds(seed, count), shape).row(row)
