"""The Jacobian of a network at a point by its products with vectors; its singular values, all or the ends by Lanczos.

J stretches a small step v to ‖J v‖: JᵀJ is the metric that a map pulls back from its outputs, and its eigenvalues are
the squares of J's singular values.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp, linearize

from ldm_export.errors import AnalysisError

COLUMNS_AT_ONCE = 4096  # that are in float64
PRODUCTS_AT_ONCE = 16
CONVERGED = 0.01  # a singular value whose error is at most this share of it


class Jacobian:
    """J of `function` at `point`, (1, …) both. Keeps the graph of gradients, not the matrix.

    J v is a forward derivative, which keeps nothing; Jᵀ u goes back through the graph. Raises what torch raises for a
    function that has no such derivative.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], point: Tensor) -> None:
        self._function = function
        self._point = point.detach().clone().requires_grad_()
        self._result = function(self._point)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of outputs and of inputs."""
        return self._result.numel(), self._point.numel()

    def times(self, directions: np.ndarray) -> np.ndarray:
        """Return J v, (M,), for a flat v, (N,); or those of several one after the other, (B, M) for (B, N).

        Of several, what does not depend on v is computed once for all, and kept: memory of another graph.
        """
        vectors = torch.as_tensor(directions, dtype=self._point.dtype).reshape(-1, *self._point.shape)
        product = self._forward_derivative if len(vectors) == 1 else self._linear
        with torch.no_grad():
            products = torch.stack([product(vector) for vector in vectors])
        return np.asarray(products, np.float64).reshape(*directions.shape[:-1], -1)

    def transposed_times(self, weights: np.ndarray) -> np.ndarray:
        """Return Jᵀ u, (N,), for a flat u, (M,); or those of several one after the other, (B, N) for (B, M)."""
        vectors = torch.as_tensor(weights, dtype=self._point.dtype).reshape(-1, *self._result.shape)
        products = torch.stack(
            [torch.autograd.grad(self._result, self._point, vector, retain_graph=True)[0] for vector in vectors]
        )
        return np.asarray(products.detach(), np.float64).reshape(*weights.shape[:-1], -1)

    def _forward_derivative(self, vector: Tensor) -> Tensor:
        product: Tensor = jvp(self._function, (self._point.detach(),), (vector,))[1]
        return product

    @cached_property
    def _linear(self) -> Callable[[Tensor], Tensor]:
        """Return v -> J v, traced once: a product takes a third of the time of the forward derivative."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Attempted to insert a get_attr Node")  # of torch's own folding
            product: Callable[[Tensor], Tensor] = linearize(self._function, self._point.detach())[1]
        return product


@dataclass(frozen=True)
class SingularValues:
    """What is known of the singular values of a matrix.

    values: estimates, the largest first. errors: the residual of each, which bounds how far a singular value is from
    it; NaN where it was not computed. weights: the share of all singular values that each stands for, as a random start
    sees it (Ubaru, Chen and Saad 2017). rank: the most that the matrix can have. products: with the matrix and its
    transpose, together. is_whole: whether these are all of them, from the whole matrix, and no estimates.
    """

    values: np.ndarray
    errors: np.ndarray
    weights: np.ndarray
    rank: int
    products: int
    is_whole: bool

    def converged(self, place: int) -> bool:
        """Tell whether a singular value is known to be within 1 % of the estimate at that place (-1: the smallest)."""
        return bool(self.errors[place] <= CONVERGED * self.values[place])

    @property
    def condition(self) -> float:
        """Return the largest over the smallest value; infinite where the smallest is zero."""
        return float(self.values[0] / self.values[-1]) if self.values[-1] > 0 else float("inf")

    @property
    def anisotropy(self) -> float:
        """Return the 95 % quantile over the median; infinite where that is zero."""
        median = self.quantile(0.5)
        return self.quantile(0.95) / median if median > 0 else float("inf")

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

    Both functions take several vectors at once, (B, N) and (B, M). It takes min(M, N) products, and the memory of the
    whole matrix. The columns are rounded, and so are values: the largest and the smallest are checked by products that
    are made anew (`_residual`).
    """
    if shape[1] > shape[0]:
        times, transposed_times, shape = transposed_times, times, (shape[1], shape[0])
    rank = shape[1]
    lines, units = np.empty((rank, shape[0]), np.float32), np.eye(rank)
    for start in range(0, rank, PRODUCTS_AT_ONCE):
        part = slice(start, start + PRODUCTS_AT_ONCE)
        lines[part] = times(units[part])
    squares = np.zeros((rank, rank))
    for start in range(0, lines.shape[1], COLUMNS_AT_ONCE):
        columns = lines[:, start : start + COLUMNS_AT_ONCE].astype(np.float64)
        squares += columns @ columns.T
    if not np.isfinite(squares).all():
        raise AnalysisError("the Jacobian has NaN or infinity")
    eigenvalues, vectors = np.linalg.eigh(squares)
    values, errors = np.sqrt(eigenvalues[::-1].clip(0)), np.full(rank, np.nan)
    for place in {0, rank - 1}:
        vector = vectors[:, rank - 1 - place]
        errors[place] = _residual(times, transposed_times, lines, vector, values[place])
    return SingularValues(values, errors, np.full(rank, 1 / rank), rank, rank + 4, is_whole=True)


def _residual(
    times: Callable[[np.ndarray], np.ndarray],
    transposed_times: Callable[[np.ndarray], np.ndarray],
    lines: np.ndarray,
    vector: np.ndarray,
    value: float,
) -> float:
    """Return ‖(J v - s u, Jᵀu - s v)‖ of a value s and its vectors in the computed columns `lines`, by new products.

    J v and Jᵀu are one product with the symmetric matrix of J and Jᵀ, whose eigenvalues are ± the singular values and
    zero. An eigenvalue is no farther from s than the residual is long (Parlett 1998, theorem 4.5.1, which has it by
    √2 smaller); it is a singular value if that is below s.
    """
    parts = [
        vector @ lines[:, start : start + COLUMNS_AT_ONCE].astype(np.float64)
        for start in range(0, lines.shape[1], COLUMNS_AT_ONCE)
    ]
    other = np.concatenate(parts)
    other /= max(float(np.linalg.norm(other)), np.finfo(float).tiny)
    first, second = times(vector) - value * other, transposed_times(other) - value * vector
    return float(np.hypot(np.linalg.norm(first), np.linalg.norm(second)))


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
    have converged or none, it has a residual of each, which bounds its error but for rounding (Saad 2011, corollary
    3.2).
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
    return SingularValues(values, np.abs(above[-1] * outer[-1]), np.square(inner[:, 0]), rank, products, is_whole=False)


def _orthogonal(vector: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return a vector without its part in the span of orthonormal rows; twice, for what rounding leaves."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector
