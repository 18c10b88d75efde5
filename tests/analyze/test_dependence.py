"""Dependence of Gaussian numbers whose covariance is known."""

import math

import numpy as np
import pytest

from ldm_export.analyze.dependence import (
    cell_covariance,
    cell_moments,
    neighbour_information,
    neighbour_moments,
    total_correlation,
)


def test_the_covariance_of_cells_is_that_of_numpy() -> None:
    latents = np.random.default_rng(0).normal(2, 1, (10, 3, 4, 5))
    latents[:, 1] += latents[:, 0]
    expected = np.cov(latents.transpose(1, 0, 2, 3).reshape(3, -1), bias=True)
    assert cell_covariance(cell_moments(latents)) == pytest.approx(expected)


def test_total_correlation_of_equally_correlated_numbers() -> None:
    for correlation in (0.0, 0.5, 0.9):
        covariance = np.full((4, 4), correlation) + (1 - correlation) * np.eye(4)
        exact = -0.5 * (3 * math.log(1 - correlation) + math.log(1 + 3 * correlation))
        assert total_correlation(5.0 * covariance) == pytest.approx(exact)


def test_total_correlation_does_not_change_with_scale_and_has_no_bound() -> None:
    covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
    scale = np.diag([3.0, 0.1])
    assert total_correlation(scale @ covariance @ scale) == pytest.approx(total_correlation(covariance))
    assert total_correlation(np.ones((2, 2))) == math.inf


def test_neighbours_of_white_noise_share_nothing_and_smoothed_ones_do() -> None:
    noise = np.random.default_rng(1).normal(size=(50, 2, 16, 16))
    assert (neighbour_information(neighbour_moments(noise)) < 1e-3).all()
    smooth = noise.copy()
    smooth[:, 1, :, 1:] += noise[:, 1, :, :-1]  # a correlation of 1/2 with the left, none with the upper neighbour
    apart, together = neighbour_information(neighbour_moments(smooth))
    assert apart < 1e-3
    assert together == pytest.approx(-0.5 * math.log(1 - 0.25**2), rel=0.15)


def test_a_constant_channel_shares_nothing() -> None:
    assert neighbour_information(neighbour_moments(np.ones((3, 1, 4, 4)))) == pytest.approx(0)


def test_latents_of_one_cell_have_no_neighbours_and_a_row_has() -> None:
    with pytest.raises(ValueError, match="no neighbours"):
        neighbour_moments(np.ones((3, 1, 1, 1)))
    row = np.random.default_rng(0).normal(size=(2000, 1, 1, 2))
    row[..., 1] += row[..., 0]
    assert neighbour_information(neighbour_moments(row)) == pytest.approx(-0.5 * math.log(1 - 0.5), rel=0.1)
