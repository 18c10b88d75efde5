"""The metrics against hand-made values, brute force, and scikit-image's figures."""

import math

import numpy as np
import pytest

from ldm_export.verify import metrics


def test_relative_rms_of_a_scaled_array_is_the_scale_error():
    reference = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    assert metrics.relative_rms(reference.astype(np.float64) * 1.01, reference) == pytest.approx(0.01)
    assert metrics.relative_rms(reference, reference) == 0


def test_differences_below_float32_resolution_of_the_sum_are_seen():
    reference = np.full(10_000, 1000.0)
    value = reference.copy()
    value[0] += 1e-9
    assert metrics.max_abs(value, reference) == pytest.approx(1e-9, rel=1e-3)
    assert metrics.relative_rms(value, reference) == pytest.approx(1e-14, rel=1e-3)


def test_a_zero_reference_gives_infinity_unless_the_value_is_zero_too():
    zero = np.zeros(3)
    assert metrics.relative_rms(zero, zero) == 0
    assert metrics.relative_rms(np.ones(3), zero) == math.inf


def test_nan_is_never_a_small_difference():
    value = np.array([1.0, math.nan])
    assert math.isnan(metrics.max_abs(value, np.ones(2)))
    assert math.isnan(metrics.relative_rms(value, np.ones(2)))
    assert math.isnan(metrics.relative_rms(value, np.zeros(2)))
    assert math.isnan(metrics.psnr(value, np.array([0.0, 1.0])))


def test_psnr_follows_its_definition():
    reference = np.array([0.0, 1.0, 0.5, 0.25])
    assert metrics.psnr(reference + 0.1, reference) == pytest.approx(20)
    assert metrics.psnr(reference + 0.1, reference, peak=10) == pytest.approx(40)
    assert metrics.psnr(reference, reference) == math.inf
    assert metrics.psnr(np.ones(3), np.zeros(3)) == -math.inf


def test_one_wrong_sample_is_not_diluted_by_the_others():
    reference = np.random.default_rng(0).normal(size=(100, 8))
    value = reference.copy()
    value[7] *= 1.5
    found = metrics.difference(value, reference)
    assert found.relative_rms == pytest.approx(0.5)
    assert metrics.lowest_psnr(value, reference) < 20
    assert metrics.relative_rms(value, reference) < 0.1


def test_differing_shapes_and_empty_arrays_are_refused():
    with pytest.raises(ValueError, match="shape"):
        metrics.max_abs(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="no sample"):
        metrics.difference(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="no sample"):
        metrics.lowest_psnr(np.zeros((0, 3)), np.zeros((0, 3)))


def brute_force_ssim(x: np.ndarray, y: np.ndarray, peak: float) -> float:
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for channel in range(x.shape[0]):
        for row in range(x.shape[1] - 10):
            for column in range(x.shape[2] - 10):
                a = x[channel, row : row + 11, column : column + 11]
                b = y[channel, row : row + 11, column : column + 11]
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
                c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
                luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
                values.append(luminance * (2 * covariance + c2) / (var_a + var_b + c2))
    return float(np.mean(values))


def test_ssim_equals_its_definition_written_out():
    random = np.random.default_rng(3)
    reference = random.uniform(0, 255, (3, 16, 20))
    value = reference + random.normal(0, 20, reference.shape)
    assert metrics.ssim(value, reference, 255) == pytest.approx(brute_force_ssim(value, reference, 255), abs=1e-12)
    assert metrics.ssim(reference, reference, 255) == pytest.approx(1)


def test_ssim_equals_scikit_image():
    # structural_similarity(x, y, data_range=1, channel_axis=0, gaussian_weights=True, sigma=1.5,
    # use_sample_covariance=False) of scikit-image 0.26 gave this figure for these arrays.
    rows, columns = np.mgrid[0:24, 0:32]
    reference = np.stack([rows / 24, columns / 32, (rows + columns) % 7 / 7])
    value = np.clip(reference + 0.1 * np.sin(rows * columns), 0, 1)
    assert metrics.ssim(value, reference, 1.0) == pytest.approx(0.7123387918608491, abs=1e-9)


def test_ssim_of_an_image_smaller_than_the_window_is_defined():
    small = np.random.default_rng(0).uniform(size=(3, 8, 8))
    assert metrics.ssim(small, small, 1.0) == pytest.approx(1)
    assert metrics.ssim(1 - small, small, 1.0) < 0.5
