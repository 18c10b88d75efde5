"""The images of an analysis under their captions, without a text, and under others, at each noise level.

For each image, at each level, the denoiser predicts the same noise without a text, with the caption, with that of
another image, and with the caption less a part or a word, and with a part alone.
"""

from collections.abc import Sequence

import numpy as np

from ldm_export.analyze.caption_errors import CaptionErrors, other_captions, text_errors
from ldm_export.analyze.denoiser import Denoiser, log_snr, noise_levels
from ldm_export.analyze.study import Study
from ldm_export.analyze.units import BIT
from ldm_runtime.sampling.solvers.rows import Level

LEVELS, QUICK_LEVELS, FEWEST_LEVELS = 16, 8, 8
PAIRS = 1  # of draws of noise


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
        random = study.random(f"text noise {number}")
        name = study.pictures.files[number]
        return text_errors(denoiser, study.latents[number], texts, levels, PAIRS, random, name)[None]

    found = study.in_blocks("text errors", numbers, 1, errors) / BIT  # (N, 3, K, L)
    return CaptionErrors(numbers, levels, log_snr(levels), found[:, 0] - found[:, 0, :1], found[:, 1])
