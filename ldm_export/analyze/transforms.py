"""What is done to images, and the same on the grid of their latents."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Transform:
    """A change of images (N, 3, H, W) in [-1, 1].

    on_latents: the same on latents (N, C, h, w); None where there is none. exact: cells go to whole places, without
    interpolation.
    """

    name: str
    on_images: Callable[[np.ndarray], np.ndarray]
    on_latents: Callable[[np.ndarray], np.ndarray] | None = None
    exact: bool = False


NOISE = 0.1  # deviation, of a range of 2


def transforms(downsample: int, is_square: bool, random: np.random.Generator) -> list[Transform]:
    """Return the changes that are measured, of images with `downsample` pixels a cell along a side."""

    def noisy(images: np.ndarray) -> np.ndarray:
        return np.clip(images + NOISE * random.standard_normal(images.shape), -1, 1)

    shifts = sorted({1, 2, max(1, downsample // 2), downsample, 2 * downsample})
    quarter = [_both("turned by 90 degrees", lambda arrays: np.rot90(arrays, axes=(2, 3)), exact=True)]
    return [
        *(_shift(pixels, downsample) for pixels in shifts),
        _both("turned by 5 degrees", lambda arrays: turned(arrays, 5)),
        _both("turned by 15 degrees", lambda arrays: turned(arrays, 15)),
        *(quarter if is_square else []),
        _both("flipped left to right", lambda arrays: arrays[..., ::-1], exact=True),
        _both("flipped upside down", lambda arrays: arrays[..., ::-1, :], exact=True),
        Transform("10 % darker", lambda images: 0.9 * (images + 1) - 1),
        Transform("noise, 5 % of the range", noisy),
    ]


def shifted(arrays: np.ndarray, right: float) -> np.ndarray:
    """Shift arrays (N, C, H, W) to the right, with the edge repeated; linear between places."""
    return np.asarray(ndimage.shift(arrays, (0, 0, 0, right), order=1, mode="nearest"))


def turned(arrays: np.ndarray, degrees: float) -> np.ndarray:
    """Turn arrays (N, C, H, W) around the middle, counter-clockwise, with the edge repeated; linear between places."""
    return np.asarray(ndimage.rotate(arrays, degrees, axes=(2, 3), reshape=False, order=1, mode="nearest"))


def _shift(pixels: int, downsample: int) -> Transform:
    unit = "pixel" if pixels == 1 else "pixels"
    return Transform(
        f"shifted by {pixels} {unit}",
        lambda images: shifted(images, pixels),
        lambda latents: shifted(latents, pixels / downsample),
        exact=pixels % downsample == 0,
    )


def _both(name: str, change: Callable[[np.ndarray], np.ndarray], *, exact: bool = False) -> Transform:
    return Transform(name, change, change, exact)
