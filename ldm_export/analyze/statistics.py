"""Estimators that several sections share: bootstrap intervals, correlations. All are functions of arrays and a seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate, and the interval that holds 95 % of its bootstrap distribution (percentiles; Efron 1979)."""

    value: float
    low: float
    high: float


def bootstrap(
    samples: np.ndarray,
    random: np.random.Generator,
    statistic: Callable[[np.ndarray], float] | None = None,
    resamples: int = RESAMPLES,
) -> Interval:
    """Estimate a statistic of `samples` (N, …), resampled along axis 0; None: their mean."""
    if statistic is None:
        weights = random.multinomial(len(samples), np.full(len(samples), 1 / len(samples)), resamples) / len(samples)
        estimates = weights @ np.asarray(samples, np.float64)
        value = float(np.mean(samples, dtype=np.float64))
    else:
        places = random.integers(0, len(samples), (resamples, len(samples)))
        estimates = np.array([statistic(samples[each]) for each in places])
        value = statistic(samples)
    low, high = np.quantile(estimates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def spread(values: np.ndarray) -> Interval:
    """Return the median of a few repetitions, and their range."""
    return Interval(float(np.median(values)), float(np.min(values)), float(np.max(values)))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation; NaN where one of them is constant."""
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's correlation of ranks; NaN where one of them is constant."""
    return float(stats.spearmanr(x, y).statistic)
