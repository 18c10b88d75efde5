"""A study of an autoencoder that is linear and known, in place of a trained one."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm_export.analyze.features import Extractor
from ldm_export.analyze.pictures import Pictures
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import Codec
from ldm_runtime.package.manifest import LatentSpec

Map = Callable[[Tensor], Tensor]
CELL = 4  # pixels along a side
SIDE = 32


def mean_of_cell(pixels: Tensor) -> Tensor:
    """Latents are the mean colour of each cell."""
    return torch.nn.functional.avg_pool2d(pixels, CELL)


def fill_cell(latents: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(latents, scale_factor=CELL, mode="nearest")


def all_of_cell(pixels: Tensor) -> Tensor:
    """Latents are the pixels themselves, those of a cell as its channels."""
    return torch.nn.functional.pixel_unshuffle(pixels, CELL)


def spread_cell(latents: Tensor) -> Tensor:
    return torch.nn.functional.pixel_shuffle(latents, CELL)


def study_of(
    encode: Map, decode: Map, folder: Path, *, count: int = 24, seed: int = 0, quick: bool = True, cell: int = CELL
) -> Study:
    """A study of that autoencoder on smooth random images, with pixels as features."""
    channels = encode(torch.zeros(1, 3, SIDE, SIDE)).shape[1]

    def encode_images(images: list[Any]) -> np.ndarray:
        levels = np.stack([np.asarray(each) for each in images]).transpose(0, 3, 1, 2)
        mean = encode(torch.from_numpy(levels.astype(np.float32) / 127.5 - 1))
        return torch.cat([mean, torch.full_like(mean, -10)], dim=1).numpy()

    subject = SimpleNamespace(
        codec=Codec(lambda pixels: (encode(pixels), torch.zeros(1)), decode, channels, cell),
        pipe=SimpleNamespace(
            encode=encode_images, decode_array=lambda latents: decode(torch.from_numpy(latents)).numpy()
        ),
        contract=SimpleNamespace(latent=LatentSpec(channels, cell, 1.0, 0.0)),
        size=(SIDE, SIDE),
    )
    extractor = Extractor("pixels", lambda images: images.reshape(len(images), -1).astype(np.float32))
    return Study(subject, pictures(count, seed), extractor, 0, quick, folder, lambda text: None)  # type: ignore[arg-type]


def pictures(count: int, seed: int = 0) -> Pictures:
    """Images of random waves, which are smooth and not symmetric."""
    random = np.random.default_rng(seed)
    along = np.linspace(0, 2 * np.pi, SIDE, endpoint=False)
    waves = sum(
        random.uniform(-1, 1, (count, 1, 1, 3))
        * np.sin(kx * along[:, None, None] + ky * along[None, :, None] + random.uniform(0, 6, (count, 1, 1, 3)))
        for kx in range(3)
        for ky in range(-2, 3)
    )
    pixels = np.clip(128 + 25 * waves, 0, 255).astype(np.uint8)
    names = tuple(f"{place}.png" for place in range(count))
    return Pictures(Path("waves"), pixels, None, (), names, ("",) * count, count, 0)
