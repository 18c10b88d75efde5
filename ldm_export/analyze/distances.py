"""Distances between all pairs of images, and how far two kinds of distance agree.

Pairs that share an image depend on one another, so intervals resample images, not pairs.
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import pdist, squareform

from ldm_export.analyze.statistics import LEVEL, Interval

Correlation = Callable[[np.ndarray, np.ndarray], float]


def pair_distances(arrays: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances between arrays (N, …): (N, N)."""
    return np.asarray(squareform(pdist(np.asarray(arrays, np.float64).reshape(len(arrays), -1))))


def typical_distance(distances: np.ndarray) -> float:
    """Return the root mean square of the distances (N, N) between different images."""
    return float(np.sqrt(np.mean(np.square(distances[np.triu_indices(len(distances), 1)]))))


def agreement(
    first: np.ndarray, second: np.ndarray, correlation: Correlation, random: np.random.Generator, resamples: int
) -> Interval:
    """Correlate two kinds of distance (N, N) over all pairs of different images."""
    return _over_images(len(first), lambda chosen: _correlate(first, second, correlation, chosen), random, resamples)


def advantage(
    first: np.ndarray,
    second: np.ndarray,
    target: np.ndarray,
    correlation: Correlation,
    random: np.random.Generator,
    resamples: int,
) -> Interval:
    """Return by how much the first kind of distance is better correlated with `target` than the second is."""

    def difference(chosen: np.ndarray) -> float:
        one, other = (_correlate(each, target, correlation, chosen) for each in (first, second))
        return one - other

    return _over_images(len(first), difference, random, resamples)


def _over_images(
    count: int, statistic: Callable[[np.ndarray], float], random: np.random.Generator, resamples: int
) -> Interval:
    """Resample images. Where all distances of a resample are the same, it has no correlation and is left out.

    That happens where nearly all images are alike. The interval is NaN if most resamples are so.
    """
    places = np.arange(count)
    found = np.array([statistic(random.choice(places, count)) for _ in range(resamples)])
    known = found[~np.isnan(found)]
    if 2 * len(known) <= resamples:
        return Interval(statistic(places), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(statistic(places), float(low), float(high))


def next_different(distances: np.ndarray, least: float) -> np.ndarray:
    """Return for each of N places the next one, around the end, that is farther than `least`; itself if none is."""
    count = len(distances)
    order = (np.arange(count)[:, None] + np.arange(1, count + 1)) % count  # itself comes last
    far = np.take_along_axis(distances, order, axis=1) > least
    far[:, -1] = True
    return np.asarray(np.take_along_axis(order, far.argmax(axis=1)[:, None], axis=1)[:, 0])


def _correlate(first: np.ndarray, second: np.ndarray, correlation: Correlation, chosen: np.ndarray) -> float:
    """Correlate over pairs of `chosen` images; an image that was chosen twice makes no pair with itself."""
    rows, columns = np.triu_indices(len(chosen), 1)
    rows, columns = chosen[rows], chosen[columns]
    different = rows != columns
    pairs = [each[rows, columns][different] for each in (first, second)]
    if any(not len(each) or np.ptp(each) == 0 for each in pairs):
        return float("nan")
    return correlation(*pairs)
