"""A study of a linear autoencoder, about which everything is known: orthonormal, with noise that a test chooses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ldm_export.analyze.features import Extractor
from ldm_export.analyze.pictures import Pictures
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import Codec, Subject
from ldm_runtime.package.manifest import LatentSpec

CELL, CHANNELS = 4, 3
GAIN = CELL  # of the decoder: a latent of 1 is a pixel unit in every pixel of the cell, whose norm is CELL


class LinearSubject:
    """Latents are the mean colours of squares of pixels; the posterior's standard deviation is the same everywhere."""

    def __init__(self, deviation: float | None = 0.1, scale: float = 1.0) -> None:
        self.deviation = deviation
        space = LatentSpec(CHANNELS, CELL, scale, 0.0)
        self.contract = SimpleNamespace(latent=space, encodes_moments=deviation is not None)
        self.pipe = SimpleNamespace(encode=self._encode_images, decode_array=self._decode_array)
        self.codec = Codec(self._encode, self._decode, CHANNELS, CELL)

    def _encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.nn.functional.avg_pool2d(pixels, CELL) * float(self.contract.latent.scale)
        return mean, torch.full_like(mean, self.deviation or 0.0)

    def _decode(self, latents: Tensor) -> Tensor:
        unscaled = latents / float(self.contract.latent.scale)
        return unscaled.repeat_interleave(CELL, dim=2).repeat_interleave(CELL, dim=3)

    def _encode_images(self, images: list[Any]) -> np.ndarray:
        levels = np.stack([np.asarray(each, np.float32) for each in images]).transpose(0, 3, 1, 2)
        mean = torch.nn.functional.avg_pool2d(torch.from_numpy(levels / 127.5 - 1), CELL).numpy()
        if self.deviation is None:
            return mean
        return np.concatenate([mean, np.full_like(mean, 2 * np.log(self.deviation))], axis=1)

    def _decode_array(self, latents: np.ndarray) -> np.ndarray:
        return np.asarray(self._decode(torch.from_numpy(np.asarray(latents, np.float32))))


def draw_levels(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Draw images of independent Gaussian squares, a deviation of 1/4 of the range, and some noise, uint8."""
    random = np.random.default_rng(seed)
    squares = random.normal(128, 32, (count, side // CELL, side // CELL, 3))
    pixels = squares.repeat(CELL, axis=1).repeat(CELL, axis=2) + random.normal(0, 4, (count, side, side, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def make_study(folder: Path, levels: np.ndarray, subject: LinearSubject, **facts: Any) -> Study:
    """Return a quick study of images, uint8 (N, H, W, 3); facts: further fields of its Pictures."""
    count = len(levels)
    known: dict[str, Any] = {"captions": (), "backgrounds": ("",) * count, "alpha": None} | facts
    pictures = Pictures(folder=folder, pixels=levels, files=("",) * count, available=count, cropped=0, **known)
    extractor = Extractor("mean colour", lambda images: images.mean(axis=(1, 2), dtype=np.float32) / 127.5 - 1)
    folder.mkdir(parents=True, exist_ok=True)
    return Study(cast(Subject, subject), pictures, extractor, 0, True, folder, lambda text: None)
