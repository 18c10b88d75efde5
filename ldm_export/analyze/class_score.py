"""The score exp(E KL(p(y|x) || p(y))) of images by a classifier; with Inception, the IS (Salimans et al. 2016).

It is the exponential of the information between an image and its predicted class: 1 where every image gets the same
answer, the number of classes where each is sure and all come up as often.
"""

import numpy as np

from ldm_export.analyze.statistics import NORMAL_95, Interval

TINY = 1e-300
CEILING = 0.99  # of log N: from there on each image is alone in its class, and the score is the number of images


def class_score(probabilities: np.ndarray) -> float:
    """Return the score of images' class probabilities (N, K)."""
    return float(np.exp(_information(_entropies(probabilities), probabilities.mean(axis=0))))


def class_score_interval(probabilities: np.ndarray) -> Interval:
    """Return the score with its 95 % interval by the jackknife (each image left out in turn) of its logarithm.

    Resampling would count images twice, and lower the score.
    """
    count = len(probabilities)
    entropies, total = _entropies(probabilities), probabilities.sum(axis=0)
    value = _information(entropies, total / count)
    without = np.array(
        [
            _information(np.delete(entropies, place), (total - probabilities[place]) / (count - 1))
            for place in range(count)
        ]
    )
    error = NORMAL_95 * np.sqrt((count - 1) * np.mean((without - without.mean()) ** 2))
    return Interval(float(np.exp(value)), float(np.exp(value - error)), float(np.exp(value + error)))


def is_at_ceiling(score: float, count: int) -> bool:
    """Return whether a score of so many images says no more than their number."""
    return bool(np.log(score) >= CEILING * np.log(count))


def _entropies(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(-(probabilities * np.log(np.maximum(probabilities, TINY))).sum(axis=-1))


def _information(entropies: np.ndarray, mean: np.ndarray) -> float:
    return float(_entropies(mean) - entropies.mean())
