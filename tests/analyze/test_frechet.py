"""The Fréchet distance against its closed form, a matrix root, and torchmetrics."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from ldm_export.analyze.frechet import frechet_distance, main_directions


def rows_with(mean, covariance, count, seed):
    """Rows whose sample mean and sample covariance are exactly these."""
    white = np.random.default_rng(seed).standard_normal((count, len(mean)))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def random_covariance(width, seed):
    root = np.random.default_rng(seed).standard_normal((width, width))
    return root @ root.T + 0.1 * np.eye(width)


def test_the_frechet_distance_of_diagonal_gaussians_has_its_closed_form():
    first = rows_with(np.zeros(3), np.diag([1.0, 4.0, 9.0]), 50, seed=1)
    second = rows_with(np.array([1.0, 2.0, 2.0]), np.diag([4.0, 4.0, 1.0]), 40, seed=2)
    assert frechet_distance(first, second) == pytest.approx(9.0 + 1.0 + 0.0 + 4.0)


def test_the_frechet_distance_agrees_with_a_matrix_root():
    covariances = random_covariance(5, 1), random_covariance(5, 2)
    first = rows_with(np.zeros(5), covariances[0], 30, seed=3)
    second = rows_with(np.full(5, 0.5), covariances[1], 20, seed=4)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = 5 * 0.25 + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_equal_sets_have_no_frechet_distance_even_with_fewer_rows_than_features():
    rows = np.random.default_rng(0).standard_normal((10, 64)).astype(np.float32)
    assert frechet_distance(rows, rows[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(rows, rows + 1) == pytest.approx(64, rel=1e-6)


def test_one_row_has_no_covariance():
    with pytest.raises(ValueError, match="two rows"):
        frechet_distance(np.zeros((1, 4)), np.zeros((5, 4)))


class Pixels(torch.nn.Module):
    """Features are the images themselves."""

    num_features = 6

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_the_frechet_distance_agrees_with_torchmetrics():
    random = np.random.default_rng(0)
    first, second = random.normal(0, 1, (40, 6)), random.normal(0.3, 2, (30, 6))
    oracle = FrechetInceptionDistance(feature=Pixels()).set_dtype(torch.float64)
    for rows, is_real in ((first, True), (second, False)):
        oracle.update(torch.from_numpy(rows), real=is_real)
    assert frechet_distance(first, second) == pytest.approx(float(oracle.compute()), rel=1e-5)


def distances(count, directions):
    """Mean distances from a real set, of a set that has shrunk as blurred images do, and of another real set.

    Sets of `count` rows of 200 features; directions: that are looked at.
    """
    random = np.random.default_rng(0)
    deviations = 1 / np.arange(1, 201) ** 0.4
    found = []
    for _ in range(6):
        real = random.normal(size=(3 * count, 200)) * deviations
        main = main_directions(real, directions)
        np.testing.assert_allclose(main.T @ main, np.eye(directions), atol=1e-9)
        one, other, another = (part @ main for part in np.split(real, 3))
        found.append([frechet_distance(0.6 * one, another), frechet_distance(other, another)])
    return np.mean(found, axis=0)


def test_few_images_tell_a_set_that_has_shrunk_in_few_directions_and_many_in_all():
    shrunk, real = distances(32, 4)
    assert shrunk > 1.2 * real
    shrunk, real = distances(400, 200)
    assert shrunk > 1.2 * real


def test_few_images_do_not_in_all_directions():
    """Why there is no distance of few images in all features: the set that has shrunk is nearer than a real one."""
    shrunk, real = distances(50, 150)
    assert shrunk < real


def test_main_directions_are_those_of_most_variance():
    rows = np.random.default_rng(0).normal(size=(500, 3)) * [1, 9, 3] + 50
    np.testing.assert_allclose(np.abs(main_directions(rows, 2)), [[0, 0], [1, 0], [0, 1]], atol=0.1)
