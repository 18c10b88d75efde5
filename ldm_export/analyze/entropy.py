"""Differential entropy of points and what follows of it, in nats. It changes with the unit of the points."""

import math

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln

NEIGHBOURS = 4
ROUNDS = 32
SINGULAR = 1e-12  # ratio of variances, below which the narrowest direction is rounding
MOST_DIMENSIONS = 8  # where nearest neighbours of some hundred points still tell of the density


def gaussian_entropy(points: np.ndarray) -> float:
    """Estimate the entropy of the Gaussian with the covariance that points (N, d) are drawn with: the most it can be.

    Unbiased for Gaussian points: the logarithm of a sample covariance's determinant is too low by what its Wishart
    distribution says (Anderson 2003, 7.5), and that is taken off. For other points the rest of the error falls as 1/N.
    -inf where a direction does not vary. Raises ValueError for fewer points than a covariance needs.
    """
    count, dimensions = points.shape
    if count <= dimensions:
        raise ValueError(f"{count} points in {dimensions} dimensions have no covariance of full rank")
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(points.T)))
    if variances[0] <= SINGULAR * variances[-1]:
        return -math.inf
    unbiased = float(np.log(variances).sum()) - log_determinant_bias(count, dimensions)
    return 0.5 * (dimensions * math.log(2 * math.pi * math.e) + unbiased)


def log_determinant_bias(count: int, dimensions: int) -> float:
    """Return E log det S - log det C of the sample covariance S of so many Gaussian points of covariance C: below 0."""
    freedom = count - np.arange(1, dimensions + 1)
    return float((digamma(freedom / 2) - math.log((count - 1) / 2)).sum())


def neighbour_entropy(points: np.ndarray) -> float:
    """Estimate the entropy of independent points (N, d) by the distance to the fourth neighbour.

    Kozachenko and Leonenko 1987, as in Kraskov et al. 2004. Distances are those of the whitened points, and what that
    takes off is added as in `gaussian_entropy`: balls fit in narrow directions too, and the error on a Gaussian is the
    same whatever its covariance. -inf where points coincide or do not vary: they have no density. Raises ValueError for
    more dimensions than it works in, or too few points.
    """
    count, dimensions = points.shape
    if dimensions > MOST_DIMENSIONS or count <= max(NEIGHBOURS, dimensions):
        raise ValueError(f"{count} points in {dimensions} dimensions; expected at most {MOST_DIMENSIONS} dimensions")
    like = gaussian_entropy(points)
    if not math.isfinite(like):
        return -math.inf
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(points.T)))
    white = points @ (directions / np.sqrt(variances))
    distance = cKDTree(white).query(white, k=NEIGHBOURS + 1)[0][:, -1]
    if (distance == 0).any():
        return -math.inf
    ball = 0.5 * dimensions * math.log(math.pi) - gammaln(0.5 * dimensions + 1)  # log volume of the unit ball
    of_white = digamma(count) - digamma(NEIGHBOURS) + ball + dimensions * np.log(distance).mean()
    return like - 0.5 * dimensions * math.log(2 * math.pi * math.e) + float(of_white)


def neighbour_error(
    count: int, dimensions: int, random: np.random.Generator, rounds: int = ROUNDS
) -> tuple[float, float]:
    """Return by how much `neighbour_entropy` is off on so many points of a Gaussian, any Gaussian, on average.

    The second number is the standard error of that mean over rounds.
    """
    drawn = random.standard_normal((rounds, count, dimensions))
    exact = 0.5 * dimensions * math.log(2 * math.pi * math.e)
    off = np.array([neighbour_entropy(each) for each in drawn]) - exact
    return float(off.mean()), float(off.std(ddof=1)) / math.sqrt(rounds)
