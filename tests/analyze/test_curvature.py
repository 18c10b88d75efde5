"""Curvature of surfaces for which it is known."""

import math

import pytest
import torch

from ldm_export.analyze.curvature import gaussian_curvature

A, B = torch.eye(2, dtype=torch.float64)[:, None]


def sphere(radius: float):
    def function(x):
        polar, around = x[:, 0], x[:, 1]
        parts = [polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos()]
        return radius * torch.stack(parts, dim=1)

    return function


@pytest.mark.parametrize("radius", [0.5, 2.0])
@pytest.mark.parametrize("at", [(1.0, 0.3), (2.0, -1.0)])
def test_a_sphere_has_one_over_the_squared_radius(radius, at):
    found = gaussian_curvature(sphere(radius), torch.tensor([at], dtype=torch.float64), A, B)
    assert found.gaussian == pytest.approx(1 / radius**2, rel=1e-9)
    assert found.area == pytest.approx(radius**2 * math.sin(at[0]), rel=1e-9)


def test_a_linear_map_is_flat_along_any_directions():
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(50, 8, generator=random, dtype=torch.float64)
    point, a, b = (torch.randn(1, 8, generator=random, dtype=torch.float64) for _ in range(3))
    found = gaussian_curvature(lambda x: x @ weights.T, point, a, b)
    assert abs(found.gaussian) < 1e-15 and found.area > 0


def test_a_bent_sheet_is_flat_and_a_saddle_is_negative():
    origin = torch.zeros(1, 2, dtype=torch.float64)

    def cylinder(x):
        return torch.stack([x[:, 0].sin(), x[:, 0].cos(), x[:, 1]], dim=1)

    def saddle(x):
        return torch.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 1]], dim=1)

    assert abs(gaussian_curvature(cylinder, origin + 0.4, A, B).gaussian) < 1e-12
    assert gaussian_curvature(saddle, origin, A, B).gaussian == pytest.approx(-1)


def test_the_axes_of_the_slice_do_not_matter():
    at = torch.tensor([[1.0, 0.3]], dtype=torch.float64)
    skewed = gaussian_curvature(sphere(2.0), at, A + 0.3 * B, 2 * B - A)
    assert skewed.gaussian == pytest.approx(0.25, rel=1e-9)


def test_a_torus_of_two_circles_is_flat_in_four_dimensions():
    def flat_torus(x):
        return torch.cat([x.sin(), x.cos()], dim=1)

    at = torch.tensor([[0.2, 1.1]], dtype=torch.float64)
    assert abs(gaussian_curvature(flat_torus, at, A, B).gaussian) < 1e-12


@pytest.mark.parametrize("b", [2 * A, 0 * A])
def test_a_slice_without_area_has_no_curvature(b):
    found = gaussian_curvature(sphere(1.0), torch.tensor([[1.0, 0.3]], dtype=torch.float64), A, b)
    assert math.isnan(found.gaussian) and found.area == 0
