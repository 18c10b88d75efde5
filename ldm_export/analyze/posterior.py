"""The latents of images as distributions."""

import numpy as np

from ldm_export.errors import AnalysisError
from ldm_runtime.package.manifest import LOG_VARIANCE, LatentSpec


def require_variation(latents: np.ndarray) -> None:
    """Raise AnalysisError if all images have the same latents, (N, C, h, w)."""
    if float(np.ptp(latents, axis=0).max()) == 0:
        raise AnalysisError(
            f"all {len(latents)} images have the same latents, so there is nothing to measure; give images that "
            "differ, or look at the encoder"
        )


def posterior(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the unscaled latents, float64 (N, C, h, w) both, of moments (N, 2C, h, w)."""
    mean, log_variance = np.split(moments.astype(np.float64), 2, axis=1)
    return mean, np.exp(np.clip(log_variance, *LOG_VARIANCE))


def drawn_latents(moments: np.ndarray, space: LatentSpec, random: np.random.Generator) -> np.ndarray:
    """Return a draw of each image's latents as the denoiser learns from, float64 (N, C, h, w).

    moments: (N, 2C, h, w), or of an encoder that gives latents alone these, (N, C, h, w).
    """
    if moments.shape[1] == space.channels:
        return np.asarray(space.scaled(moments), np.float32).astype(np.float64)
    mean, variance = posterior(moments)
    drawn = mean + np.sqrt(variance) * random.standard_normal(mean.shape)
    return np.asarray(space.scaled(drawn))
