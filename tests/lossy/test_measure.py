"""The error of runs is that of the worst, of bytes, after each evaluation."""

import numpy as np

from ldm_export.lossy.measure import Runs, compare_runs
from ldm_export.verify import metrics
from tests.optimise.graphs import normal


def runs(evaluations: int = 3, *, image: np.ndarray | None = None, noise: float = 0.0) -> Runs:
    latents = tuple(normal(evaluations, 4, 8, 8, seed=seed) for seed in (1, 2))
    latents = tuple(each * np.float32(1 + noise * np.arange(1, 1 + len(each)))[:, None, None, None] for each in latents)
    images = np.random.default_rng(3).integers(0, 256, (2, 16, 16, 3), np.uint8)
    if image is not None:
        images[1] = image
    return Runs(latents, images, (1.0, 1.0))


def ssim_of(exact: np.ndarray, other: np.ndarray) -> float:
    """Of bytes (H, W, 3)."""
    return metrics.ssim(other.transpose(2, 0, 1), exact.transpose(2, 0, 1), 255)


def test_the_worst_image_counts_in_bytes() -> None:
    exact = runs()
    changed = exact.images[1] // 2
    found = compare_runs(exact, runs(image=changed))
    assert found.worst == 1
    assert found.psnr is not None
    error = np.mean((exact.images[1].astype(np.float64) - changed) ** 2)
    np.testing.assert_allclose(found.psnr, 10 * np.log10(255**2 / error))
    assert found.ssim == min(ssim_of(*pair) for pair in zip(exact.images, [exact.images[0], changed], strict=True)) < 1


def test_equal_runs_have_no_psnr() -> None:
    found = compare_runs(runs(), runs())
    assert found.psnr is None and found.ssim == 1.0 and found.latents == (0.0, 0.0, 0.0)


def test_the_drift_is_that_after_each_evaluation() -> None:
    np.testing.assert_allclose(compare_runs(runs(), runs(noise=0.01)).latents, (0.01, 0.02, 0.03), rtol=1e-4)


def test_of_runs_with_other_numbers_of_evaluations_the_last_latents_are_compared() -> None:
    assert len(compare_runs(runs(3), runs(2)).latents) == 1
