"""The score exp(E KL(p(y|x) || p(y))) of images by a classifier; with Inception, the IS (Salimans et al. 2016).

It is the exponential of the information between an image and its predicted class: 1 where every image gets the same
answer, the number of classes where each is sure and all come up as often.
"""

import numpy as np

from ldm_export.analyze.statistics import Interval, jackknife

TINY = 1e-300
CEILING = 0.99  # of log N: from there on each image is alone in its class, and the score is the number of images


def class_score(probabilities: np.ndarray) -> float:
    """Return the score of images' class probabilities (N, K)."""
    return float(np.exp(_information(_entropies(probabilities), probabilities.mean(axis=0))))


def class_score_interval(probabilities: np.ndarray) -> Interval:
    """Return the score with its 95 % interval by the jackknife (each image left out in turn) of its logarithm.

    Resampling would count images twice, and lower the score.
    """
    entropies = _entropies(probabilities)

    def logarithm(kept: np.ndarray) -> np.ndarray:
        return np.array([_information(entropies[kept], probabilities[kept].mean(axis=0))])

    ends = jackknife(np.arange(len(probabilities)), logarithm)
    return Interval(*(float(np.exp(each[0])) for each in ends))


def is_at_ceiling(score: float, count: int) -> bool:
    """Return whether a score of so many images says no more than their number."""
    return bool(np.log(score) >= CEILING * np.log(count))


def _entropies(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(-(probabilities * np.log(np.maximum(probabilities, TINY))).sum(axis=-1))


def _information(entropies: np.ndarray, mean: np.ndarray) -> float:
    return float(_entropies(mean) - entropies.mean())
