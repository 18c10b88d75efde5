"""The denoiser's errors on an image under several texts, at each noise level, and which texts those are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.denoiser import Denoiser
from ldm_export.analyze.denoising_information import prediction_errors
from ldm_export.errors import AnalysisError
from ldm_runtime.sampling.solvers.rows import Level

NONE, OTHER = 1, 2  # conditions of every image, after its own caption; others follow


@dataclass(frozen=True)
class CaptionErrors:
    """Densities of N images over L levels, in bits for each unit of log-SNR, of K conditions: (N, K, L).

    gain: the squared error under a condition above that with the caption. distance: the squared distance of the two
    predictions. numbers: of the images, (N,). levels, log_snr: (L,).
    """

    numbers: list[int]
    levels: Sequence[Level]
    log_snr: np.ndarray
    gain: np.ndarray
    distance: np.ndarray


def other_captions(captions: Sequence[str]) -> list[str]:
    """Return for each image another one's caption that differs: half the folder on, or the next after that."""
    count = len(captions)
    found = []
    for place, caption in enumerate(captions):
        candidates = (captions[(place + count // 2 + step) % count] for step in range(count))
        found.append(next((each for each in candidates if each != caption), ""))
    return found


def text_errors(
    denoiser: Denoiser,
    latents: np.ndarray,
    texts: Sequence[str],
    levels: Sequence[Level],
    pairs: int,
    random: np.random.Generator,
    name: str,
) -> np.ndarray:
    """Return the errors of an image's latents (C, h, w) under each text, (3, K, L): those of `Errors.stacked`.

    A text that is there twice is evaluated once. Raises AnalysisError, which names the image, for NaN or infinity.
    """
    unique = list(dict.fromkeys(texts))
    condition = denoiser.condition(unique).repeated(2 * pairs)
    errors = prediction_errors(
        lambda x, level: denoiser.noise(x, level, condition), latents, len(unique), levels, random, pairs
    )
    if not np.isfinite(errors.error).all():
        raise AnalysisError(f"the denoiser predicts NaN or infinity for {name} in noise")
    return errors.stacked()[:, [unique.index(text) for text in texts]]
