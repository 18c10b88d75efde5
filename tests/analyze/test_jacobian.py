"""Singular values of maps whose singular values are known, and bounds that hold where Lanczos has not converged."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ldm_export.analyze.jacobian import Jacobian, all_singular_values, singular_values
from ldm_export.errors import AnalysisError


def with_singular_values(values: np.ndarray, outputs: int, seed: int = 0) -> np.ndarray:
    """A random matrix (outputs, len(values)) with these singular values."""
    random = np.random.default_rng(seed)
    left, _ = np.linalg.qr(random.standard_normal((outputs, len(values))))
    right, _ = np.linalg.qr(random.standard_normal((len(values), len(values))))
    return left @ np.diag(values) @ right


def estimate(matrix: np.ndarray, steps: int):
    times, back = (lambda v: matrix @ v), (lambda u: matrix.T @ u)
    return singular_values(times, back, matrix.shape, steps, np.random.default_rng(1))


def test_products_are_those_of_the_jacobian():
    def function(x):
        return torch.stack([x[0, 0] ** 2 * x[0, 1], torch.sin(x[0, 2]), x.sum()])[None]

    point = torch.tensor([[2.0, 3.0, 0.5]], dtype=torch.float64)
    jacobian = Jacobian(function, point)
    expected = np.array([[12.0, 4.0, 0.0], [0.0, 0.0, np.cos(0.5)], [1.0, 1.0, 1.0]])
    assert jacobian.shape == (3, 3)
    assert np.allclose(np.stack([jacobian.times(each) for each in np.eye(3)], axis=1), expected)
    assert np.allclose(np.stack([jacobian.transposed_times(each) for each in np.eye(3)]), expected)
    assert np.allclose(jacobian.times(np.eye(3)).T, expected) and np.allclose(
        jacobian.transposed_times(np.eye(3)), expected
    )


def test_products_go_through_attention():
    query = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))

    def function(x):
        with sdpa_kernel(SDPBackend.MATH):
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    jacobian, step = Jacobian(function, query), np.random.default_rng(0).standard_normal(32)
    moved = torch.from_numpy(1e-3 * step).float().reshape(query.shape)
    difference = (function(query + moved) - function(query - moved)).flatten().numpy() / 2e-3
    assert np.allclose(jacobian.times(step), difference, atol=1e-3)


@pytest.mark.parametrize("outputs", [40, 12, 5])  # taller than wide, square, wider than tall
def test_all_steps_give_the_singular_values_of_a_linear_map(outputs):
    matrix = np.random.default_rng(2).standard_normal((outputs, 12))
    found = estimate(matrix, 50)
    assert found.rank == min(outputs, 12)
    assert np.allclose(found.values, np.linalg.svd(matrix, compute_uv=False), rtol=1e-8)
    assert found.converged(0) and found.converged(-1)


def test_the_ends_of_a_large_map_come_first():
    values = np.concatenate([[10.0, 8.0], np.linspace(2, 1, 196), [0.02, 0.01]])
    found = estimate(with_singular_values(values, 300), 60)
    assert found.converged(0) and found.values[0] == pytest.approx(10.0) and found.values[1] == pytest.approx(8.0)
    assert np.abs(found.values - 1.5).min() < 0.1 and found.products == 120


def test_a_smallest_value_that_has_not_converged_is_an_upper_bound_and_says_so():
    values = np.geomspace(10, 0.001, 400)
    found = estimate(with_singular_values(values, 500), 20)
    assert found.converged(0)
    assert not found.converged(-1) and found.values[-1] > 0.001
    assert found.resolved > 0.1 and found.quantile(0.01) > 0.001


def test_all_quantiles_are_known_once_the_smallest_value_has_converged():
    found = estimate(np.eye(8) * 3, 8)
    assert found.resolved == 0 and found.quantile(0.01) == found.quantile(0.5) == pytest.approx(3)


def test_errors_bound_the_distance_to_a_singular_value():
    values = np.geomspace(10, 0.1, 100)
    found = estimate(with_singular_values(values, 120), 15)
    distance = np.abs(found.values[:, None] - values).min(axis=1)
    assert (distance <= found.errors + 1e-9).all() and found.errors[-1] < 10


def test_a_map_of_low_rank_stops_early():
    found = estimate(with_singular_values(np.array([3.0, 2.0, 0, 0, 0, 0]), 10), 6)
    assert np.allclose(found.values[:2], [3, 2]) and (found.values[2:] < 1e-9).all()


def test_quantiles_are_those_of_all_singular_values():
    values = np.linspace(1, 5, 400)
    found = estimate(with_singular_values(values, 500), 25)
    for share in (0.05, 0.5, 0.95):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.1)
    assert found.weights.sum() == pytest.approx(1)


def test_nan_is_refused():
    with pytest.raises(AnalysisError, match="NaN"):
        estimate(np.full((5, 4), np.nan), 4)


def test_a_constant_map_has_singular_values_of_zero():
    assert estimate(np.zeros((5, 4)), 4).values.max() == 0


@pytest.mark.parametrize("outputs", [9000, 12, 5])  # taller than wide (and than what is in float64), square, wider
def test_the_whole_matrix_gives_all_singular_values(outputs):
    values = np.geomspace(10, 0.01, min(outputs, 12))
    matrix = with_singular_values(values, outputs) if outputs >= 12 else with_singular_values(values, 12).T
    found = all_singular_values(lambda v: v @ matrix.T, lambda u: u @ matrix, matrix.shape)
    assert np.allclose(found.values, values, rtol=1e-4)
    assert found.converged(0) and found.converged(-1) and found.resolved == 0 and found.products == len(values) + 4
    assert found.quantile(0.5) == pytest.approx(np.median(values), rel=0.2)


@pytest.mark.parametrize("rounding", [1e-2, 1e-4])
def test_errors_of_the_whole_matrix_bound_those_of_products_that_are_rounded(rounding):
    """The columns are off, the products with the transpose are not: the residual tells by how much."""
    values = np.linspace(2, 1, 12)
    matrix = with_singular_values(values, 30)
    off = matrix + rounding * np.random.default_rng(5).standard_normal(matrix.shape)
    found = all_singular_values(lambda v: v @ off.T, lambda u: u @ matrix, matrix.shape)
    for place in (0, -1):
        distance = abs(found.values[place] - values[place])
        assert 10 * np.finfo(np.float32).eps < distance <= found.errors[place] < 10 * rounding
    assert found.converged(0) == (rounding < 1e-3) and np.isnan(found.errors[1:-1]).all()


def test_what_rounding_hides_has_not_converged():
    matrix = with_singular_values(np.array([1.0, 0.5, 1e-7]), 6)
    found = all_singular_values(lambda v: v @ matrix.T, lambda u: u @ matrix, matrix.shape)
    assert found.converged(0) and not found.converged(-1)


def test_nan_in_the_whole_matrix_is_refused():
    matrix = np.full((5, 4), np.nan)
    with pytest.raises(AnalysisError, match="NaN"):
        all_singular_values(lambda v: v @ matrix.T, lambda u: u @ matrix, matrix.shape)
