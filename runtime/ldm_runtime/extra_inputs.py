"""Inputs of a denoiser besides latents, timestep and context, each made by the rule that the contract names."""

import numpy as np

from ldm_runtime.package.manifest import Contract


def extra_inputs(contract: Contract, width: int, height: int, pooled: np.ndarray) -> dict[str, np.ndarray]:
    """Make the extra inputs for images of width x height pixels: input -> float32 (rows of `pooled`, N).

    "pooled_text" is `pooled` (B, P), with guidance those of the negative prompts first (2B, P). "image_sizes" is what
    diffusers' `_get_add_time_ids` makes where no other sizes are given: (height, width) of the original, (0, 0) for
    its crop, (height, width) of the image.
    """
    sizes = np.array([height, width, 0, 0, height, width], np.float32)
    made = {"pooled_text": pooled, "image_sizes": np.tile(sizes, (len(pooled), 1))}
    return {name: made[rule] for name, rule in contract.denoiser.extra.items()}
