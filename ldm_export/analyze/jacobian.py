"""The Jacobian of a network at a point by its products with vectors; its singular values, all or the ends by Lanczos.

J stretches a small step v to ‖J v‖: JᵀJ is the metric that a map pulls back from its outputs, and its eigenvalues are
the squares of J's singular values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ldm_export.errors import AnalysisError

COLUMNS_AT_ONCE = 4096  # that are in float64
CONVERGED = 0.01  # a singular value whose error is at most this share of it


class Jacobian:
    """J of `function` at `point`, (1, …) both. Keeps the graph of gradients, not the matrix.

    J v is the derivative of Jᵀu by u, times v: the gradient of a gradient.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], point: Tensor) -> None:
        self._point = point.detach().clone().requires_grad_()
        self._result = function(self._point)

    @cached_property
    def _pulled(self) -> tuple[Tensor, Tensor]:
        """Return Jᵀ u as a function of u, and u."""
        weights = torch.zeros_like(self._result, requires_grad=True)
        (pulled,) = torch.autograd.grad(self._result, self._point, weights, create_graph=True)
        return pulled, weights

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of outputs and of inputs."""
        return self._result.numel(), self._point.numel()

    def times(self, direction: np.ndarray) -> np.ndarray:
        """Return J v, flat, for a flat v."""
        vector = torch.as_tensor(direction, dtype=self._point.dtype).reshape(self._point.shape)
        (product,) = torch.autograd.grad(*self._pulled, vector, retain_graph=True)
        return np.asarray(product.detach(), np.float64).reshape(-1)

    def transposed_times(self, weights: np.ndarray) -> np.ndarray:
        """Return Jᵀ u, flat, for a flat u."""
        vector = torch.as_tensor(weights, dtype=self._point.dtype).reshape(self._result.shape)
        (product,) = torch.autograd.grad(self._result, self._point, vector, retain_graph=True)
        return np.asarray(product.detach(), np.float64).reshape(-1)


@dataclass(frozen=True)
class SingularValues:
    """What is known of the singular values of a matrix.

    values: estimates, the largest first; errors: a bound on how far the nearest singular value is from each. weights:
    the share of all singular values that each stands for, as a random start sees it (Ubaru, Chen and Saad 2017). rank:
    the most that the matrix can have. products: with the matrix and its transpose, together.
    """

    values: np.ndarray
    errors: np.ndarray
    weights: np.ndarray
    rank: int
    products: int

    def converged(self, place: int) -> bool:
        """Tell whether the estimate at that place (-1: the smallest) is within 1 %."""
        return bool(self.errors[place] <= CONVERGED * self.values[place])

    @property
    def anisotropy(self) -> float:
        """Return the 95 % quantile over the median."""
        return self.quantile(0.95) / max(self.quantile(0.5), 1e-12)

    @property
    def resolved(self) -> float:
        """Return the share of singular values below which no quantile is known: the smallest estimate covers them.

        Quantiles below it are too large.
        """
        return 0.0 if self.converged(-1) else float(self.weights[-1])

    def quantile(self, share: float) -> float:
        """Return the value that a share of the singular values is below, by their weights; see `resolved`."""
        below = np.cumsum(self.weights[::-1]) - 0.5 * self.weights[::-1]
        return float(np.interp(share * self.weights.sum(), below, self.values[::-1]))


def all_singular_values(
    times: Callable[[np.ndarray], np.ndarray],
    transposed_times: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int],
) -> SingularValues:
    """Return the singular values of a matrix (M, N) from its columns or its rows, whichever are fewer, in float32.

    It takes min(M, N) products, and the memory of the whole matrix.
    """
    rank, is_tall = min(shape), shape[0] >= shape[1]
    lines, unit = np.empty((rank, max(shape)), np.float32), np.zeros(rank)
    for place in range(rank):
        unit[place] = 1
        lines[place] = times(unit) if is_tall else transposed_times(unit)
        unit[place] = 0
    squares = np.zeros((rank, rank))
    for start in range(0, lines.shape[1], COLUMNS_AT_ONCE):
        part = lines[:, start : start + COLUMNS_AT_ONCE].astype(np.float64)
        squares += part @ part.T
    if not np.isfinite(squares).all():
        raise AnalysisError("the Jacobian has NaN or infinity")
    values = np.sqrt(np.linalg.eigvalsh(squares)[::-1].clip(0))
    rounding = np.full(rank, np.finfo(np.float32).eps * values[0])
    return SingularValues(values, rounding, np.full(rank, 1 / rank), rank, rank)


def singular_values(
    times: Callable[[np.ndarray], np.ndarray],
    transposed_times: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int],
    steps: int,
    random: np.random.Generator,
) -> SingularValues:
    """Estimate the singular values of a matrix (M, N) by `steps` of Lanczos bidiagonalisation (Golub and Kahan 1965).

    Every vector is made orthogonal to all before it. The extreme values converge first. The smallest estimate is above
    the smallest singular value in any case, and the largest below the largest. Unlike ARPACK, which gives values that
    have converged or none, it has a bound on the error of each (Saad 2011, corollary 3.2).
    """
    rank = min(shape)
    if shape[1] > shape[0]:  # start on the shorter side, or vectors that J maps to zero would join
        times, transposed_times, shape = transposed_times, times, (shape[1], shape[0])
    right, left = np.zeros((min(steps, rank), shape[1])), np.zeros((min(steps, rank), shape[0]))
    diagonal, above = np.zeros(len(right)), np.zeros(len(right))
    vector = random.standard_normal(shape[1])
    norm, scale, products = float(np.linalg.norm(vector)), 0.0, 0
    for step in range(len(right)):
        right[step] = vector / norm
        image = _orthogonal(times(right[step]), left[:step])
        diagonal[step] = np.linalg.norm(image)
        scale = max(scale, float(diagonal[step]))
        left[step] = image / max(float(diagonal[step]), np.finfo(float).tiny)
        vector = _orthogonal(transposed_times(left[step]), right[: step + 1])
        above[step] = norm = float(np.linalg.norm(vector))
        products += 2
        if not np.isfinite(norm):
            raise AnalysisError("the Jacobian has NaN or infinity")
        if norm <= 1e-10 * scale:  # the values that the start has a part of are all found
            right, left, diagonal, above = (each[: step + 1] for each in (right, left, diagonal, above))
            break
    outer, values, inner = np.linalg.svd(np.diag(diagonal) + np.diag(above[:-1], 1))
    return SingularValues(values, np.abs(above[-1] * outer[-1]), np.square(inner[:, 0]), rank, products)


def _orthogonal(vector: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return a vector without its part in the span of orthonormal rows; twice, for what rounding leaves."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector
