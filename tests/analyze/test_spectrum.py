"""Ranks of known spectra, with fewer points than dimensions too."""

import numpy as np
import pytest

from ldm_export.analyze.spectrum import covariance_spectrum, effective_rank, participation_ratio


def test_the_effective_rank_of_equal_eigenvalues_is_their_number() -> None:
    assert effective_rank(np.array([2.0] * 7 + [0.0] * 5)) == pytest.approx(7)
    assert effective_rank(np.array([1.0, 1e-9])) == pytest.approx(1, abs=1e-6)


def test_a_spectrum_is_that_of_numpy_s_covariance() -> None:
    points = np.random.default_rng(0).normal(size=(30, 5)) * np.arange(1, 6)
    assert covariance_spectrum(points) == pytest.approx(np.linalg.eigvalsh(np.cov(points.T))[::-1])


def test_the_participation_ratio_has_no_bias_with_few_points_and_that_of_a_sample_covariance_has() -> None:
    deviations = np.sqrt(np.array([10.0] * 5 + [1.0] * 200))
    truth = (deviations**2).sum() ** 2 / (deviations**4).sum()  # 89
    random = np.random.default_rng(1)
    drawn = [random.normal(size=(60, 205)) * deviations + 3 for _ in range(40)]
    estimates = [participation_ratio(each) for each in drawn]
    assert np.mean(estimates) == pytest.approx(truth, abs=3 * np.std(estimates) / np.sqrt(40) + 2)
    plain = [covariance_spectrum(each).sum() ** 2 / (covariance_spectrum(each) ** 2).sum() for each in drawn]
    assert np.mean(plain) < 0.6 * truth


def test_the_participation_ratio_of_points_that_are_no_gaussian() -> None:
    random = np.random.default_rng(2)
    estimates = [participation_ratio(random.choice([-1.0, 1.0], (40, 100))) for _ in range(40)]
    assert np.mean(estimates) == pytest.approx(100, rel=0.05)
