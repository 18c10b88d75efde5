"""Transforms do to the grid of latents what they do to images."""

import numpy as np
import pytest
from scipy import ndimage

from ldm_export.analyze.transforms import shifted, transforms, turned

CELL = 4


def smooth(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((2, 3, 32, 32))
    return 10 * ndimage.gaussian_filter(noise, (0, 0, 5, 5))


def pooled(images: np.ndarray) -> np.ndarray:
    count, channels, height, width = images.shape
    return images.reshape(count, channels, height // CELL, CELL, width // CELL, CELL).mean(axis=(3, 5))


def changes(is_square: bool = True):
    return transforms(CELL, is_square, np.random.default_rng(0))


@pytest.mark.parametrize("transform", [each for each in changes() if each.exact], ids=lambda each: each.name)
def test_exact_transforms_commute_with_the_mean_of_cells(transform):
    images = smooth()
    moved, twin = pooled(transform.on_images(images)), transform.on_latents(pooled(images))
    assert np.allclose(moved[..., 2:], twin[..., 2:], atol=1e-6)  # a shift repeats the edge: of pixels, or of cells


@pytest.mark.parametrize(
    "transform", [each for each in changes() if each.on_latents and not each.exact], ids=lambda each: each.name
)
def test_the_others_nearly_do_in_the_middle(transform):
    images = smooth()
    moved, twin = pooled(transform.on_images(images)), transform.on_latents(pooled(images))
    inside = (..., slice(2, -2), slice(2, -2))
    error = np.sqrt(np.mean((moved - twin)[inside] ** 2))
    assert error < 0.5 * np.sqrt(np.mean((moved - pooled(images))[inside] ** 2))


def test_shift_goes_right_and_repeats_the_edge():
    row = np.arange(5.0).reshape(1, 1, 1, 5)
    assert shifted(row, 2)[0, 0, 0].tolist() == [0, 0, 0, 1, 2]
    assert np.allclose(shifted(row, 0.5)[0, 0, 0], [0, 0.5, 1.5, 2.5, 3.5])


def test_turning_by_90_degrees_is_the_exact_quarter():
    images = smooth()
    assert np.allclose(turned(images, 90), np.rot90(images, axes=(2, 3)), atol=1e-6)


def test_images_that_are_not_square_are_not_turned_by_quarters():
    names = [each.name for each in changes(is_square=False)]
    assert len(names) == len(changes()) - 1 and "turned by 90 degrees" not in names


def test_transforms_stay_in_the_range_and_change_every_image():
    images = np.clip(smooth(), -1, 1)
    for transform in changes():
        changed = transform.on_images(images)
        assert np.abs(changed).max() <= 1 + 1e-6 and np.abs(changed - images).max() > 0.01, transform.name
