"""The denoiser's errors on images under their captions, without a text, and under others, at each noise level.

For each image, at each level, the denoiser predicts the same noise without a text, with the caption, with that of
another image, and with the caption less a part or a word, and with a part alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.denoiser import Denoiser, log_snr, noise_levels
from ldm_export.analyze.denoising_information import prediction_errors
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_runtime.sampling.solvers.rows import Level

BIT = math.log(2)  # nats
FULL, NONE, OTHER = range(3)  # conditions of every image; others follow
LEVELS, QUICK_LEVELS, FEWEST_LEVELS = 16, 8, 8
PAIRS = 1  # of draws of noise


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


def levels_of(study: Study) -> list[Level]:
    """Return the levels at which errors are measured, the noisiest first."""
    return noise_levels(study.subject.contract.schedule, study.scaled_by_size(LEVELS, QUICK_LEVELS, FEWEST_LEVELS))


def measure_captions(study: Study, parts: Sequence[Sequence[str]]) -> CaptionErrors:
    """Measure images of the folder without text, with another's caption, and with each image's text of `parts`."""
    captions = study.pictures.captions
    levels = levels_of(study)
    order = study.random("text images").permutation(len(captions))  # folders are often sorted by kind
    numbers = sorted(order[: study.scaled_by_size(48, 10, 8)].tolist())
    denoiser, others = Denoiser(study.subject), other_captions(captions)

    def errors(part: Sequence[int]) -> np.ndarray:
        (number,) = part
        texts = [captions[number], "", others[number], *(each[number] for each in parts)]
        return text_errors(study, denoiser, number, texts, levels, PAIRS, "text noise")[None]

    found = study.in_blocks("text errors", numbers, 1, errors) / BIT  # (N, 3, K, L)
    return CaptionErrors(numbers, levels, log_snr(levels), found[:, 0] - found[:, 0, :1], found[:, 1])


def other_captions(captions: Sequence[str]) -> list[str]:
    """Return for each image another one's caption that differs: half the folder on, or the next after that."""
    count = len(captions)
    found = []
    for place, caption in enumerate(captions):
        candidates = (captions[(place + count // 2 + step) % count] for step in range(count))
        found.append(next((each for each in candidates if each != caption), ""))
    return found


def text_errors(
    study: Study,
    denoiser: Denoiser,
    number: int,
    texts: Sequence[str],
    levels: Sequence[Level],
    pairs: int,
    name: str,
) -> np.ndarray:
    """Return the errors of an image under each text, (3, K, L); a text that is there twice is evaluated once."""
    unique = list(dict.fromkeys(texts))
    condition = denoiser.condition(unique).repeated(2 * pairs)
    errors = prediction_errors(
        lambda x, level: denoiser.noise(x, level, condition),
        study.latents[number],
        len(unique),
        levels,
        study.random(f"{name} {number}"),
        pairs,
    )
    if not np.isfinite(errors.error).all():
        raise AnalysisError(f"the denoiser predicts NaN or infinity for {study.pictures.files[number]} in noise")
    return errors.stacked()[:, [unique.index(text) for text in texts]]
