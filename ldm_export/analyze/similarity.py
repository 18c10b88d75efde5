"""How like two images are: errors, SSIM (Wang et al. 2004), MS-SSIM (Wang, Simoncelli and Bovik 2003) by torchmetrics.

All take uint8 images (N, H, W, 3) and give a value for each pair, float64 (N,).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ldm_export.verify import metrics

PEAK = 255.0
WINDOW = 11  # pixels along a side, Gaussian of 1.5
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM's scales, finest first
BLOCK = 16


def squared_errors(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each pair, in squared grey levels."""
    pairs = zip(images, others, strict=True)  # one by one: images as floats take eight times their memory
    return np.array([np.square(one.astype(np.float64) - other).mean() for one, other in pairs])


def ssim(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each pair: 1 where they are equal."""
    pairs = zip(images.transpose(0, 3, 1, 2), others.transpose(0, 3, 1, 2), strict=True)
    return np.array([metrics.ssim(other, image, PEAK) for image, other in pairs])


def ms_ssim(images: np.ndarray, others: np.ndarray, scales: int) -> np.ndarray:
    """Return the similarity over several scales of each pair; the weights of fewer than five sum to 1 again.

    Unlike `ssim`, windows at the border see the image mirrored.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure

    weights = tuple(weight / sum(WEIGHTS[:scales]) for weight in WEIGHTS[:scales])
    return _by_block(partial(measure, data_range=PEAK, reduction="none", betas=weights), images, others)


def scales_that_fit(width: int, height: int) -> int:
    """Return in how many scales the window fits: 5 from 176 pixels on."""
    side = min(width, height)
    return sum(side // 2**scale >= WINDOW for scale in range(len(WEIGHTS)))


def _by_block(measure: Callable[..., Tensor], images: np.ndarray, others: np.ndarray) -> np.ndarray:
    parts = [
        measure(_pixels(others[start : start + BLOCK]), _pixels(images[start : start + BLOCK])).reshape(-1).numpy()
        for start in range(0, len(images), BLOCK)
    ]
    return np.concatenate(parts).astype(np.float64)


def _pixels(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32))
