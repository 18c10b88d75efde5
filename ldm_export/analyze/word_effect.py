"""Where words change the image that a denoiser expects: a map in pixels, of any model, without gradients.

At a noise level the clean latents are predicted twice, with a caption and without some of its words, and both are
decoded. The map is the size of the difference at each pixel. Its resolution is the decoder's, not a feature map's.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ldm_export.analyze.denoiser import Condition
from ldm_runtime.sampling.solvers.rows import Level, data_weights

Decode = Callable[[np.ndarray], np.ndarray]


class Predicts(Protocol):
    """A denoiser, whose output means what `prediction_type` says."""

    def output(self, x: np.ndarray, timestep: float, condition: Condition) -> np.ndarray: ...


def expected_image(
    denoiser: Predicts, decode: Decode, prediction_type: str, noised: np.ndarray, level: Level, condition: Condition
) -> np.ndarray:
    """Return the image that is expected of latents with noise (1, C, h, w): (3, H, W) in [-1, 1]."""
    output = denoiser.output(noised, level.timestep, condition)
    own, predicted = data_weights(prediction_type, level, 1.0)
    clean = np.asarray(own * noised + predicted * output, np.float32)
    return np.clip(decode(clean)[0], -1, 1)


def effect_maps(
    denoiser: Predicts,
    decode: Decode,
    prediction_type: str,
    latents: np.ndarray,
    noise: np.ndarray,
    levels: Sequence[Level],
    conditions: tuple[Condition, Condition],
) -> np.ndarray:
    """Return where an image expected under one condition differs from that under another: RMS over colours, (L, H, W).

    latents, noise: clean ones and what is added to them, (C, h, w) both.
    """
    found = []
    for level in levels:
        noised = (np.float32(level.alpha) * latents + np.float32(level.sigma) * noise)[None]
        one, other = (expected_image(denoiser, decode, prediction_type, noised, level, each) for each in conditions)
        found.append(np.sqrt(np.square(one - other).mean(axis=0)))
    return np.stack(found)
