"""Paths on a plane and on a sphere, where the shortest are known."""

import numpy as np
import pytest
import torch

from ldm_export.analyze.geodesic import geodesic, path_length, spherical, straight


def on_sphere(x):
    """Polar angle and longitude to a point of the unit sphere."""
    polar, around = x[:, 0], x[:, 1]
    return torch.stack([polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos()], dim=1)


def length_of(function, points: np.ndarray) -> float:
    return path_length(function(torch.from_numpy(points)).numpy())


def test_the_geodesic_of_a_sphere_is_a_great_circle():
    start, end = np.array([0.7, 0.0]), np.array([0.7, 2.0])  # at one latitude, which is no great circle
    found = geodesic(on_sphere, start, end, knots=5, steps=20, most=200)
    ends = on_sphere(torch.from_numpy(np.stack([start, end]))).numpy()
    shortest = float(np.arccos(ends[0] @ ends[1]))
    along_latitude = length_of(on_sphere, straight(start, end, 200))
    assert along_latitude == pytest.approx(2.0 * np.sin(0.7), rel=1e-3) and along_latitude > 1.05 * shortest
    assert found.converged
    assert length_of(on_sphere, found.points(200)) == pytest.approx(shortest, rel=0.003)


def test_a_geodesic_that_is_cut_short_says_so_and_is_not_longer_than_the_line():
    start, end = np.array([0.7, 0.0]), np.array([0.7, 2.0])
    found = geodesic(on_sphere, start, end, knots=5, steps=20, most=2)
    assert not found.converged
    assert length_of(on_sphere, found.points(20)) <= length_of(on_sphere, straight(start, end, 20)) + 1e-6


def test_the_geodesic_of_a_linear_map_is_straight():
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(30, 6, generator=random)
    start, end = np.random.default_rng(0).standard_normal((2, 6))
    found = geodesic(lambda x: x @ weights.T, start, end, knots=3, steps=8, most=50)
    assert np.allclose(found.points(12), straight(start, end, 12), atol=1e-3) and found.converged


def test_the_ends_stay_where_they_are():
    start, end = np.ones((2, 3, 3)), np.zeros((2, 3, 3))
    found = geodesic(lambda x: x**3, start, end, knots=2, steps=6, most=10)
    points = found.points(9)
    assert points.shape == (10, 2, 3, 3) and np.allclose(points[0], start) and np.allclose(points[-1], end)


def test_equal_ends_give_a_path_that_stays():
    start = np.ones(2)
    assert np.allclose(geodesic(on_sphere, start, start, knots=2, steps=4, most=5).points(4), start, atol=1e-6)


def test_spherical_interpolation_keeps_the_norm_and_the_angle():
    start, end = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    points = spherical(start, end, 3)
    assert np.allclose(np.linalg.norm(points, axis=1), 2)
    assert np.allclose(np.arctan2(points[:, 1], points[:, 0]), np.linspace(0, np.pi / 2, 4))
    assert np.linalg.norm(straight(start, end, 2)[1]) < 1.5


def test_spherical_interpolation_of_parallel_points_is_straight():
    assert np.allclose(spherical(np.ones(3), 3 * np.ones(3), 4), straight(np.ones(3), 3 * np.ones(3), 4))
