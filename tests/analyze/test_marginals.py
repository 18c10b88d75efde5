"""Distances of known distributions from normal ones."""

import numpy as np
import pytest
from scipy import optimize, stats

from ldm_export.analyze.marginals import distance_to_normal, distribution_samples, thresholds


def distance(values: np.ndarray, standard: bool = False) -> float:
    at = thresholds(values)
    return distance_to_normal(distribution_samples(values, at), at, standard)


def test_normal_values_are_near_their_normal_and_as_far_from_the_standard_one_as_their_mean() -> None:
    values = np.random.default_rng(0).normal(1.0, 1.0, (200, 500))
    assert distance(values) < 0.005
    assert distance(values, standard=True) == pytest.approx(2 * stats.norm.cdf(0.5) - 1, abs=0.01)


def test_values_that_are_no_normal() -> None:
    values = np.random.default_rng(1).exponential(1.0, (200, 500))
    found = optimize.minimize_scalar(
        lambda t: -abs(stats.expon.cdf(t) - stats.norm.cdf(t - 1)), bounds=(0, 1), method="bounded"
    )
    exact = max(-found.fun, stats.norm.cdf(-1.0))
    assert distance(values) == pytest.approx(exact, abs=0.01)


def test_it_is_scipy_s_distance() -> None:
    values = np.random.default_rng(2).uniform(-1, 1, (50, 400))
    exact = stats.kstest(values.ravel(), "norm").statistic
    assert distance(values, standard=True) == pytest.approx(exact, abs=0.01)


def test_constant_values() -> None:
    assert 0.4 < distance(np.full((5, 4), 2.0)) <= 0.5
