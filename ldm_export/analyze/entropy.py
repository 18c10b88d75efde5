"""Differential entropy of points and what follows of it, in nats. It changes with the unit of the points."""

import math

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln

NEIGHBOURS = 4
MOST_DIMENSIONS = 8  # where nearest neighbours of some hundred points still tell of the density


def gaussian_entropy(points: np.ndarray) -> float:
    """Return the entropy of the Gaussian with the covariance of points (N, d): the most that they can have.

    Raises ValueError for fewer points than a covariance needs.
    """
    count, dimensions = points.shape
    if count <= dimensions:
        raise ValueError(f"{count} points in {dimensions} dimensions have no covariance of full rank")
    sign, log_determinant = np.linalg.slogdet(np.atleast_2d(np.cov(points.T)))
    return 0.5 * (dimensions * math.log(2 * math.pi * math.e) + log_determinant) if sign > 0 else -math.inf


def neighbour_entropy(points: np.ndarray) -> float:
    """Estimate the entropy of independent points (N, d) by the distance to the fourth neighbour.

    Kozachenko and Leonenko 1987, as in Kraskov et al. 2004. -inf where points coincide: they have no density.
    Raises ValueError for more dimensions than it works in, or too few points.
    """
    count, dimensions = points.shape
    if dimensions > MOST_DIMENSIONS or count <= NEIGHBOURS:
        raise ValueError(f"{count} points in {dimensions} dimensions; expected at most {MOST_DIMENSIONS} dimensions")
    distance = cKDTree(points).query(points, k=NEIGHBOURS + 1)[0][:, -1]
    if (distance == 0).any():
        return -math.inf
    ball = 0.5 * dimensions * math.log(math.pi) - gammaln(0.5 * dimensions + 1)  # log volume of the unit ball
    return float(digamma(count) - digamma(NEIGHBOURS) + ball + dimensions * np.log(distance).mean())


def neighbour_error(points: np.ndarray, random: np.random.Generator, rounds: int = 8) -> float:
    """Return by how much `neighbour_entropy` is off on a Gaussian of the same covariance and number of points."""
    covariance = np.atleast_2d(np.cov(points.T))
    exact = gaussian_entropy(points)
    drawn = random.multivariate_normal(np.zeros(points.shape[1]), covariance, (rounds, len(points)))
    return float(np.mean([neighbour_entropy(each) for each in drawn])) - exact


def principal_components(points: np.ndarray, count: int) -> np.ndarray:
    """Return points (N, d) in their first principal components, (N, count); d may be more than N."""
    centred = points - points.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(left[:, :count] * singular[:count])
