"""The latents of the images as distributions."""

import numpy as np

from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_runtime.package.manifest import LOG_VARIANCE


def require_variation(study: Study) -> None:
    """Raise AnalysisError if all images have the same latents."""
    if float(np.ptp(study.latents, axis=0).max()) == 0:
        raise AnalysisError(
            f"all {len(study.latents)} images have the same latents, so there is nothing to measure; give images that "
            "differ, or look at the encoder"
        )


def posterior(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the unscaled latents, float64 (N, C, h, w) both; of an encoder that gives moments."""
    mean, log_variance = np.split(study.moments.astype(np.float64), 2, axis=1)
    return mean, np.exp(np.clip(log_variance, *LOG_VARIANCE))


def drawn_latents(study: Study, random: np.random.Generator) -> np.ndarray:
    """Return a draw of each image's latents as the denoiser learns from, float64 (N, C, h, w)."""
    if not study.subject.contract.encodes_moments:
        return study.latents.astype(np.float64)
    mean, variance = posterior(study)
    drawn = mean + np.sqrt(variance) * random.standard_normal(mean.shape)
    return np.asarray(study.subject.contract.latent.scaled(drawn))
