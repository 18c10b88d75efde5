"""Images that the model draws of the captions of the images."""

from collections.abc import Sequence

import numpy as np

from ldm_export.analyze.study import Study, levels

BLOCK = 8
FIRST_SEED = 1_000_000


def draws_from_text(study: Study) -> bool:
    """Return whether images can be drawn of captions: there are some, and the model needs no image to start from."""
    return bool(study.pictures.captions) and not study.subject.contract.inpaints


def draw_captions(study: Study, places: Sequence[int]) -> np.ndarray:
    """Draw an image of each caption with the model's defaults, uint8 (N, H, W, 3). The seed is the image's place."""

    def draw(part: Sequence[int]) -> np.ndarray:
        run = study.subject.pipe.sample(
            [study.pictures.captions[place] for place in part], seed=[FIRST_SEED + place for place in part]
        )
        *_, last = run
        return levels(last.decode())

    return study.in_blocks("drawn images", list(places), study.at_once(BLOCK), draw)
