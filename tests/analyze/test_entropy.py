"""Entropies of distributions whose entropy is known."""

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import digamma

from ldm_export.analyze.entropy import (
    gaussian_entropy,
    log_determinant_bias,
    neighbour_entropy,
    neighbour_error,
)
from ldm_export.analyze.statistics import groups_of, jackknife


@pytest.mark.parametrize(("dimensions", "tolerance"), [(1, 0.1), (4, 0.15), (8, 0.5)])
def test_a_gaussian(dimensions: int, tolerance: float) -> None:
    random = np.random.default_rng(dimensions)
    points = 3 * random.standard_normal((1000, dimensions))
    exact = 0.5 * dimensions * math.log(2 * math.pi * math.e * 9)
    assert gaussian_entropy(points) == pytest.approx(exact, abs=0.1)
    assert neighbour_entropy(points) == pytest.approx(exact, abs=tolerance)
    assert abs(neighbour_error(1000, dimensions, random, 4)[0]) < tolerance


@pytest.mark.parametrize(("count", "dimensions"), [(12, 1), (12, 4), (20, 8)])
def test_few_points_of_a_gaussian_have_its_entropy_on_average_and_without_the_correction_less(
    count: int, dimensions: int
) -> None:
    random, mixing = np.random.default_rng(0), np.tril(np.ones((dimensions, dimensions)))
    exact = 0.5 * dimensions * math.log(2 * math.pi * math.e)  # the mixing has a determinant of 1
    found = [gaussian_entropy(random.standard_normal((count, dimensions)) @ mixing) for _ in range(2000)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - exact) < 3 * error
    plugged_in = np.mean(found) + log_determinant_bias(count, dimensions) / 2
    assert plugged_in < exact - 6 * error, "the negative twin"


def test_the_error_by_neighbours_is_that_of_any_gaussian_and_without_whitening_of_none() -> None:
    random = np.random.default_rng(1)
    widths = np.array([1.0, 1.0, 0.1, 0.01])
    exact = 0.5 * 4 * math.log(2 * math.pi * math.e) + np.log(widths).sum()
    points = random.standard_normal((200, 40, 4)) * widths
    off = np.array([neighbour_entropy(each) - exact for each in points])
    bias, uncertain = neighbour_error(40, 4, random, 100)
    assert bias == pytest.approx(off.mean(), abs=3 * math.hypot(uncertain, off.std() / math.sqrt(len(off))))
    assert uncertain == pytest.approx(off.std() / 10, rel=0.4)
    plain = [without_whitening(each) - exact for each in points]
    assert np.mean(plain) > bias + 1, "the negative twin"


def without_whitening(points: np.ndarray) -> float:
    distance = cKDTree(points).query(points, k=5)[0][:, -1]
    ball = math.log(math.pi**2 / 2)  # of four dimensions
    return float(digamma(len(points)) - digamma(4) + ball + 4 * np.log(distance).mean())


def test_the_gap_of_both_entropies_holds_nothing_for_a_gaussian_and_not_for_clusters() -> None:
    random, held, seen = np.random.default_rng(2), 0, 0
    bias, _ = neighbour_error(100, 2, random)
    for _ in range(60):
        gaussian = random.standard_normal((100, 2))
        clusters = np.concatenate([random.normal(side, 0.2, (50, 2)) for side in (-1, 1)])
        lows = []
        for points in (gaussian, clusters):

            def gap(kept: np.ndarray, points: np.ndarray = points) -> np.ndarray:
                return np.array([gaussian_entropy(points[kept]) - neighbour_entropy(points[kept]) + bias])

            _, (low,), (high,) = jackknife(groups_of(100, random), gap)
            lows.append((low, high))
        held += lows[0][0] <= 0 <= lows[0][1]
        seen += lows[1][0] > 0.3
    assert held >= 53 and seen >= 57


def test_a_bootstrap_of_the_points_would_have_no_entropy_by_neighbours() -> None:
    """Why the interval is the jackknife's: points that come several times have no distance."""
    random = np.random.default_rng(3)
    points = random.standard_normal((40, 1))
    found = [neighbour_entropy(points[random.integers(0, 40, 40)]) for _ in range(60)]
    assert -math.inf in found


def test_what_is_no_gaussian_has_less_than_the_gaussian_with_its_covariance() -> None:
    random = np.random.default_rng(0)
    uniform = random.uniform(0, 2, (2000, 1))
    assert neighbour_entropy(uniform) == pytest.approx(math.log(2), abs=0.06)
    assert gaussian_entropy(uniform) == pytest.approx(0.5 * math.log(2 * math.pi * math.e / 3), abs=0.05)
    clusters = np.concatenate([random.normal(side, 0.05, (500, 2)) for side in (-1, 1)])
    assert gaussian_entropy(clusters) - neighbour_entropy(clusters) > 1.5


def test_points_that_coincide_have_no_density() -> None:
    points = np.repeat(np.random.default_rng(0).normal(size=(20, 2)), 6, axis=0)
    assert neighbour_entropy(points) == -math.inf


def test_a_direction_that_does_not_vary_has_no_density() -> None:
    points = np.stack([np.arange(10.0), np.zeros(10)], axis=1)
    assert gaussian_entropy(points) == -math.inf
    points = np.random.default_rng(0).normal(size=(30, 2)) @ np.array([[1, 0.1, 0.7], [0.3, 1, 2.3]])
    assert gaussian_entropy(points) == -math.inf and neighbour_entropy(points) == -math.inf


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at most 8 dimensions"):
        neighbour_entropy(np.zeros((100, 9)))
    with pytest.raises(ValueError, match="8 points in 8 dimensions"):
        neighbour_entropy(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="full rank"):
        gaussian_entropy(np.zeros((5, 5)))
