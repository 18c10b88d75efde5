"""Information between images and texts from the errors of a denoiser (Kong et al. 2023, arXiv 2310.07972). In nats.

For latents x with noise z = alpha x + sigma e of log-SNR l, and the best denoiser there is,

    I(x; y) = 1/2 ∫ E|e - e(z)|² - E|e - e(z, y)|² dl = 1/2 ∫ E|e(z) - e(z, y)|² dl

(Guo, Shamai and Verdu 2005). The two forms agree for the best denoisers alone, so that their difference tells how far
a network is from those. The first is a difference of two upper bounds, and no bound itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ldm_runtime.sampling.solvers.rows import Level

# Latents with noise (K * S, C, h, w), those of one condition after the other, at a level -> noise of that shape.
Predict = Callable[[np.ndarray, Level], np.ndarray]


@dataclass(frozen=True)
class Errors:
    """Of one image under K conditions at L levels, summed over its latents and averaged over draws of noise.

    error: (K, L), the squared error of the predicted noise. distance: (K, L), the squared distance from what is
    predicted under the first condition. variance: (K, L), of the mean over draws of the error above that of the first.
    """

    error: np.ndarray
    distance: np.ndarray
    variance: np.ndarray

    def stacked(self) -> np.ndarray:
        return np.stack([self.error, self.distance, self.variance])


def opposite_pairs(random: np.random.Generator, pairs: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw noise and its opposite, (2 * pairs, …): what is linear in the noise cancels out in their mean."""
    drawn = random.standard_normal((pairs, *shape), np.float32)
    return np.concatenate([drawn, -drawn])


def prediction_errors(
    predict: Predict,
    latents: np.ndarray,
    conditions: int,
    levels: Sequence[Level],
    random: np.random.Generator,
    pairs: int,
) -> Errors:
    """Measure the errors of one image's latents (C, h, w); all conditions see the same noise."""
    error, distance, variance = (np.empty((conditions, len(levels))) for _ in range(3))
    for place, level in enumerate(levels):
        noise = opposite_pairs(random, pairs, latents.shape)
        noised = np.float32(level.alpha) * latents + np.float32(level.sigma) * noise
        predicted = predict(np.tile(noised, (conditions, 1, 1, 1)), level)
        predicted = predicted.reshape(conditions, len(noise), -1).astype(np.float64)
        squared = np.square(predicted - noise.reshape(1, len(noise), -1)).sum(axis=2)  # (K, S)
        error[:, place] = squared.mean(axis=1)
        distance[:, place] = np.square(predicted - predicted[:1]).sum(axis=2).mean(axis=1)
        means = (squared - squared[:1]).reshape(conditions, 2, pairs).mean(axis=1)  # of a noise and its opposite
        variance[:, place] = means.var(axis=1, ddof=1) / pairs if pairs > 1 else np.nan
    return Errors(error, distance, variance)


def integrated(log_snr: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Return 1/2 ∫ density dl of densities (…, L) at increasing log-SNR (L,), by the trapezoidal rule."""
    return np.asarray(0.5 * np.trapezoid(density, log_snr, axis=-1))


def integrated_deviation(log_snr: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the standard deviation of `integrated` for independent densities of these variances (…, L)."""
    steps = np.diff(log_snr)
    weights = 0.25 * (np.append(steps, 0) + np.insert(steps, 0, 0))
    return np.asarray(np.sqrt((weights**2 * variance).sum(axis=-1)))


def beyond(density: np.ndarray) -> np.ndarray:
    """Estimate 1/2 ∫ density dl from the noisiest level to pure noise, of densities (…, L).

    There the denoiser knows nothing but the text, so that the errors of the clean latents no longer change, and those
    of the noise fall like the SNR, whose integral from nothing is its value at the level.
    """
    return np.asarray(0.5 * density[..., 0])


def middle(log_snr: np.ndarray, density: np.ndarray) -> float | None:
    """Return the log-SNR below which half of a density's integral lies; None if that is not positive."""
    steps = np.diff(log_snr) * 0.5 * (density[1:] + density[:-1])
    sums = np.insert(np.cumsum(np.maximum(steps, 0)), 0, 0)
    if not density.size or steps.sum() <= 0:
        return None
    return float(np.interp(0.5 * sums[-1], sums, log_snr))
