"""Similarity of images: equal ones, damaged ones, and sizes that are too small."""

import tracemalloc

import numpy as np
import pytest

from ldm_export.analyze.similarity import ms_ssim, scales_that_fit, squared_errors, ssim
from ldm_export.verify import metrics

RANDOM = np.random.default_rng(0)
IMAGES = np.clip(np.cumsum(RANDOM.normal(0, 9, (3, 64, 64, 3)), axis=1) + 128, 0, 255).astype(np.uint8)


def noisy(deviation: float) -> np.ndarray:
    return np.clip(IMAGES + np.random.default_rng(1).normal(0, deviation, IMAGES.shape), 0, 255).astype(np.uint8)


def test_equal_images() -> None:
    assert (squared_errors(IMAGES, IMAGES) == 0).all()
    assert ssim(IMAGES, IMAGES) == pytest.approx(np.ones(3)) and ms_ssim(IMAGES, IMAGES, 3) == pytest.approx(np.ones(3))


def test_the_error_of_an_offset() -> None:
    flat = np.full((1, 16, 16, 3), 100, np.uint8)
    assert squared_errors(flat, flat + 7) == pytest.approx([49])
    assert squared_errors(flat + 7, flat) == pytest.approx([49]), "bytes do not wrap around"


def test_the_errors_of_many_pairs_take_the_memory_of_one() -> None:
    images = np.broadcast_to(IMAGES[:1], (200, 64, 64, 3))
    tracemalloc.start()
    assert squared_errors(images, images[::-1]).shape == (200,)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * IMAGES[0].size * 8


@pytest.mark.parametrize("measure", [ssim, lambda images, others: ms_ssim(images, others, 3)])
def test_more_noise_is_less_alike(measure) -> None:
    little, much = measure(IMAGES, noisy(5)), measure(IMAGES, noisy(40))
    assert little.shape == (3,) and (much < little - 0.05).all() and (little < 1).all()


def test_ssim_is_the_gates() -> None:
    expected = metrics.ssim(noisy(20)[1].transpose(2, 0, 1), IMAGES[1].transpose(2, 0, 1), 255)
    assert ssim(IMAGES, noisy(20))[1] == pytest.approx(expected)


def test_ms_ssim_forgives_fine_noise_more_than_ssim_does() -> None:
    """Coarser scales average it away."""
    assert (ms_ssim(IMAGES, noisy(20), 3) > ssim(IMAGES, noisy(20)) + 0.02).all()


@pytest.mark.parametrize(
    ("size", "scales"), [((176, 400), 5), ((175, 400), 4), ((128, 128), 4), ((22, 22), 2), ((21, 40), 1), ((10, 40), 0)]
)
def test_the_scales_in_which_the_window_fits(size: tuple[int, int], scales: int) -> None:
    assert scales_that_fit(*size) == scales
    if scales > 1:
        images = np.random.default_rng(0).integers(0, 256, (1, size[1], size[0], 3), np.uint8)
        assert np.isfinite(ms_ssim(images, images[:, ::-1], scales)).all()
