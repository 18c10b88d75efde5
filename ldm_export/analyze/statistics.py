"""Estimators that several sections share: intervals by the bootstrap and the jackknife, correlations."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 1000
LEVEL = 0.95
NORMAL_95 = 1.959963984540054  # deviations of a normal to either side that hold so much
FEWEST_TO_RESAMPLE = 8
GROUPS = 20  # of samples, each left out in turn


@dataclass(frozen=True)
class Interval:
    """An estimate, and the interval that holds 95 % of its bootstrap distribution (percentiles; Efron 1979).

    Of a single value it reaches from -inf to inf: how far others would be is unknown, and a report gives none.
    """

    value: float
    low: float
    high: float

    @classmethod
    def unknown(cls, value: float) -> "Interval":
        return cls(value, -math.inf, math.inf)


def bootstrap(
    samples: np.ndarray,
    random: np.random.Generator,
    statistic: Callable[[np.ndarray], float] | None = None,
    resamples: int = RESAMPLES,
) -> Interval:
    """Estimate a statistic of `samples` (N, …), resampled along axis 0; None: their mean.

    The interval reaches to the estimate where resampling alone would not: drawing samples twice takes variance away,
    and a count that few samples could raise only falls.
    """
    if len(samples) == 1:
        return Interval.unknown(float(np.mean(samples)) if statistic is None else statistic(samples))
    if statistic is None:
        weights = random.multinomial(len(samples), np.full(len(samples), 1 / len(samples)), resamples) / len(samples)
        estimates = weights @ np.asarray(samples, np.float64)
        value = float(np.mean(samples, dtype=np.float64))
    else:
        places = random.integers(0, len(samples), (resamples, len(samples)))
        estimates = np.array([statistic(samples[each]) for each in places])
        value = statistic(samples)
    low, high = np.quantile(estimates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


def over_resampled(count: int | str, what: str = "images") -> str:
    """Say what an interval of `bootstrap` is over, for samples that are images or something else."""
    return f"{100 * LEVEL:g} % by bootstrap over {count} {what}"


def over_left_out(count: int) -> str:
    """Say what an interval of `jackknife` is over."""
    return f"{100 * LEVEL:g} % by the jackknife over {count} images"


def over_images(
    values: np.ndarray,
    random: np.random.Generator,
    statistic: Callable[[np.ndarray], float] | None = None,
) -> tuple[Interval, str]:
    """Estimate a statistic of a value of each image (None: their mean), and say what the interval is.

    Of fewer than 8 images, it is the range of single ones: resampling so few understates what others would give.
    """
    if len(values) >= FEWEST_TO_RESAMPLE:
        return bootstrap(values, random, statistic), over_resampled(len(values))
    estimate = statistic if statistic is not None else lambda part: float(np.mean(part))
    if len(values) == 1:
        return Interval.unknown(estimate(values)), "none of 1 image"
    alone = [estimate(values[place : place + 1]) for place in range(len(values))]
    ends = float(np.min(alone)), float(np.max(alone))  # NaN of any is NaN
    return Interval(estimate(values), *ends), f"range of {len(values)} images"


def spread(values: np.ndarray) -> Interval:
    """Return the median of a few repetitions, and their range."""
    if len(values) == 1:
        return Interval.unknown(float(values[0]))
    return Interval(float(np.median(values)), float(np.min(values)), float(np.max(values)))


def jackknife(
    groups: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values (K,) of a statistic of all N samples, and the low and high ends of their 95 % intervals.

    Each group of samples is left out in turn (Quenouille 1956; Tukey 1958), and no sample comes twice, as it does in a
    bootstrap: distances between samples would be lost. On average the variance is not understated (Efron
    and Stein 1981). groups: (N,), the group of each, from 0. statistic: maps (N,) bool, the samples that stay, to (K,).
    """
    count = int(groups.max()) + 1
    value = statistic(np.ones(len(groups), bool))
    without = np.stack([statistic(groups != group) for group in range(count)])
    deviation = np.sqrt((count - 1) / count * np.square(without - without.mean(axis=0)).sum(axis=0))
    reach = stats.t.ppf((1 + LEVEL) / 2, count - 1) * deviation
    return value, value - reach, value + reach


def groups_of(count: int, random: np.random.Generator, most: int = GROUPS) -> np.ndarray:
    """Deal `count` samples out at random to groups of equal size, for `jackknife`: (count,)."""
    return random.permutation(count) % min(most, count)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation; NaN where one of them is constant."""
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's correlation of ranks; NaN where one of them is constant."""
    return float(stats.spearmanr(x, y).statistic)
