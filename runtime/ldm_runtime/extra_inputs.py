"""Inputs of a denoiser besides latents, timestep and context, each made by the rule that the contract names."""

import numpy as np

from ldm_runtime.package.manifest import Contract, ExtraRule
from ldm_runtime.request_sizes import ImageSizes

MAX_FREQUENCY_RATIO = 10000.0


def extra_inputs(contract: Contract, sizes: ImageSizes, pooled: np.ndarray, guidance: float) -> dict[str, np.ndarray]:
    """Make the extra inputs: input -> float32 (rows of `pooled`, N).

    "pooled_text" is `pooled` (B, P), with guidance those of the negative prompts first (2B, P). The others are the same
    for all rows.
    """

    def make(name: str, rule: ExtraRule) -> np.ndarray:
        if rule == "pooled_text":
            return pooled
        if rule == "image_sizes":
            row = sizes.row()
        else:
            (size,) = contract.tensor(contract.denoiser.component, name).dims[1:]
            row = guidance_embedding(guidance, int(size))
        return np.tile(row, (len(pooled), 1))

    return {name: make(name, rule) for name, rule in contract.denoiser.extra.items()}


def guidance_embedding(guidance: float, width: int) -> np.ndarray:
    """Embed a guidance scale as diffusers' `get_guidance_scale_embedding` does, rounding included: float32 (width,).

    The angles go to thousands, so the last bit of a frequency counts: every step is rounded to float32 as there.
    """
    half = width // 2
    step = np.float32(np.log(MAX_FREQUENCY_RATIO)) / np.float32(half - 1)
    exponents = np.arange(half, dtype=np.float32) * -step
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = np.float32(guidance - 1.0) * np.float32(1000.0) * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)])
