"""Images that the model draws of the captions of the images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.study import Study, levels
from ldm_runtime.sampling.plan import compile_plan

BLOCK = 8
FIRST_SEED = 1_000_000
FEWEST_SHOWN = 2


@dataclass(frozen=True)
class Drawn:
    """What was drawn. places: of the images whose captions it was, (n,). images: uint8 (n, H, W, 3).

    lacking: why they are no set; "" where they are.
    """

    places: np.ndarray
    images: np.ndarray
    lacking: str


def no_images(study: Study, lacking: str) -> Drawn:
    """Return what was drawn where nothing can be."""
    return Drawn(np.zeros(0, int), np.zeros((0, *study.pictures.pixels.shape[1:]), np.uint8), lacking)


def image_work(study: Study, budget: WorkBudget) -> float:
    """Return the multiply-accumulates of an image that is drawn with the model's defaults."""
    contract, defaults = study.subject.contract, study.subject.contract.defaults
    rows = len(compile_plan(contract.schedule, defaults.parsed_sampler, defaults.steps).rows)
    both = 2 if contract.evaluates_negative(defaults.guidance) else 1
    return rows * both * budget.denoiser + budget.decoder


def count_drawn(study: Study, budget: WorkBudget, wanted: int, fewest: int, shown: int) -> tuple[int, str]:
    """Return how many images are drawn, and why they are no set; "" where they are, or where no set was wanted.

    As many as fit the budget, or where that is fewer than a set takes, a few to be shown. fewest: images of a set.
    shown: the most that are shown.
    """
    each = image_work(study, budget)
    lacking = budget.lacking(f"{fewest} drawn images", fewest * each, 1.0) if wanted >= fewest else ""
    least = FEWEST_SHOWN if lacking or wanted < fewest else fewest
    return budget.runs("drawn images", min(wanted, shown) if lacking else wanted, each, 1.0, least), lacking


def draw_captions(study: Study, places: Sequence[int]) -> np.ndarray:
    """Draw an image of each caption with the model's defaults, uint8 (N, H, W, 3). The seed is the image's place."""

    def draw(part: Sequence[int]) -> np.ndarray:
        run = study.subject.pipe.sample(
            [study.pictures.captions[place] for place in part], seed=[FIRST_SEED + place for place in part]
        )
        *_, last = run
        return levels(last.decode())

    return study.in_blocks("drawn images", list(places), study.at_once(BLOCK), draw)
