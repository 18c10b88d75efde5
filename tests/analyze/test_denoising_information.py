"""Information by errors of the best denoisers of Gaussians, where it is known in closed form."""

import math

import numpy as np
import pytest

from ldm_export.analyze.denoising_information import (
    beyond,
    integrated,
    integrated_deviation,
    middle,
    opposite_pairs,
    prediction_errors,
)
from ldm_runtime.sampling.solvers.rows import Level, level_of_ratio

DIMENSIONS, LEFT = 6, 0.25  # LEFT: variance of the clean latents that the text leaves, of 1


def levels_at(log_snr: np.ndarray) -> list[Level]:
    return [level_of_ratio(0.0, math.exp(-each / 2)) for each in log_snr]


def best_prediction(z: np.ndarray, level: Level, mean: np.ndarray, variance: float) -> np.ndarray:
    """The noise that is expected of z = alpha x + sigma e where x is N(mean, variance)."""
    gain = level.alpha * variance / (level.alpha**2 * variance + level.sigma**2)
    clean = mean + gain * (z - level.alpha * mean)
    return np.asarray((z - level.alpha * clean) / level.sigma)


def measured(log_snr: np.ndarray, count: int, *, wrong: bool = False, overshoot: float = 1.0):
    """Errors with the text and without, (images, 2, L) each: error and squared distance."""
    random = np.random.default_rng(0)
    shape = (DIMENSIONS, 1, 1)
    texts = math.sqrt(1 - LEFT) * random.standard_normal((count, *shape))
    found = []
    for text in texts:
        latents = text + math.sqrt(LEFT) * random.standard_normal(shape)
        read = -text if wrong else text

        def predict(z: np.ndarray, level: Level, read: np.ndarray = read) -> np.ndarray:
            half = len(z) // 2
            without = best_prediction(z[half:], level, np.zeros(shape), 1.0)
            told = best_prediction(z[:half], level, read, LEFT)
            return np.concatenate([without + overshoot * (told - without), without])

        each = prediction_errors(predict, latents, 2, levels_at(log_snr), random, 1)
        found.append(each.stacked()[:2])
    errors = np.array(found)
    return errors[:, 0, 1] - errors[:, 0, 0], errors[:, 1, 1]


def test_gaussian_information_by_both_forms() -> None:
    log_snr = np.linspace(-10, 10, 41)
    known = 0.5 * DIMENSIONS * math.log(1 / LEFT)
    gain, distance = measured(log_snr, 400)
    for density, tolerance in ((gain, 0.06), (distance, 0.03)):
        assert integrated(log_snr, density.mean(axis=0)) == pytest.approx(known, rel=tolerance)


def test_a_wrong_text_does_harm() -> None:
    gain, distance = measured(np.linspace(-10, 10, 21), 100, wrong=True)
    assert integrated(np.linspace(-10, 10, 21), gain.mean(axis=0)) < -5
    assert distance.min() >= 0


def test_forms_differ_where_a_denoiser_is_not_the_best() -> None:
    log_snr = np.linspace(-10, 10, 21)
    gain, distance = (integrated(log_snr, each.mean(axis=0)) for each in measured(log_snr, 200, overshoot=2.0))
    assert gain < 0.2 * distance  # twice too far is as bad as not at all
    assert 0.5 * (gain / distance + 1) == pytest.approx(0.5, abs=0.05)


def test_what_lies_beyond_the_noisiest_level() -> None:
    """There errors of the noise differ by (1 - LEFT) SNR for each number."""
    log_snr = np.linspace(-20, -4, 400)
    density = DIMENSIONS * (1 - LEFT) * np.exp(log_snr)
    assert beyond(density[None, -1:])[0] == pytest.approx(integrated(log_snr, density), rel=0.01)


def test_the_middle_halves_the_area() -> None:
    log_snr = np.linspace(-4, 4, 9)
    even = np.ones(9)
    assert middle(log_snr, even) == pytest.approx(0)
    assert middle(log_snr, np.where(log_snr > 0, even, 0)) == pytest.approx(2.25, abs=0.01)
    assert middle(log_snr, -even) is None


def test_the_deviation_of_an_integral() -> None:
    random = np.random.default_rng(0)
    log_snr, variance = np.array([-4.0, -1.0, 0.0, 3.0]), np.array([1.0, 4.0, 0.5, 2.0])
    drawn = integrated(log_snr, random.standard_normal((20_000, 4)) * np.sqrt(variance))
    assert integrated_deviation(log_snr, variance) == pytest.approx(drawn.std(), rel=0.02)


def test_pairs_are_opposite() -> None:
    pairs = opposite_pairs(np.random.default_rng(0), 3, (2, 4, 4))
    assert pairs.shape == (6, 2, 4, 4) and np.array_equal(pairs[:3], -pairs[3:])


def test_the_variance_over_pairs() -> None:
    """The squared error of a prediction of nothing, above that of the noise itself, has the variance of chi-squared."""
    truth = {}

    def predict(z: np.ndarray, level: Level) -> np.ndarray:
        half = len(z) // 2
        truth["noise"] = z[half:] / level.sigma
        return np.concatenate([truth["noise"], np.zeros_like(z[half:])])

    latents, pairs = np.zeros((50, 1, 1), np.float32), 200
    errors = prediction_errors(predict, latents, 2, levels_at(np.array([0.0])), np.random.default_rng(0), pairs)
    assert errors.error[0, 0] < 1e-6 and errors.error[1, 0] == pytest.approx(50, rel=0.05)
    assert errors.variance[1, 0] == pytest.approx(2 * 50 / pairs, rel=0.3)
