"""Inputs of a denoiser besides latents, timestep and context, each made by the rule that the contract names."""

import numpy as np

from ldm_runtime.package.manifest import Contract
from ldm_runtime.request_sizes import ImageSizes


def extra_inputs(contract: Contract, sizes: ImageSizes, pooled: np.ndarray) -> dict[str, np.ndarray]:
    """Make the extra inputs: input -> float32 (rows of `pooled`, N).

    "pooled_text" is `pooled` (B, P), with guidance those of the negative prompts first (2B, P). "image_sizes" is the
    same for all rows.
    """
    made = {"pooled_text": pooled, "image_sizes": np.tile(sizes.row(), (len(pooled), 1))}
    return {name: made[rule] for name, rule in contract.denoiser.extra.items()}
