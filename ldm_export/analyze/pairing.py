"""What it costs to move noise to data: as the model pairs them, at random, and at best.

Costs are the mean square of the difference of each number of a pair, as in the 2-Wasserstein distance.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


@dataclass(frozen=True)
class Pairing:
    """Costs of one batch. given: of the pairs as they are. mean: over all pairs. best: of the optimal assignment."""

    given: float
    mean: float
    best: float

    @property
    def share_saved(self) -> float | None:
        """Return how much of what could be saved is: 0 as at random, 1 as at best; None where nothing could."""
        possible = self.mean - self.best
        return None if possible <= 1e-9 * self.mean else (self.mean - self.given) / possible


def pairing(noise: np.ndarray, data: np.ndarray) -> Pairing:
    """Measure the pairs of noise and data, (N, …) both."""
    flat_noise, flat_data = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (noise, data))
    costs = cdist(flat_noise, flat_data, "sqeuclidean") / flat_noise.shape[1]
    rows, columns = linear_sum_assignment(costs)
    return Pairing(float(costs.diagonal().mean()), float(costs.mean()), float(costs[rows, columns].mean()))


def least_cost(data: np.ndarray, split: int) -> float:
    """Return a lower bound of the cost of moving unit noise to where `data` (N, …) comes from, in any pairing at all.

    In any directions, a distance is at least the sum of those of the marginals, and theirs at least (deviation - 1)² +
    mean² (Gelbrich 1990). The directions of most variance are those of the first `split` of the data, and the rest is
    measured in them, so that the bound does not profit from chance. What lies outside them counts as if it were spread
    evenly, which costs least.
    """
    flat = np.asarray(data, np.float64).reshape(len(data), -1)
    first, second = flat[:split], flat[split:]
    _, _, directions = np.linalg.svd(first - first.mean(axis=0), full_matrices=False)
    directions = directions[: max(1, split // 2)]
    coordinates = second @ directions.T
    variances = coordinates.var(axis=0, ddof=1)
    means = np.maximum(coordinates.mean(axis=0) ** 2 - variances / len(second), 0)
    cost = float(((np.sqrt(variances) - 1) ** 2 + means).sum())
    rest = flat.shape[1] - len(directions)
    if rest > 0:
        left = second - coordinates @ directions
        cost += rest * float(np.sqrt(left.var(axis=0, ddof=1).sum() / rest) - 1) ** 2
    return cost / flat.shape[1]
