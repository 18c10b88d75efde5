"""Over how many dimensions the variance of points spreads, also where points are fewer than dimensions."""

import numpy as np


def covariance_spectrum(points: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of the sample covariance of points (N, d), largest first; at most N - 1 are above zero."""
    centred = points - points.mean(axis=0)
    return np.asarray(np.linalg.svd(centred, compute_uv=False) ** 2 / (len(points) - 1))


def effective_rank(eigenvalues: np.ndarray) -> float:
    """Return exp of the entropy of the normalised eigenvalues (Roy and Vetterli 2007)."""
    share = eigenvalues[eigenvalues > 0] / eigenvalues.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def participation_ratio(points: np.ndarray) -> float:
    """Estimate (tr S)² / tr(S²) of the covariance S that points (N, d) were drawn with, for N >= 4.

    Of a sample covariance the ratio is at most N - 1. Here numerator and denominator are estimated without bias, for
    any distribution (Himeno and Yamada 2014), so that N may be less than d.
    """
    count = len(points)
    centred = points - points.mean(axis=0)
    gram = centred @ centred.T
    trace = np.trace(gram) / (count - 1)
    square = (gram**2).sum() / (count - 1) ** 2
    fourth = (np.diag(gram) ** 2).sum() / (count - 1)
    scale = (count - 1) / (count * (count - 2) * (count - 3))
    of_square = scale * ((count - 1) * (count - 2) * square + trace**2 - count * fourth)
    squared_trace = scale * (2 * square + (count**2 - 3 * count + 1) * trace**2 - count * fourth)
    return float(squared_trace / of_square)
