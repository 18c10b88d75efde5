"""The perceptual distance of pairs of images, beside that of different images. It is not LPIPS: see the network."""

from pathlib import Path

import numpy as np
import torch

from ldm_export.train.perceptual import PerceptualDistance

WEIGHTS = "vgg16.safetensors"  # in the folder of images
BLOCK = 4


def perceptual_distances(weights: Path, images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distance of each image from its other, and from another image: float64 (N, 2).

    images, others: (N, 3, H, W) in [-1, 1]; N is at least 2. Raises TrainingError for weights that are damaged.
    """
    network = PerceptualDistance(weights)
    with torch.inference_mode():
        parts = [
            _of_block(network, *(torch.from_numpy(_block(each, start)) for each in (images, others)))
            for start in range(0, len(images), BLOCK)
        ]
    return np.concatenate(parts)[: len(images)]


def _block(images: np.ndarray, start: int) -> np.ndarray:
    """Return some images, two at least: the first one follows the last."""
    places = np.arange(start, min(start + BLOCK, len(images)))
    if len(places) == 1:
        places = np.array([start, 0])
    return np.ascontiguousarray(images[places], np.float32)


def _of_block(network: PerceptualDistance, images: torch.Tensor, others: torch.Tensor) -> np.ndarray:
    distances = [
        torch.stack([(one - each).square().sum(dim=1).mean(dim=(1, 2)) for each in (other, one.roll(1, dims=0))], dim=1)
        for one, other in zip(network.features(images), network.features(others), strict=True)
    ]
    return torch.stack(distances).mean(dim=0).double().numpy()
