"""How far the distribution of single numbers is from a normal one. Cells of an image are alike, so it is no test.

All begins with what each image's numbers say of a distribution function, of which a bootstrap resamples images.
"""

import numpy as np
from scipy import stats

POINTS = np.linspace(0.005, 0.995, 199)  # quantiles at which distribution functions are compared


def thresholds(values: np.ndarray) -> np.ndarray:
    """Return the values at which the distribution of all of them, (N, M), is to be looked at."""
    return np.quantile(values, POINTS)


def distribution_samples(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return each image's share of values up to each threshold, then their mean and mean square, (N, T + 2)."""
    shares = np.stack([np.searchsorted(np.sort(each), at, side="right") / len(each) for each in values])
    return np.concatenate([shares, values.mean(axis=1)[:, None], (values**2).mean(axis=1)[:, None]], axis=1)


def distance_to_normal(samples: np.ndarray, at: np.ndarray, standard: bool = False) -> float:
    """Return the largest difference from a normal distribution function (Kolmogorov and Smirnov's distance).

    samples: of `distribution_samples`. The normal has the mean and deviation of the values; 0 and 1 if `standard`.
    """
    *shares, mean, square = samples.mean(axis=0)
    deviation = np.sqrt(max(square - mean**2, 1e-24))
    normal = stats.norm.cdf(at) if standard else stats.norm.cdf((at - mean) / deviation)
    return float(np.abs(np.array(shares) - normal).max())
