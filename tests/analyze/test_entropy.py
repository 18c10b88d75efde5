"""Entropies of distributions whose entropy is known."""

import math

import numpy as np
import pytest

from ldm_export.analyze.entropy import gaussian_entropy, neighbour_entropy, neighbour_error, principal_components


@pytest.mark.parametrize(("dimensions", "tolerance"), [(1, 0.1), (4, 0.15), (8, 0.5)])
def test_a_gaussian(dimensions: int, tolerance: float) -> None:
    random = np.random.default_rng(dimensions)
    points = 3 * random.standard_normal((1000, dimensions))
    exact = 0.5 * dimensions * math.log(2 * math.pi * math.e * 9)
    assert gaussian_entropy(points) == pytest.approx(exact, abs=0.1)
    assert neighbour_entropy(points) == pytest.approx(exact, abs=tolerance)
    assert abs(neighbour_error(points, random)) < tolerance


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


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at most 8 dimensions"):
        neighbour_entropy(np.zeros((100, 9)))
    with pytest.raises(ValueError, match="full rank"):
        gaussian_entropy(np.zeros((5, 5)))


def test_principal_components_of_fewer_points_than_dimensions() -> None:
    random = np.random.default_rng(1)
    direction = random.normal(size=300)
    position = random.normal(size=40)
    points = position[:, None] * direction + 0.01 * random.normal(size=(40, 300))
    (first,) = principal_components(points, 1).T
    assert abs(np.corrcoef(first, position)[0, 1]) > 0.999
    assert np.std(first) == pytest.approx(np.std(position) * np.linalg.norm(direction), rel=0.01)
