"""The images of an analysis under their captions, without a text, and under others, at each noise level.

For each image, at each level, the denoiser predicts the same noise without a text, with the caption, with that of
another image, and with the caption less a part or a word, and with a part alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.caption_errors import OTHER, CaptionErrors, other_captions, text_errors
from ldm_export.analyze.denoiser import Denoiser, log_snr, noise_levels
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections.work_budget import WorkBudget, shown_work
from ldm_export.analyze.statistics import FEWEST_TO_RESAMPLE
from ldm_export.analyze.study import Study
from ldm_export.analyze.units import BIT

LEVELS, QUICK_LEVELS, FEWEST_LEVELS = 16, 8, 8
IMAGES, QUICK_IMAGES, FEWEST_IMAGES = 48, 10, 4
PAIRS = 1  # of draws of noise
WHOLE = OTHER + 1  # texts of an image without those of parts: its caption, none, another one's
SHARE = 0.6  # of the budget


@dataclass(frozen=True)
class CaptionRuns:
    """How many images and noise levels are measured. lacking: why parts of captions are not; "" where they are."""

    images: int
    levels: int
    lacking: str


def plan_captions(study: Study, budget: WorkBudget, part_texts: int) -> CaptionRuns:
    """Choose as many levels and images as fit the budget: the levels first, for as many images as a bootstrap takes.

    part_texts: texts of an image that are of parts of its caption. They are measured of so many images, or not at all.
    """
    captions = len(study.pictures.captions)
    enough, fewest = (min(captions, each) for each in (FEWEST_TO_RESAMPLE, FEWEST_IMAGES))
    each = 2 * PAIRS * budget.denoiser  # of a text at a level
    with_parts = enough * FEWEST_LEVELS * (WHOLE + part_texts) * each
    lacking = budget.lacking(f"{enough} images", with_parts, SHARE) if part_texts else ""
    level = (WHOLE if lacking else WHOLE + part_texts) * each  # of an image
    levels = budget.runs("noise levels", study.scaled(LEVELS, QUICK_LEVELS), enough * level, SHARE, FEWEST_LEVELS)
    wanted = min(captions, study.scaled(IMAGES, QUICK_IMAGES))
    return CaptionRuns(budget.runs("captions", wanted, levels * level, SHARE, fewest), levels, lacking)


def measure_captions(study: Study, runs: CaptionRuns, parts: Sequence[Sequence[str]]) -> CaptionErrors:
    """Measure images of the folder without text, with another's caption, and with each image's text of `parts`."""
    captions = study.pictures.captions
    levels = noise_levels(study.subject.contract.schedule, runs.levels)
    order = study.random("text images").permutation(len(captions))  # folders are often sorted by kind
    numbers = sorted(order[: runs.images].tolist())
    denoiser, others = Denoiser(study.subject), other_captions(captions)

    def errors(part: Sequence[int]) -> np.ndarray:
        (number,) = part
        texts = [captions[number], "", others[number], *(each[number] for each in parts)]
        random = study.random(f"text noise {number}")
        name = study.pictures.files[number]
        return text_errors(denoiser, study.latents[number], texts, levels, PAIRS, random, name)[None]

    found = study.in_blocks("text errors", numbers, 1, errors) / BIT  # (N, 3, K, L)
    return CaptionErrors(numbers, levels, log_snr(levels), found[:, 0] - found[:, 0, :1], found[:, 1])


def say_few(findings: Findings, runs: CaptionRuns, budget: WorkBudget) -> None:
    """Say what intervals of few images are, and what as many as a bootstrap takes would be."""
    if runs.images >= FEWEST_TO_RESAMPLE:
        return
    enough = FEWEST_TO_RESAMPLE * runs.levels * WHOLE * 2 * PAIRS * budget.denoiser
    findings.sentences.append(
        f"What whole captions tell was measured on {runs.images} images, so its intervals are the range of single "
        f"images, and rough: a bootstrap takes {FEWEST_TO_RESAMPLE}, which would be {shown_work(enough)}."
    )
