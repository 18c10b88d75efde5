"""The Fréchet distance of Gaussians (Dowson and Landau 1982) that are fitted to features of images.

It is estimated too high from few rows: compare only values of as many rows.
"""

import math

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of Gaussians fitted to the rows of (N, D) and (M, D).

    The trace of the root is the nuclear norm of X Y^T / sqrt((N - 1) (M - 1)), with X and Y the centred rows: their
    triangular factors are enough for it, and neither a matrix root nor a full-rank covariance is needed.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("a covariance needs at least two rows")
    means: list[np.ndarray] = []
    factors: list[np.ndarray] = []
    total = 0.0
    for rows in (np.asarray(first, np.float64), np.asarray(second, np.float64)):
        means.append(rows.mean(axis=0))
        centred = (rows - means[-1]) / math.sqrt(len(rows) - 1)
        factors.append(np.asarray(np.linalg.qr(centred, mode="r")))  # (min(N, D), D)
        total += float((centred**2).sum())
    root = np.linalg.norm(factors[0] @ factors[1].T, "nuc")
    return max(0.0, float(((means[0] - means[1]) ** 2).sum() + total - 2 * root))


def main_directions(features: np.ndarray, count: int) -> np.ndarray:
    """Return the directions of most variance of features (N, D), as columns: (D, count).

    In an eighth as many directions as rows, the distance tells sets apart. In all of more features than half the rows
    it does not: the two sets' directions hardly meet, and a set of less variance, such as of blurred images, is nearer.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return np.ascontiguousarray(directions[:count].T)
