"""Estimators that several sections share: bootstrap intervals, correlations. All are functions of arrays and a seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 1000
LEVEL = 0.95
FEWEST_TO_RESAMPLE = 8


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


def over_images(
    values: np.ndarray,
    random: np.random.Generator,
    statistic: Callable[[np.ndarray], float] | None = None,
) -> tuple[Interval, str]:
    """Estimate a statistic of a value of each image (None: their mean), and say what the interval is.

    Of fewer than 8 images, it is the range of single ones: resampling so few understates what others would give.
    """
    if len(values) >= FEWEST_TO_RESAMPLE:
        return bootstrap(values, random, statistic), f"95 % by bootstrap over {len(values)} images"
    estimate = statistic if statistic is not None else lambda part: float(np.mean(part))
    alone = [estimate(values[place : place + 1]) for place in range(len(values))]
    return Interval(estimate(values), min(alone), max(alone)), f"range of {len(values)} images"


def spread(values: np.ndarray) -> Interval:
    """Return the median of a few repetitions, and their range."""
    return Interval(float(np.median(values)), float(np.min(values)), float(np.max(values)))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation; NaN where one of them is constant."""
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's correlation of ranks; NaN where one of them is constant."""
    return float(stats.spearmanr(x, y).statistic)
