"""Images to latents and back by a pipeline, in blocks."""

import numpy as np
from PIL import Image

from ldm_export.analyze.study import levels
from ldm_runtime.package.manifest import LatentSpec
from ldm_runtime.pipeline import Pipeline

BLOCK = 16


def encoded(pipe: Pipeline, space: LatentSpec, images: np.ndarray) -> np.ndarray:
    """Return the means of the latents of images (N, 3, H, W) in [-1, 1], as the denoiser has them: (N, C, h, w)."""
    pictures = [Image.fromarray(each) for each in levels(images)]
    parts = [pipe.encode(pictures[start : start + BLOCK]) for start in range(0, len(pictures), BLOCK)]
    return np.asarray(space.scaled(np.concatenate(parts)[:, : space.channels]), np.float32)


def decoded(pipe: Pipeline, latents: np.ndarray) -> np.ndarray:
    """Return the images of latents (N, C, h, w): (N, 3, H, W) around [-1, 1]."""
    whole = np.array(latents, np.float32, order="C")  # a copy: one cell that is flipped keeps its negative strides
    return np.concatenate([pipe.decode_array(whole[at : at + BLOCK]) for at in range(0, len(whole), BLOCK)])
